"""The frozen text encoder and autoencoder: features of texts, latents of pictures.

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

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], batch_size: int, dtype: torch.dtype) -> None:
        self._encode, self._batch_size, self._dtype = encode, batch_size, dtype
        self._encoded: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, ...): one row a text."""
        new = sorted(set(texts) - self._encoded.keys())
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            encoded = self._encode(batch).to("cpu", self._dtype)
            self._encoded.update(zip(batch, encoded, strict=True))
        return torch.stack([self._encoded[text] for text in texts])

    def clear(self) -> None:
        """Clear the cache."""
        self._encoded.clear()


@torch.no_grad()
def latents(pixels_SCHW: Tensor, vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """(S, C, h, w) mean and standard deviation of the scaled latents."""
    posterior = vae.encode(pixels_SCHW.to(vae.dtype)).latent_dist
    scale = vae.config.scaling_factor
    return posterior.mean * scale, posterior.std * scale


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
