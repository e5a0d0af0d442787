"""A pipeline from the weights there are: our folder, one of diffusers (or the port to it), the foundation, one file.

Instance layers come with the released file, the port and our own folder. A plain Stable Diffusion (a folder or a file,
any fine-tune of 1.5) needs them from elsewhere: our training, a released file, or the three files of ComfyUI.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instdiff.checkpoints import comfyui, official
from instdiff.model.unet import WEIGHTS_FILE, InstanceUNet
from instdiff.model.unifusion import NUM_FREQUENCIES, UniFusionConfig
from instdiff.networks import base_unet as base
from instdiff.networks import clip
from instdiff.networks import vae as autoencoder
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler

INDEX = "model_index.json"
_WEIGHTS = "diffusion_pytorch_model"  # of a network of diffusers, with several endings


@dataclass(frozen=True)
class Sizes:
    """Of the networks in a file, which says nothing of them: Stable Diffusion 1.5."""

    unet: Mapping[str, Any] = field(default_factory=lambda: official.SD15_UNET)
    vae: Mapping[str, Any] = field(default_factory=lambda: official.SD15_VAE)
    text: Mapping[str, Any] = field(default_factory=lambda: official.SD15_TEXT)


def pipeline(
    model: Path,
    *,
    instance: Path | None = None,
    tokenizer: Path | None = None,
    solver: str = "plms",
    sizes: Sizes | None = None,
) -> InstanceDiffusionPipeline:
    """The pipeline of a folder or file, in float32 on the CPU, drawing with `solver`.

    `instance` is needed where `model` has no instance layers, `tokenizer` where it is a file. ValueError says what the
    path seems to hold and what is missing.
    """
    if model.is_file():
        made = _from_file(model, instance, tokenizer, sizes or Sizes())
    elif (model / INDEX).is_file():
        made = _from_folder(model, instance)
    elif (model / "clip" / "text").is_dir():
        words = clip.load_text(model / "clip" / "text")
        unet = with_layers(base.load(model / "unet"), instance, str(model))
        made = autoencoder.load(model / "vae"), words.model, words.tokenizer, unet
    else:
        raise ValueError(
            f"{model}: neither a file of weights, nor a folder with {INDEX} (diffusers), nor one with clip/text, vae "
            "and unet (a foundation of ours)"
        )
    vae, text_encoder, words_of, unet = made
    for network in (vae, text_encoder, unet):
        network.to(torch.float32).requires_grad_(False).eval()
    return InstanceDiffusionPipeline(vae, text_encoder, words_of, unet, scheduler(solver))


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


def with_layers(plain: UNet2DConditionModel, instance: Path | None, source: str) -> InstanceUNet:
    """The base with the instance layers of our folder, of ComfyUI's three files, or of a released file."""
    if instance is None:
        raise ValueError(f"{source}: a plain base without instance layers; say where they are (--instance)")
    for folder in (instance, instance / "layers"):
        if (folder / WEIGHTS_FILE).is_file():
            return InstanceUNet.from_base_and_layers(plain, folder)
    if instance.is_dir():
        if not (instance / comfyui.FUSERS).is_file():
            raise ValueError(f"{instance}: holds neither {WEIGHTS_FILE} nor {comfyui.FUSERS}: no instance layers")
        weights = comfyui.read(instance)
    else:
        held = official.split(official.read(instance), str(instance))["unet"]
        weights = {name: tensor for name, tensor in held.items() if official.is_instance_layer(name)}
    unet = InstanceUNet.from_base(plain, unifusion_sizes(weights, str(instance)), scale_u="scaleu_b_0" in weights)
    official.load_instance_layers(unet, weights, str(instance))
    return unet


def _numbers(names: Mapping[str, Any], prefix: str) -> list[int]:
    return sorted({int(name.removeprefix(prefix).partition(".")[0]) for name in names if name.startswith(prefix)})


