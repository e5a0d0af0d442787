"""unet: scenes and their captions -> the base text-to-image model, a UNet2DConditionModel as in Stable Diffusion.

Legend: B batch, N scenes, C channels, h w latent cells, L tokens, D text features.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.model.noise_schedule import eps_loss, noised, stratified_timesteps
from instdiff.networks import clip, vae
from instdiff.networks.base_unet import load
from instdiff.networks.device import Place
from instdiff.progress import track
from instdiff.randomness import generator, torch_generator
from instdiff.schema import Share, Strict
from instdiff.training.engine import Engine, Optimisation
from instdiff.training.loop import fit
from instdiff.work import resume
from instdiff.world import corpus


class Params(Strict):
    """Where the base model comes from and, if it is trained, how."""

    source: Literal["import", "train", "continue"]  # what is shipped, from nothing, or what is shipped, further
    seed: int  # of the scenes, the first weights and the noise
    num_scenes: PositiveInt  # painted to train on
    groups: tuple[str, ...]  # of scenes, in turn
    workers: NonNegativeInt  # processes that paint them
    channels: tuple[int, ...]  # of each level
    attention: tuple[bool, ...]  # of each level
    layers_per_block: PositiveInt  # residual blocks of a level
    heads: PositiveInt  # of attention in each layer
    drop_caption: Share  # share of samples trained without words, for guidance
    min_snr: float | None  # a signal-to-noise ratio above it weighs less (Hang et al. 2023); null: all weigh alike
    batch_size: PositiveInt  # pictures
    optimisation: Optimisation
    device: Place


def build(params: Params, latent_channels: int, latent_size: int, text_width: int) -> UNet2DConditionModel:
    """An untrained base model."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in params.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(params.attention))
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=params.channels,
        layers_per_block=params.layers_per_block,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=text_width,
        attention_head_dim=params.heads,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


@torch.no_grad()
def encoded(autoencoder: AutoencoderKL, pictures_NHWC: npt.NDArray[np.uint8]) -> Tensor:
    """Scaled latent means of pictures and of their mirror images: (2, N, C, h, w)."""
    both, encode = [], autoencoder.encode
    for mirrored in (pictures_NHWC, pictures_NHWC[:, :, ::-1]):
        starts = range(0, len(mirrored), 256)
        batches = track(starts, len(starts), "batches")
        parts = [
            encode(vae.pixels(mirrored[i : i + 256].copy()).to(autoencoder.device)).latent_dist.mode() for i in batches
        ]
        both.append(torch.cat(parts) * autoencoder.config.scaling_factor)
    return torch.stack(both)


def train(params: Params, out: Path, shipped: Path, text_folder: Path, vae_folder: Path) -> dict[str, float]:
    """Fit the base model to latents of scenes and their captions, from nothing or from what is shipped."""
    where = params.device.settled()
    in_float32 = where.model_copy(update={"precision": "float32"})  # of frozen encoders; autocast does the rest
    torch.manual_seed(params.seed)
    scenes = corpus.rendered(params.seed, params.num_scenes, params.groups, params.workers)
    latents_2NChw = encoded(vae.load(vae_folder, in_float32), scenes.pictures_NHWC)
    text = clip.load_text(text_folder, in_float32)
    ids_NL = text.ids([*scenes.captions, ""])  # once, since words take a GPU's time; the last are no words
    if params.source == "continue":
        unet = load(shipped).requires_grad_(True).train()
    else:
        unet = build(params, latents_2NChw.shape[2], latents_2NChw.shape[-1], text.model.config.hidden_size)
    unet.to(where.device)

    def loss(step: int) -> Tensor:
        draw, noise = generator(params.seed, "unet", step), torch_generator(params.seed, "unet", step)
        chosen = draw.integers(params.num_scenes, size=params.batch_size)
        silent = draw.random(params.batch_size) < params.drop_caption
        tokens_BLD = text.states(ids_NL[np.where(silent, -1, chosen)])
        latents_BChw = latents_2NChw[draw.integers(2, size=params.batch_size), chosen]
        noise_BChw = torch.randn(latents_BChw.shape, generator=noise).to(where.device)
        timesteps_B = stratified_timesteps(params.batch_size, noise).to(where.device)
        predicted = unet(noised(latents_BChw, noise_BChw, timesteps_B), timesteps_B, tokens_BLD).sample
        return eps_loss(predicted, noise_BChw, timesteps_B, params.min_snr)

    inputs = [text_folder, vae_folder, *([shipped] if params.source == "continue" else [])]
    scratch = resume.folder(resume.digest(__name__, params, *inputs))
    fit(unet, loss, params.optimisation, scratch=scratch, log=out / "log.csv", engine=Engine(where))
    unet.half().save_pretrained(out)  # shipped small; read back as fp32
    metrics = {"samples": float(params.batch_size * params.optimisation.steps)}
    recipes.record(out, params, metrics, before=shipped if params.source == "continue" else None)
    resume.clear(scratch)
    return metrics


def run(*, shipped: Path, text: Path, vae: Path, unet: Path, params: Params) -> dict[str, float]:
    """Nothing, or a shipped folder; the text encoder and the autoencoder it must fit -> unet."""
    if params.source == "import":
        return recipes.copy(shipped, unet)
    with atomic.folder(unet) as part:
        return train(params, part, shipped, text, vae)


if __name__ == "__main__":
    stage.main(run)
