"""Weights under official names (or the port's) into networks and back, every key accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from instdiff.checkpoints import key_tables
from instdiff.files import atomic
from instdiff.layouts.formats import RELEASED
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig
from instdiff.networks import loading, weight_files

Weights = dict[str, Tensor]

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
_IGNORED_TEXT = frozenset({"transformer.text_model.embeddings.position_ids"})  # 0, 1, 2, ...


def load_unet(
    unet: UNet2DConditionModel, weights: Weights, source: str, *, port: bool = False, dtype: torch.dtype | None = None
) -> None:
    """Official (or port) weights into our UNet or a plain one, strictly: ValueError lists both sides."""
    rename = key_tables.port_unet if port else key_tables.official_unet
    _load(unet, weights, partial(rename, shape=unet_shape(unet)), source, dtype=dtype)


def load_base(unet: UNet2DConditionModel, weights: Weights, source: str, dtype: torch.dtype | None = None) -> None:
    """Official weights of all but UniFusion, fusers and ScaleU, strictly."""
    layers = unet.instance_layers() if isinstance(unet, InstanceUNet) else {}
    names = frozenset(unet.state_dict().keys() - layers.keys())
    _load(unet, weights, partial(key_tables.official_unet, shape=unet_shape(unet)), source, names, dtype)


def load_instance_layers(unet: InstanceUNet, weights: Weights, source: str, dtype: torch.dtype | None = None) -> None:
    """Official weights of UniFusion, fusers and ScaleU alone, strictly."""
    rename = partial(key_tables.official_unet, shape=unet_shape(unet))
    _load(unet, weights, rename, source, frozenset(unet.instance_layers()), dtype)


def is_instance_layer(name: str) -> bool:
    """Is the official name one of UniFusion, a fuser or ScaleU?"""
    return name.startswith(("position_net.", "scaleu_")) or ".fuser." in name


def load_vae(vae: AutoencoderKL, weights: Weights, source: str, dtype: torch.dtype | None = None) -> None:
    """Official weights into diffusers' VAE, strictly."""
    rename = partial(key_tables.official_vae, num_levels=len(vae.config["block_out_channels"]))
    _load(vae, weights, rename, source, dtype=dtype)


def load_text_encoder(text_encoder: nn.Module, weights: Weights, source: str, dtype: torch.dtype | None = None) -> None:
    """Official weights into transformers' CLIP text model, strictly but for the position numbers."""
    own = {name: tensor for name, tensor in weights.items() if name not in _IGNORED_TEXT}
    _load(text_encoder, own, key_tables.official_text, source, dtype=dtype)
    for module in text_encoder.modules():  # numbers that no file holds
        numbers = getattr(module, "position_ids", None)
        if isinstance(numbers, Tensor) and numbers.is_meta:
            module.position_ids = torch.arange(numbers.shape[-1]).expand(numbers.shape)


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


def load_gligen_fusers(unet: InstanceUNet, path: Path) -> None:
    """The fusers of a GLIGEN file, official or of diffusers; its base and its tokenizer are left, ours differ."""
    content = weight_files.read(path)
    weights = content.get("model", content)
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{path}: should hold named tensors and does not")
    fusers = {name: tensor for name, tensor in weights.items() if ".fuser." in name}
    names = frozenset(name for name in unet.instance_layers() if ".fuser." in name)
    official = partial(key_tables.official_unet, shape=unet_shape(unet))
    _load(unet, fusers, official if not names & fusers.keys() else lambda name: name, str(path), names=names)


def _load(
    network: nn.Module,
    weights: Weights,
    rename: key_tables.Rename,
    source: str,
    names: frozenset[str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Every weight of the network (or of `names`) from exactly one of the file."""
    own = [name for name in network.state_dict() if names is None or name in names]
    loading.fill(network, weights, source, key_tables.table(own, rename), dtype)
