"""Weights in and out: official files, the port to diffusers and our own, every key accounted for.

Nothing in a file is ever executed: pickles are read by torch's restricted reader, and the few foreign types that the
published files hold beside their tensors become empty stand-ins.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from instdiff import atomic
from instdiff.checkpoints import key_tables
from instdiff.formats import RELEASED
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig

Weights = Mapping[str, Tensor]

OFFICIAL_UNIFUSION = UniFusionConfig(
    **RELEASED.model_dump(),
    text_width=768,
    token_width=768,
    hidden_width=3072,
    mask_widths=(96, 192, 384, 768),
    mask_depths=(3, 3, 9, 3),
)
SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
SD15_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
_SD_PREFIXES = {
    "unet": "model.diffusion_model.",
    "text_encoder": "cond_stage_model.",
    "vae": "first_stage_model.",
}
_IGNORED_TEXT = frozenset({"transformer.text_model.embeddings.position_ids"})  # 0, 1, 2, ...


class StandIn:
    """Takes the place of a foreign object in a pickle; holds nothing and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...


_STAND_INS = (
    "_codecs.encode",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
    "builtins.tuple",
    "collections.defaultdict",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "typing.Any",
)


def read(path: Path) -> dict[str, Any]:
    """What a .safetensors file or a torch pickle holds, on the CPU; ValueError says why a file is refused."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
    stand_ins: list[Any] = [(StandIn, name) for name in _STAND_INS]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings(action="ignore"):
            mapped = zipfile.is_zipfile(path)  # read as it is used: a released file is larger than most memories
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: refused; not a checkpoint of plain tensors ({_first_line(error)})") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path}: holds a {type(held).__name__}, expected a dictionary of weights")
    return held


def split(held: Mapping[str, Any], source: str) -> dict[str, Weights]:
    """The networks in an official file (`model`/`ema`, ...) or a Stable Diffusion file: unet, vae, text_encoder.

    The averaged weights are taken where there are any. ValueError says what the file seems to be instead.
    """
    if "model" in held or "ema" in held:
        names = {"unet": "ema" if held.get("ema") else "model", "vae": "autoencoder", "text_encoder": "text_encoder"}
        return {ours: _weights(held[theirs], source, theirs) for ours, theirs in names.items() if theirs in held}
    flat = _weights(held["state_dict"], source, "state_dict") if "state_dict" in held else held
    parts: dict[str, Weights] = {
        network: {name.removeprefix(prefix): flat[name] for name in flat if name.startswith(prefix)}
        for network, prefix in _SD_PREFIXES.items()
    }
    if not parts["unet"]:
        raise ValueError(
            f"{source}: neither an InstanceDiffusion nor a Stable Diffusion 1.5 checkpoint; it starts with "
            f"{sorted(map(str, flat))[:3]}"
        )
    return parts


def _weights(part: object, source: str, name: str) -> Weights:
    """The part of a file if it is a dictionary of tensors; ValueError otherwise."""
    if not isinstance(part, Mapping) or not all(isinstance(tensor, Tensor) for tensor in part.values()):
        raise ValueError(f"{source}: {name!r} should hold named tensors and does not")
    return part


def load_unet(unet: UNet2DConditionModel, weights: Weights, source: str, *, port: bool = False) -> None:
    """Official (or port) weights into our UNet or a plain one, strictly: ValueError lists both sides."""
    rename = key_tables.port_unet if port else key_tables.official_unet
    _load(unet, weights, partial(rename, shape=unet_shape(unet)), source)


def load_instance_layers(unet: InstanceUNet, weights: Weights, source: str) -> None:
    """Official weights of UniFusion, fusers and ScaleU alone, strictly."""
    rename = partial(key_tables.official_unet, shape=unet_shape(unet))
    _load(unet, weights, rename, source, names=frozenset(unet.instance_layers()))


def is_instance_layer(name: str) -> bool:
    """Is the official name one of UniFusion, a fuser or ScaleU?"""
    return name.startswith(("position_net.", "scaleu_")) or ".fuser." in name


def load_vae(vae: AutoencoderKL, weights: Weights, source: str) -> None:
    """Official weights into diffusers' VAE, strictly."""
    _load(vae, weights, partial(key_tables.official_vae, num_levels=len(vae.config["block_out_channels"])), source)


