"""embed: put each shard's pictures and texts through the frozen encoders, once.   shards -> embeddings

Legend: S samples of a shard, V views, C channels, H, W pixels, h, w latent cells, L tokens, D features, T texts.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_prep import parts
from data_prep.weights import fingerprint
from instdiff import atomic, stage
from instdiff.embeddings import Embedded, Empty, write_empty, write_one
from instdiff.foundation import vae as autoencoder
from instdiff.foundation.clip import TextEncoder, load_text
from instdiff.progress import track
from instdiff.schema import Strict
from instdiff.shards import INDEX_FILE, Sample, read_index, read_one

PRECISION = {"float16": torch.float16, "float32": torch.float32}


class Params(Strict):
    """How much at once, and how finely it is kept."""

    batch_size: int  # pictures, or texts
    precision: Literal["float16", "float32"]


class Texts:
    """Encodes a text once, however often it occurs."""

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], params: Params) -> None:
        self._encode, self._params = encode, params
        self._known: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(T, ...): one row a text."""
        new = sorted(set(texts) - self._known.keys())
        for start in range(0, len(new), self._params.batch_size):
            batch = new[start : start + self._params.batch_size]
            encoded = self._encode(batch).to("cpu", PRECISION[self._params.precision])
            self._known.update(zip(batch, encoded, strict=True))
        return torch.stack([self._known[text] for text in texts])

    def forget(self) -> None:
        """Make room."""
        self._known.clear()


def run(*, shards: Path, text: Path, vae: Path, embeddings: Path, params: Params) -> dict[str, int]:
    """From shards to a file of embeddings each, and one for the empty text."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder: TextEncoder = load_text(text)
    encoder.model.to(device)
    latents = autoencoder.load(vae).to(device)
    prompts, phrases = Texts(encoder.tokens, params), Texts(encoder.pooled, params)
    shard_rows = {Path(str(name)).stem: rows for name, rows in read_index(shards).groupby("shard", sort=False)}
    counts = {"shards": len(shard_rows), "samples": 0, "instances": 0}
    weights = [fingerprint(text), fingerprint(vae)]
    scratch = parts.place(embeddings, parts.digest("embed", params, [shards / INDEX_FILE], device, *weights))
    for name, rows in track(shard_rows.items(), len(shard_rows), "shards"):
        made = scratch / f"{name}.safetensors"
        if not made.exists():
            samples = [read_one(shards, row) for row in rows.to_dict("records")]
            with atomic.file(made) as part:
                write_one(part, embed(samples, latents, prompts, phrases, params))
            prompts.forget()  # hardly one occurs twice; phrases do
        counts["samples"] += len(rows)
        counts["instances"] += int(rows["num_instances"].sum())
    with atomic.folder(embeddings) as to:
        write_empty(to, Empty(prompts([""])[0], phrases([""])[0]))
        for name in shard_rows:
            atomic.link(scratch / f"{name}.safetensors", to / f"{name}.safetensors")
    parts.clear(scratch, keep=False)
    return counts


def embed(samples: Sequence[Sample], vae: AutoencoderKL, prompts: Texts, phrases: Texts, params: Params) -> Embedded:
    """The embeddings of the samples of one shard."""
    batches = [samples[start : start + params.batch_size] for start in range(0, len(samples), params.batch_size)]
    encoded = [
        encode(np.stack([_pixels(sample, vae.config.sample_size) for sample in batch]), vae) for batch in batches
    ]
    mean, std = (torch.cat(part).to("cpu", PRECISION[params.precision]) for part in zip(*encoded, strict=True))
    instances = [instance for sample in samples for instance in sample.layout.instances]
    counts = [len(sample.layout.instances) for sample in samples]
    return Embedded(
        keys=tuple(sample.key for sample in samples),
        latent_mean_SVChw=mean,
        latent_std_SVChw=std,
        prompt_SLD=prompts([sample.layout.prompt for sample in samples]),
        phrase_ID=phrases(["", *(one.phrase for one in instances)])[1:],
        category_ID=phrases(["", *(one.category or one.phrase for one in instances)])[1:],
        start_S=torch.tensor([0, *np.cumsum(counts)]),
    )


@torch.no_grad()
def encode(pictures_SHWC: NDArray[np.uint8], vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """(S, V, C, h, w) mean and standard deviation of the scaled latents of the pictures and their mirror images."""
    pixels_SCHW = autoencoder.pixels(pictures_SHWC).to(vae.device)
    views = [vae.encode(view).latent_dist for view in (pixels_SCHW, pixels_SCHW.flip(-1))]
    scale = vae.config.scaling_factor
    return torch.stack([view.mean for view in views], 1) * scale, torch.stack([view.std for view in views], 1) * scale


def _pixels(sample: Sample, side: int) -> NDArray[np.uint8]:
    """The picture at the autoencoder's size, stretched where it is no square: fractions stay what they are."""
    with Image.open(io.BytesIO(sample.picture)) as image:
        whole = image.convert("RGB")
        square = whole if whole.size == (side, side) else whole.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(square)


if __name__ == "__main__":
    stage.main(run)
