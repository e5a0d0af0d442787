"""embed: put each shard's pictures and texts through the frozen encoders, once.   shards -> embeddings

Legend: S samples of a shard, V views, C channels, H, W pixels, h, w latent cells, L tokens, D features, T texts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from pydantic import PositiveInt
from torch import Tensor

from instdiff import atomic, stage
from instdiff.data.embeddings import Embedded, Empty, write_empty, write_one
from instdiff.data.encoders import Texts, latents, pixels
from instdiff.data.shards import INDEX_FILE, Sample, read_index, read_one
from instdiff.device import Place
from instdiff.layouts.prompts import Prompts, prompt
from instdiff.networks import vae as autoencoder
from instdiff.networks.clip import TextEncoder, load_text
from instdiff.progress import track
from instdiff.provenance import fingerprint
from instdiff.schema import Strict
from instdiff.work import parts, resume

PRECISION = {"float16": torch.float16, "float32": torch.float32}


class Params(Strict):
    """How much at once, how finely it is kept, and whether at all."""

    batch_size: PositiveInt  # pictures, or texts
    precision: Literal["float16", "float32"]  # of what is kept
    cached: bool  # false encodes the empty text alone: training with data.source: pictures does the rest as it goes
    prompts: Prompts
    device: Place


def run(*, shards: Path, text: Path, vae: Path, embeddings: Path, params: Params) -> dict[str, int]:
    """From shards to a file of embeddings each, and one for the empty text."""
    where = params.device.settled()
    encoder: TextEncoder = load_text(text, where)
    to_latents = autoencoder.load(vae, where)
    dtype = PRECISION[params.precision]
    prompts, phrases = (Texts(one, params.batch_size, dtype) for one in (encoder.tokens, encoder.pooled))
    index = read_index(shards) if params.cached else read_index(shards).head(0)
    shard_rows = {Path(str(name)).stem: rows for name, rows in index.groupby("shard", sort=False)}
    counts = {"shards": len(shard_rows), "samples": 0, "instances": 0}
    weights = [fingerprint(text), fingerprint(vae)]
    scratch = parts.place(embeddings, resume.digest(__name__, params, shards / INDEX_FILE, where.name, *weights))
    for name, rows in track(shard_rows.items(), len(shard_rows), "shards"):
        made = scratch / f"{name}.safetensors"
        if not made.exists():
            samples = [read_one(shards, row) for row in rows.to_dict("records")]
            with atomic.file(made) as part:
                write_one(part, embed(samples, to_latents, prompts, phrases, params))
            prompts.clear()  # prompts hardly repeat; phrases do
        counts["samples"] += len(rows)
        counts["instances"] += int(rows["num_instances"].sum())
    with atomic.folder(embeddings) as to:
        write_empty(to, Empty(prompts([""])[0], phrases([""])[0], params.prompts.rule))
        for name in shard_rows:
            atomic.link(scratch / f"{name}.safetensors", to / f"{name}.safetensors")
    parts.clear(scratch, keep=False)
    return counts


def embed(samples: Sequence[Sample], vae: AutoencoderKL, prompts: Texts, phrases: Texts, params: Params) -> Embedded:
    """The embeddings of the samples of one shard."""
    batches = [samples[start : start + params.batch_size] for start in range(0, len(samples), params.batch_size)]
    encoded = [encode(pixels(batch, vae), vae) for batch in batches]
    mean, std = (torch.cat(part).to("cpu", PRECISION[params.precision]) for part in zip(*encoded, strict=True))
    instances = [instance for sample in samples for instance in sample.layout.instances]
    counts = [len(sample.layout.instances) for sample in samples]
    return Embedded(
        keys=tuple(sample.key for sample in samples),
        latent_mean_SVChw=mean,
        latent_std_SVChw=std,
        prompt_SLD=prompts([prompt(sample.layout, params.prompts) for sample in samples]),
        phrase_ID=phrases(["", *(one.phrase for one in instances)])[1:],
        category_ID=phrases(["", *(one.category or one.phrase for one in instances)])[1:],
        start_S=torch.tensor([0, *np.cumsum(counts)]),
    )


def encode(pixels_SCHW: Tensor, vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """(S, V, C, h, w) mean and standard deviation of the scaled latents of the pictures and their mirror images."""
    means, stds = zip(*(latents(view, vae) for view in (pixels_SCHW, pixels_SCHW.flip(-1))), strict=True)
    return torch.stack(means, 1), torch.stack(stds, 1)


if __name__ == "__main__":
    stage.main(run)
