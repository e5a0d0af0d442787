"""The instance layers as the three files that users of ComfyUI load: fusers, positionnet and scaleu."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instdiff import atomic
from instdiff.checkpoints import official as checkpoint
from instdiff.model.unet import InstanceUNet

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
    """The weights of the three files under official names, for `checkpoint.load_instance_layers`."""
    weights = {f"position_net.{name}": tensor for name, tensor in checkpoint.read(folder / POSITION_NET).items()}
    for number, scales in checkpoint.read(folder / SCALE_U).items():
        weights |= {f"{name}_{number}": tensor for name, tensor in scales.items()}
    for way, blocks in checkpoint.read(folder / FUSERS).items():
        for number, fuser in blocks.items():
            place = f"{way}.{number}" if way == "middle_block" else f"{way}.{number}.1"
            weights |= {f"{place}.transformer_blocks.0.fuser.{name}": t for name, t in fuser["state"].items()}
    return weights


def _fusers(official: Mapping[str, Tensor], num_heads: int) -> dict[str, dict[str, Any]]:
    """Sizes and weights of each fuser by way and block number, in the order of the forward pass."""
    ways: dict[str, dict[str, Any]] = {"input_blocks": {}, "middle_block": {}, "output_blocks": {}}
    for name, tensor in official.items():
        if found := _FUSER.fullmatch(name):
            ways[found[1]].setdefault(found[2], {})[found[3]] = tensor
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