def networks(
    path: Path, tokenizer: Path | None, sizes: Sizes
) -> tuple[AutoencoderKL, CLIPTextModel, CLIPTokenizer, Mapping[str, Tensor]]:
    """The autoencoder and the text encoder of a file of weights, the words of a folder, and the file's UNet weights.

    The file is a Stable Diffusion 1.5 or a released InstanceDiffusion; its UNet keeps the names it has there.
    """
    parts = official.split(official.read(path), str(path))
    if lacking := [name for name in ("unet", "vae", "text_encoder") if not parts.get(name)]:
        raise ValueError(f"{path}: holds no weights of {' and '.join(lacking)}")
    if tokenizer is None:
        raise ValueError(
            f"{path}: weights hold no words: name a folder with vocab.json and merges.txt as the tokenizer"
        )
    with torch.device("meta"):
        vae = AutoencoderKL(**sizes.vae)
    text_encoder = CLIPTextModel(CLIPTextConfig(**sizes.text))
    official.load_vae(vae, parts["vae"], str(path))
    official.load_text_encoder(text_encoder, parts["text_encoder"], str(path))
    return vae, text_encoder, CLIPTokenizer.from_pretrained(tokenizer), parts["unet"]


def _from_file(
    path: Path, instance: Path | None, tokenizer: Path | None, sizes: Sizes
) -> tuple[AutoencoderKL, CLIPTextModel, CLIPTokenizer, InstanceUNet]:
    vae, text_encoder, words, weights = networks(path, tokenizer, sizes)
    return vae, text_encoder, words, _unet(sizes.unet, weights, instance, str(path), port=False)


def _from_folder(
    folder: Path, instance: Path | None
) -> tuple[AutoencoderKL, CLIPTextModel, CLIPTokenizer, InstanceUNet]:
    """Our own folder, the port's, or a Stable Diffusion in the form of diffusers."""
    try:
        config = json.loads((folder / "unet" / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: has no readable unet/config.json: not a Stable Diffusion 1.5") from error
    if config.get("_class_name") == InstanceUNet.__name__:
        unet = InstanceUNet.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        if instance is not None:
            raise ValueError(f"{folder}: has instance layers of its own; name a plain base for those of {instance}")
    else:
        known = UNet2DConditionModel._get_init_keys(UNet2DConditionModel)
        sizes = {name: value for name, value in config.items() if name in known} | {"attention_type": "default"}
        unet = _unet(sizes, _folder_weights(folder / "unet"), instance, str(folder / "unet"), port=True)
    words = clip.load_text(folder / "text_encoder")
    return autoencoder.load(folder / "vae"), words.model, CLIPTokenizer.from_pretrained(folder / "tokenizer"), unet


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    """Weights of a network of diffusers, in one file or several."""
    for ending in ("safetensors", "bin"):
        files = sorted([*folder.glob(f"{_WEIGHTS}.{ending}"), *folder.glob(f"{_WEIGHTS}-*-of-*.{ending}")])
        if files:
            return {name: tensor for file in files for name, tensor in official.read(file).items()}
    raise ValueError(f"{folder}: holds no {_WEIGHTS}.safetensors and no {_WEIGHTS}.bin")


def _unet(
    sizes: Mapping[str, Any], weights: Mapping[str, Tensor], instance: Path | None, source: str, *, port: bool
) -> InstanceUNet:
    """The network of weights that have instance layers, or of a plain base and layers from elsewhere."""
    whole = any(name.startswith("position_net.") for name in weights)
    with torch.device("meta"):
        if whole:
            config = unifusion_sizes(weights, source).model_dump(mode="json")
            unet = InstanceUNet(**sizes, unifusion_config=config, scale_u=any("scaleu_" in name for name in weights))
        else:
            unet = UNet2DConditionModel(**sizes)
    official.load_unet(unet, weights, source, port=port)
    if not whole:
        return with_layers(unet.to(torch.float32), instance, source)
    if instance is not None:
        raise ValueError(f"{source}: has instance layers of its own; name a plain base for those of {instance}")
    return unet
