"""Sizes of networks: those that a folder's configurations state, and UniFusion's as the shapes of its weights tell.

A file of weights states nothing of the kind; its base is taken for a Stable Diffusion 1.5, and weights of other sizes
are refused when they are loaded.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextConfig

from instdiff.checkpoints import official
from instdiff.files.texts import read_json
from instdiff.model.unet import BASE_PARAMETERS
from instdiff.model.unifusion import NUM_FREQUENCIES, UniFusionConfig

CONFIG = "config.json"
_VAE_PARAMETERS = frozenset(inspect.signature(AutoencoderKL.__init__).parameters) - {"self"}


@dataclass(frozen=True)
class Sizes:
    """Arguments of each network's class; by default those of Stable Diffusion 1.5."""

    unet: Mapping[str, Any] = field(default_factory=lambda: official.SD15_UNET)
    vae: Mapping[str, Any] = field(default_factory=lambda: official.SD15_VAE)
    text: Mapping[str, Any] = field(default_factory=lambda: official.SD15_TEXT)


def sizes(layers: Mapping[str, Tensor], source: str, base: Sizes) -> Sizes:
    """Sizes of the whole: the base's, and those of its instance layers where there are any, under official names."""
    if not layers:
        return base
    unifusion = unifusion_sizes(layers, source)
    scale_u = any(name.startswith("scaleu_") for name in layers)
    unet = {**base.unet, "unifusion_config": unifusion.model_dump(mode="json"), "scale_u": scale_u}
    return replace(base, unet=unet)


def unifusion_sizes(weights: Mapping[str, Tensor], source: str) -> UniFusionConfig:
    """Sizes of UniFusion as the shapes of its weights tell them, under official names."""
    own = {name.removeprefix("position_net."): tuple(tensor.shape) for name, tensor in weights.items()}
    trunk = "convnext_tiny_backbone"
    try:
        widths = [own[f"{trunk}.stages.{stage}.0.gamma"][0] for stage in _numbers(own, f"{trunk}.stages.")]
        depths = [len(_numbers(own, f"{trunk}.stages.{stage}.")) for stage in range(len(widths))]
        tokens_4 = 4 * own["pos_embedding"][1]
        return UniFusionConfig(
            max_instances=own["in_conv.weight"][1],
            text_width=own["null_positive_feature"][0],
            token_width=own["linears_list.0.4.weight"][0],
            hidden_width=own["linears_list.0.0.weight"][0],
            num_scribble_points=own["null_scribble_feature"][0] // (4 * NUM_FREQUENCIES),
            num_outline_points=own["null_polygon_feature"][0] // (4 * NUM_FREQUENCIES),
            mask_size=int(tokens_4**0.5) * 4 * 2 ** (len(widths) - 1),
            mask_widths=tuple(widths),
            mask_depths=tuple(depths),
        )
    except (KeyError, IndexError) as error:
        raise ValueError(f"{source}: its UniFusion (position_net) is not complete: {error}") from error


def of_folders(unet: Path, vae: Path, text_encoder: Path) -> Sizes:
    """Sizes that config.json in each network's folder states; ValueError for networks of another kind."""
    base, autoencoder = _config(unet), _config(vae)
    if autoencoder.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise ValueError(f"{vae / CONFIG}: a {autoencoder['_class_name']}, expected an AutoencoderKL")
    for name in ("shift_factor", "latents_mean", "latents_std"):
        if autoencoder.get(name) is not None:
            raise ValueError(f"{vae / CONFIG}: {name} is set: not the autoencoder of a Stable Diffusion 1.5")
    return Sizes(
        {name: value for name, value in base.items() if name in BASE_PARAMETERS - {"attention_type"}},
        {name: value for name, value in autoencoder.items() if name in _VAE_PARAMETERS},
        _text(text_encoder),
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = read_json(folder / CONFIG)
    except ValueError as error:
        raise ValueError(
            f"{folder.parent}: has no readable {folder.name}/{CONFIG}: not a Stable Diffusion 1.5"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG}: holds no settings by name")
    return config


def _text(folder: Path) -> dict[str, Any]:
    config = _config(folder)
    try:
        settings: dict[str, Any] = CLIPTextConfig.from_dict(config.get("text_config", config)).to_dict()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: not the settings of a CLIP text encoder") from error
    return settings


def _numbers(names: Mapping[str, Any], prefix: str) -> list[int]:
    return sorted({int(name.removeprefix(prefix).partition(".")[0]) for name in names if name.startswith(prefix)})
