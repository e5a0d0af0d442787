"""encoders: what the frozen text encoder and autoencoder make of texts and pictures.

Legend: S pictures, C channels, H, W pixels, h, w latent cells, T texts.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from instdiff.data.shards import Sample
from instdiff.networks import vae as autoencoder


class Texts:
    """Encodes a text once, however often it occurs, `batch_size` at a time; keeps it on the CPU in this precision."""

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], batch_size: int, kept_as: torch.dtype) -> None:
        self._encode, self._batch_size, self._kept_as = encode, batch_size, kept_as
        self._known: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, ...): one row a text."""
        new = sorted(set(texts) - self._known.keys())
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            encoded = self._encode(batch).to("cpu", self._kept_as)
            self._known.update(zip(batch, encoded, strict=True))
        return torch.stack([self._known[text] for text in texts])

    def forget(self) -> None:
        """Make room."""
        self._known.clear()


@torch.no_grad()
def latents(pixels_SCHW: Tensor, vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """(S, C, h, w) mean and standard deviation of the scaled latents."""
    found = vae.encode(pixels_SCHW).latent_dist
    scale = vae.config.scaling_factor
    return found.mean * scale, found.std * scale


def pixels(samples: Sequence[Sample], vae: AutoencoderKL) -> Tensor:
    """(S, 3, H, W) in [-1, 1], where the autoencoder is."""
    side = vae.config.sample_size
    return autoencoder.pixels(np.stack([_decoded(sample, side) for sample in samples])).to(vae.device)


def _decoded(sample: Sample, side: int) -> NDArray[np.uint8]:
    """The picture at the autoencoder's size, stretched where it is no square: fractions stay what they are."""
    with Image.open(io.BytesIO(sample.picture)) as image:
        whole = image.convert("RGB")
        square = whole if whole.size == (side, side) else whole.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(square)
