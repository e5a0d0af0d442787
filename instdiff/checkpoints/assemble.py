"""The networks of a pipeline from the weights there are: read -> sizes -> build.

Instance layers come with the released file, the port and our own folder. A plain Stable Diffusion (a folder or a file,
any fine-tune of 1.5) needs them from elsewhere: our training, a released file, or the three files of ComfyUI.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instdiff.checkpoints import official, reading
from instdiff.checkpoints.reading import Checkpoint
from instdiff.checkpoints.sizes import Sizes, sizes
from instdiff.model.noise_schedule import Prediction
from instdiff.model.unet import InstanceUNet
from instdiff.networks import clip, loading


@dataclass(frozen=True)
class Networks:
    """What a pipeline draws with; `unet` is an InstanceUNet where there are instance layers."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    prediction: Prediction  # of the noise, or of velocity (Salimans and Ho 2022)


def networks(
    model: str | Path,
    *,
    instance: str | Path | None = None,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    file_sizes: Sizes | None = None,
) -> Networks:
    """The networks of a folder or file with instance layers, frozen, in `dtype` on the CPU.

    `instance` is needed where `model` has no instance layers, `tokenizer` where it is a file; `file_sizes` are those of
    a file that is no Stable Diffusion 1.5. ValueError says what the path seems to hold and what is missing.
    """
    base = complete(reading.read(Path(model)))
    if instance is None and not base.layers:
        raise ValueError(f"{model}: a plain base without instance layers; say where they are (--instance)")
    if instance is not None and base.layers:
        raise ValueError(f"{model}: has instance layers of its own; name a plain base for those of {instance}")
    layers = base if instance is None else reading.read(Path(instance))
    if not layers.layers:
        raise ValueError(f"{instance}: holds no instance layers")
    return build(base, layers, tokenizer, dtype=dtype, file_sizes=file_sizes)


def stated(model: Path, instance: Path | None) -> reading.Stated:
    """What is known of the layers of `model`, or of `instance`, before any weight is read."""
    return reading.stated(model if instance is None else instance)


def complete(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, if it holds all networks of a base; ValueError names those that are missing."""
    networks = ("unet", "vae", "text_encoder")
    lacking = [name for name in networks if not getattr(checkpoint, name)]
    if len(lacking) == len(networks) and checkpoint.layers:
        raise ValueError(f"{checkpoint.source}: instance layers alone; name a base, and these as its --instance")
    if lacking:
        raise ValueError(f"{checkpoint.source}: holds no weights of {' and '.join(lacking)}")
    return checkpoint


def build(
    base: Checkpoint,
    layers: Checkpoint | None,
    tokenizer: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    file_sizes: Sizes | None = None,
) -> Networks:
    """Networks of these sizes with these weights, and no second copy of them; without `layers` the UNet is a plain one.

    They are made without memory of their own and take the weights as they lie in the file, in `dtype`. The checkpoints
    are empty afterwards: what was read of a file leaves the memory before the next one is.
    """
    of_base = base.sizes or file_sizes or Sizes()
    whole = of_base if layers is None else sizes(layers.layers, layers.source, of_base)
    folder = base.tokenizer if tokenizer is None else Path(tokenizer)
    if folder is None:
        raise ValueError(
            f"{base.source}: weights hold no words: name a folder with vocab.json and merges.txt as the tokenizer"
        )
    words = clip.tokenizer(folder)
    with torch.device("meta"):
        vae = AutoencoderKL(**whole.vae)
        text_encoder = CLIPTextModel(CLIPTextConfig(**whole.text))
        unet = (
            UNet2DConditionModel(**whole.unet)
            if layers is None
            else InstanceUNet(**whole.unet, drawing=layers.drawing.model_dump())
        )
    refuse_mismatch(base.source, vae, text_encoder, words, unet)
    official.load_vae(vae, base.vae, base.source, vae_dtype(base, dtype))
    base.vae.clear()
    official.load_text_encoder(text_encoder, base.text_encoder, base.source, dtype)
    base.text_encoder.clear()
    official.load_base(unet, base.unet, base.source, dtype)
    base.unet.clear()
    if layers is not None:
        official.load_instance_layers(unet, layers.layers, layers.source, dtype)
        layers.layers.clear()
    for network in (vae, text_encoder, unet):
        network.requires_grad_(False).eval()
    return Networks(vae, text_encoder, words, unet, base.prediction)


def vae_dtype(base: Checkpoint, dtype: torch.dtype) -> torch.dtype:
    """The precision asked for, or float32, with a warning, where the autoencoder's weights exceed it."""
    if not (beyond := loading.exceeding(base.vae, dtype)):
        return dtype
    message = f"{base.source}: the autoencoder stays in float32; too large for {dtype}: {loading.listed(beyond)}"
    warnings.warn(message, stacklevel=2)
    return torch.float32


def refuse_mismatch(
    source: str, vae: AutoencoderKL, text_encoder: CLIPTextModel, words: CLIPTokenizer, unet: UNet2DConditionModel
) -> None:
    """ValueError where networks do not go together: they would fail while drawing, or draw noise."""
    channels, latent, out = unet.config["in_channels"], vae.config["latent_channels"], unet.config["out_channels"]
    if {channels, out} != {latent}:
        raise ValueError(
            f"{source}: its UNet takes {channels} and gives {out} channels, its autoencoder has {latent}: a base for "
            "inpainting or another task, not a Stable Diffusion 1.5"
        )
    width, settings = unet.config["cross_attention_dim"], text_encoder.config
    text = settings.hidden_size
    if width != text:
        raise ValueError(f"{source}: its UNet reads texts of width {width}, its text encoder gives {text}")
    if len(words) > settings.vocab_size:
        raise ValueError(
            f"{source}: its text encoder knows {settings.vocab_size} tokens, the tokenizer {len(words)}: "
            "the tokenizer of another model"
        )
    if isinstance(unet, InstanceUNet) and unet.unifusion.config.text_width != text:
        raise ValueError(
            f"{source}: its text encoder gives texts of width {text}, the instance layers read "
            f"{unet.unifusion.config.text_width}"
        )
