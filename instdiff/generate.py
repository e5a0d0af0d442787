"""generate: val layouts + weights -> pictures, for one row of the table (a protocol).

Legend: B pictures, R rows of a batch, C channels, h w latent cells, L tokens, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor

from instdiff import atomic, conditions, layouts, sampling, stage, tables
from instdiff.conditions import Conditions, Format
from instdiff.diffusion import BETA_END, BETA_START, NUM_TIMESTEPS
from instdiff.foundation import clip, vae
from instdiff.foundation import unet as base
from instdiff.fuser import Grounding
from instdiff.progress import track
from instdiff.randomness import torch_generator
from instdiff.schema import ANNOTATED, IMAGES, Layout, Strict
from instdiff.unet import InstanceUNet


class Row(Strict):
    """What one row of the table keeps of each instance, and the share of steps in which instances are drawn apart."""

    formats: tuple[Format, ...]
    mis: float


class Params(Strict):
    """How pictures are drawn, the same for every row but for what the row keeps."""

    seed: int
    rows: dict[str, Row]
    solver: Literal["plms", "dpm"]
    steps: int
    guidance: float
    alpha: float  # share of the steps, from the noisiest on, in which instances count
    scale_u: bool
    masked_attention: bool
    batch_size: int
    max_rows: int  # in one forward pass


@dataclass(frozen=True)
class Generator:
    """Everything that turns layouts into pictures."""

    text: clip.TextEncoder
    autoencoder: AutoencoderKL
    unet: InstanceUNet
    params: Params

    @torch.no_grad()
    def draw(self, batch: Sequence[Layout], row: Row) -> list[Image.Image]:
        """One picture a layout; the noise of a picture depends on the seed and its key alone."""
        noise_BChw = torch.stack([self._noise(layout.key) for layout in batch])
        latents_BChw = (
            self._text_only(batch, noise_BChw) if not row.formats else self._instances(batch, row, noise_BChw)
        )
        decoded = self.autoencoder.decode(latents_BChw / self.autoencoder.config.scaling_factor).sample
        return [Image.fromarray(picture) for picture in vae.pictures(decoded)]

    def _text_only(self, batch: Sequence[Layout], noise_BChw: Tensor) -> Tensor:
        prompts = self.text.tokens([layout.prompt for layout in batch])
        denoise = self._guided(prompts, None, None)
        return sampling.sample(denoise, noise_BChw, self._solver(), self._gates())

    def _instances(self, batch: Sequence[Layout], row: Row, noise_BChw: Tensor) -> Tensor:
        whole = self._conditions(batch, row.formats)
        prompts = [layout.prompt for layout in batch]
        everything, picture_R = sampling.apart(whole) if row.mis > 0 else (whole, torch.arange(len(batch)))
        phrases = [instance.phrase for layout in batch for instance in layout.instances] if row.mis > 0 else []
        tokens_RLD = self.text.tokens([*prompts, *phrases])
        null = self.unet.ground(conditions.null(whole.rows(slice(1))), masked=self._grid(noise_BChw))
        grounding = self.unet.ground(everything, masked=self._grid(noise_BChw))
        first = slice(len(batch))
        pictures = self._guided(tokens_RLD[first], grounding.rows(first), null)
        if row.mis == 0:
            return sampling.sample(pictures, noise_BChw, self._solver(), self._gates())
        rows = self._guided(tokens_RLD, grounding, null)
        return sampling.sample_multi_instance(
            rows, pictures, noise_BChw, self._solver(), self._gates(), picture_R=picture_R, share=row.mis
        )

    def _conditions(self, batch: Sequence[Layout], formats: tuple[Format, ...]) -> Conditions:
        features = phrase_features(self.text, batch)
        sizes = self.unet.unifusion.config
        collated = conditions.collate(
            [conditions.complete(layout) for layout in batch],
            features,
            max_instances=sizes.max_instances,
            mask_size=sizes.mask_size,
            num_scribble_points=sizes.num_scribble_points,
            num_outline_points=sizes.num_outline_points,
        )
        return conditions.keep(collated, formats)

    def _guided(self, tokens: Tensor, grounding: Grounding | None, null: Grounding | None) -> sampling.Denoise:
        return sampling.guided(
            self.unet,
            tokens,
            grounding,
            self.text.tokens([""]),
            null,
            guidance=self.params.guidance,
            max_rows=self.params.max_rows,
        )

    def _solver(self) -> sampling.Solver[Any]:
        match self.params.solver:
            case "plms":
                return sampling.Plms.of(self.params.steps)
            case "dpm":
                return sampling.Scheduled.of(dpm_solver(), self.params.steps)
            case _:
                assert_never(self.params.solver)

    def _gates(self) -> list[float]:
        return sampling.gates(self._solver().num_steps, self.params.alpha)

    def _grid(self, latents: Tensor) -> tuple[int, int] | None:
        return (latents.shape[-2], latents.shape[-1]) if self.params.masked_attention else None

    def _noise(self, key: str) -> Tensor:
        size = self.unet.config.sample_size
        shape = (self.unet.config.in_channels, size, size)
        return torch.randn(shape, generator=torch_generator(self.params.seed, "noise", key))


def dpm_solver() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of second order on Stable Diffusion's schedule."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS, beta_start=BETA_START, beta_end=BETA_END, beta_schedule="scaled_linear"
    )


def phrase_features(text: clip.TextEncoder, batch: Sequence[Layout]) -> dict[str, Tensor]:
    """The pooled feature (D,) of every phrase, each encoded once."""
    phrases = sorted({instance.phrase for layout in batch for instance in layout.instances})
    return dict(zip(phrases, text.pooled(phrases), strict=True)) if phrases else {"": text.pooled([""])[0]}


def load(*, text: Path, vae_folder: Path, unet: Path, instance: Path, params: Params) -> Generator:
    """The generator of these folders."""
    model = InstanceUNet.from_base_and_layers(base.load(unet), instance / "layers").requires_grad_(False).eval()
    if not params.scale_u:
        model.disable_scale_u()
    return Generator(clip.load_text(text), vae.load(vae_folder), model, params)


def run(
    *,
    images: Path,
    annotated: Path,
    text: Path,
    vae: Path,
    unet: Path,
    instance: Path,
    generated: Path,
    row: str,
    params: Params,
) -> dict[str, float]:
    """Val layouts, foundation, instance layers -> pictures of one row."""
    wanted = layouts.from_tables(tables.read(images, IMAGES), tables.read(annotated, ANNOTATED))
    generator = load(text=text, vae_folder=vae, unet=unet, instance=instance, params=params)
    starts = range(0, len(wanted), params.batch_size)
    with atomic.folder(generated) as part:
        for start in track(starts, len(starts), "batch"):
            batch = wanted[start : start + params.batch_size]
            for layout, picture in zip(batch, generator.draw(batch, params.rows[row]), strict=True):
                picture.save(part / f"{layout.key}.png")
    return {"pictures": len(wanted)}


if __name__ == "__main__":
    stage.main(run)