def load_text_encoder(text_encoder: nn.Module, weights: Weights, source: str) -> None:
    """Official weights into transformers' CLIP text model, strictly but for the position numbers."""
    _load(text_encoder, {k: v for k, v in weights.items() if k not in _IGNORED_TEXT}, key_tables.official_text, source)


def official(unet: UNet2DConditionModel, *, port: bool = False) -> dict[str, Tensor]:
    """The UNet's weights under official (or port) names."""
    rename = key_tables.port_unet if port else key_tables.official_unet
    shape = unet_shape(unet)
    return {rename(name, shape): tensor for name, tensor in unet.state_dict().items()}


def write_official(unet: InstanceUNet, path: Path) -> None:
    """A file that the released code reads: the UNet's weights under `model`."""
    tensors = {name: tensor.detach().cpu() for name, tensor in official(unet).items()}
    with atomic.file(path) as part:
        torch.save({"model": tensors}, part)


def unet_shape(unet: UNet2DConditionModel) -> key_tables.UNetShape:
    """What the official names depend on."""
    attentive = (number for number, block in enumerate(unet.up_blocks) if hasattr(block, "attentions"))
    return key_tables.UNetShape(len(unet.down_blocks[0].resnets), frozenset(attentive))


def load_released(unet: InstanceUNet, path: Path) -> dict[str, Weights]:
    """Read an official file into the UNet; return the other networks' weights."""
    parts = split(read(path), str(path))
    load_unet(unet, parts.pop("unet"), str(path))
    return parts


def load_gligen_fusers(unet: InstanceUNet, path: Path) -> None:
    """The fusers of a GLIGEN file, official or of diffusers; its base and its tokenizer are left, ours differ."""
    held = read(path)
    weights = _weights(held.get("model", held), str(path), "model")
    fusers = {name: tensor for name, tensor in weights.items() if ".fuser." in name}
    names = frozenset(name for name in unet.instance_layers() if ".fuser." in name)
    official = partial(key_tables.official_unet, shape=unet_shape(unet))
    _load(unet, fusers, official if not names & fusers.keys() else lambda name: name, str(path), names=names)


def _load(
    model: nn.Module, weights: Weights, rename: key_tables.Rename, source: str, names: frozenset[str] | None = None
) -> None:
    """Every weight of the model (or of `names`) from exactly one of the file, kernels of 1 x 1 as matrices."""
    own = {name: tensor for name, tensor in model.state_dict().items() if names is None or name in names}
    theirs_to_ours = key_tables.table(own, rename)
    missing, unknown = theirs_to_ours.keys() - weights.keys(), weights.keys() - theirs_to_ours.keys()
    if missing or unknown:
        raise ValueError(f"{source}: lacks {_some(missing)}; holds, but is not known: {_some(unknown)}")
    shaped = {ours: _matrix(weights[theirs], own[ours]) for theirs, ours in theirs_to_ours.items()}
    wrong = [
        f"{theirs} {tuple(weights[theirs].shape)} instead of {tuple(own[ours].shape)}"
        for theirs, ours in theirs_to_ours.items()
        if shaped[ours].shape != own[ours].shape
    ]
    if wrong:
        raise ValueError(f"{source}: wrong sizes: {_some(wrong)}")
    model.load_state_dict(shaped, strict=names is None, assign=any(tensor.is_meta for tensor in own.values()))


def _matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """A 1 x 1 kernel as the matrix it is, where the model has a matrix."""
    is_kernel = tensor.ndim == 4 and like.ndim == 2 and tensor.shape[2:] == (1, 1)
    return tensor[:, :, 0, 0] if is_kernel else tensor


def _some(names: Iterable[str], most: int = 8) -> str:
    """The names, at most eight of them, and how many there are."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{len(listed)} ({', '.join(listed[:most])}{more})" if listed else "nothing"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
