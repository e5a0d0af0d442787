"""The instance layers as the three files that users of ComfyUI load: fusers, positionnet and scaleu."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instdiff.checkpoints import official as checkpoint
from instdiff.files import atomic
from instdiff.model.unet import InstanceUNet
from instdiff.networks import loading, weight_files

FUSERS, POSITION_NET, SCALE_U = "fusers.ckpt", "positionnet.ckpt", "scaleu.ckpt"
_FUSER = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)\.(?:1\.)?transformer_blocks\.0\.fuser\.(.*)")


def write(unet: InstanceUNet, folder: Path) -> None:
    """Write the three files; the folder appears when it is complete."""
    official = {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.official(unet).items()}
    with atomic.folder(folder) as part:
        torch.save(_fusers(official, int(unet.config["attention_head_dim"])), part / FUSERS)
        torch.save(_without("position_net.", official), part / POSITION_NET)
        torch.save(_scales(official), part / SCALE_U)


def read(folder: Path) -> dict[str, Tensor]:
    """The weights of the three files under official names; ValueError names the file that is not what it should be."""
    weights: dict[str, Any] = {}
    for file, named in ((POSITION_NET, _named_position_net), (SCALE_U, _named_scales), (FUSERS, _named_fusers)):
        content = weight_files.read(folder / file)
        try:
            tensors = named(content)
            loading.refuse_not_finite(tensors, str(folder / file))
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"{folder / file}: not as ComfyUI's users have it") from error
        weights |= tensors
    return weights


def _named_position_net(content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"position_net.{name}": tensor for name, tensor in content.items()}


def _named_scales(content: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_{number}": tensor for number, scales in content.items() for name, tensor in scales.items()}


def _named_fusers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{way}.{number}{'' if way == 'middle_block' else '.1'}.transformer_blocks.0.fuser.{name}": tensor
        for way, blocks in content.items()
        for number, fuser in blocks.items()
        for name, tensor in fuser["state"].items()
    }


def _fusers(official: Mapping[str, Tensor], num_heads: int) -> dict[str, dict[str, Any]]:
    """Sizes and weights of each fuser by way and block number, in the order of the forward pass."""
    ways: dict[str, dict[str, Any]] = {"input_blocks": {}, "middle_block": {}, "output_blocks": {}}
    for name, tensor in official.items():
        if match := _FUSER.fullmatch(name):
            ways[match[1]].setdefault(match[2], {})[match[3]] = tensor
    return {
        way: {
            number: {"params": _sizes(blocks[number], num_heads), "state": blocks[number]} for number in _rising(blocks)
        }
        for way, blocks in ways.items()
    }


def _sizes(state: Mapping[str, Tensor], num_heads: int) -> dict[str, int]:
    channels, token_width = state["linear.weight"].shape
    return {"context_dim": token_width, "n_heads": num_heads, "d_head": channels // num_heads}


def _scales(official: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Both scales of each block by its number."""
    numbers = _rising({name.removeprefix("scaleu_b_") for name in official if name.startswith("scaleu_b_")})
    return {n: {name: official[f"{name}_{n}"] for name in ("scaleu_b", "scaleu_s")} for n in numbers}


def _without(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _rising(numbers: Mapping[str, object] | set[str]) -> list[str]:
    return sorted(numbers, key=int)
