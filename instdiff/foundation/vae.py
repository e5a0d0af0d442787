"""vae: scenes -> an AutoencoderKL whose latents are a quarter of the picture's side.

Legend: B batch, C channels, H W pixels, h w latent cells.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.networks.device import Place
from instdiff.networks.vae import load, pixels
from instdiff.randomness import generator, torch_generator
from instdiff.schema import Strict
from instdiff.training.engine import Engine, Loss, Optimisation
from instdiff.training.loop import fit
from instdiff.work import resume
from instdiff.world import corpus
from instdiff.world.arrangements import GROUPS, SIZE


class Params(Strict):
    """Where the autoencoder comes from and, if it is trained, how."""

    source: Literal["import", "train", "continue"]  # what is shipped, from nothing, or its decoder alone, further
    seed: int  # of the scenes and the first weights
    num_scenes: PositiveInt  # painted to train on
    workers: NonNegativeInt  # processes that paint them
    channels: tuple[int, ...]  # of each level; each level but the first halves the side
    layers_per_block: PositiveInt  # residual blocks of a level
    latent_channels: PositiveInt  # numbers at a place of the latent
    kl_weight: NonNegativeFloat  # of the mean divergence of a latent number, against the mean absolute error of a pixel
    batch_size: PositiveInt  # pictures
    optimisation: Optimisation
    device: Place


def build(params: Params) -> AutoencoderKL:
    """An untrained autoencoder."""
    levels = len(params.channels)
    return AutoencoderKL(
        block_out_channels=params.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=params.layers_per_block,
        latent_channels=params.latent_channels,
        norm_num_groups=8,
        sample_size=SIZE,
        scaling_factor=1.0,
    )


def train(params: Params, out: Path, shipped: Path) -> dict[str, float]:
    """Fit an autoencoder to scenes and write it with its scaling factor, or go on with the shipped one's decoder."""
    where = params.device.settled()
    torch.manual_seed(params.seed)
    pool = corpus.rendered(params.seed, params.num_scenes, GROUPS, params.workers).pictures_NHWC
    further = params.source == "continue"
    vae = (load(shipped) if further else build(params)).to(where.device)
    loss = decoder_loss(vae, pool, params) if further else whole_loss(vae, pool, params)
    scratch = resume.folder(resume.digest(__name__, params, *([shipped] if further else [])))
    fit(vae, loss, params.optimisation, scratch=scratch, log=out / "log.csv", engine=Engine(where))
    vae.eval().requires_grad_(False)
    held_out = pixels(corpus.rendered(params.seed + 1, 256, GROUPS, params.workers).pictures_NHWC).to(vae.device)
    latents = vae.encode(held_out).latent_dist.mode()
    if not further:
        vae.register_to_config(scaling_factor=1 / latents.std().item())
    error = F.mse_loss(vae.decode(latents).sample.clamp(-1, 1), held_out) / 4
    metrics = {
        "psnr": -10 * error.log10().item(),
        "latent_std": latents.std().item(),
        "latent_mean": latents.mean().item(),
    }
    vae.half().save_pretrained(out)  # shipped small; read back as fp32
    recipes.record(out, params, metrics, before=shipped if further else None)
    resume.clear(scratch)
    return metrics


def whole_loss(vae: AutoencoderKL, pool_NHWC: npt.NDArray[np.uint8], params: Params) -> Loss:
    """The error of a picture rebuilt from a draw of its posterior, and the posterior's divergence."""

    def loss(step: int) -> Tensor:
        draw = generator(params.seed, "vae", step)
        batch = pixels(pool_NHWC[draw.integers(len(pool_NHWC), size=params.batch_size)]).to(vae.device)
        latent = vae.encode(batch).latent_dist
        rebuilt = vae.decode(latent.sample(torch_generator(params.seed, "vae", step))).sample
        error: Tensor = F.l1_loss(rebuilt, batch) + params.kl_weight * latent.kl().sum() / latent.mean.numel()
        return error

    return loss


def decoder_loss(vae: AutoencoderKL, pool_NHWC: npt.NDArray[np.uint8], params: Params) -> Loss:
    """The error of a picture rebuilt from the mean of its posterior; the encoder stays as it is.

    So whatever was trained on its latents still fits, and sees its pictures decoded better.
    """
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True).train()
    starts = range(0, len(pool_NHWC), 64)
    latents_NChw = torch.cat(
        [vae.encode(pixels(pool_NHWC[i : i + 64]).to(vae.device)).latent_dist.mode() for i in starts]
    )

    def loss(step: int) -> Tensor:
        draw = generator(params.seed, "decoder", step)
        chosen = draw.integers(len(pool_NHWC), size=params.batch_size)
        return F.l1_loss(vae.decode(latents_NChw[chosen]).sample, pixels(pool_NHWC[chosen]).to(vae.device))

    return loss


def run(*, shipped: Path, vae: Path, params: Params) -> dict[str, float]:
    """Nothing, or a shipped folder -> vae."""
    if params.source == "import":
        return recipes.copy(shipped, vae)
    with atomic.folder(vae) as part:
        return train(params, part, shipped)


if __name__ == "__main__":
    stage.main(run)
