"""embed: put each shard's pictures and texts through the frozen encoders, once.   shards -> embeddings

Legend: S samples of a shard, V views, C channels, H, W pixels, h, w latent cells, L tokens, D features, T texts.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL
from pydantic import PositiveInt
from torch import Tensor

from instdiff import stage
from instdiff.data.embeddings import EMPTY_FILE, Embedded, Empty, write_empty, write_one
from instdiff.data.encoders import Texts, latents, pixels
from instdiff.data.index import INDEX_FILE, Index
from instdiff.data.shards import Sample, read_one
from instdiff.files.provenance import fingerprint
from instdiff.layouts.prompts import Prompts, prompt
from instdiff.networks import vae as autoencoder
from instdiff.networks.clip import TextEncoder, load_text
from instdiff.networks.device import Place
from instdiff.schema import Strict
from instdiff.work import packs, resume
from instdiff.work.ledger import Ledger
from instdiff.work.packs import Counts, Make, Outputs
from instdiff.work.parts import Execution

PRECISION = {"float16": torch.float16, "float32": torch.float32}


class Params(Strict):
    """How much at once, how finely it is kept, and whether at all."""

    batch_size: PositiveInt  # pictures, or texts
    precision: Literal["float16", "float32"]  # of what is kept
    cached: bool  # false encodes the empty text alone: training with data.source: pictures does the rest as it goes
    prompts: Prompts
    work: Execution
    device: Place


class Encoders(NamedTuple):
    """The frozen encoders, and the texts of a shard that they have encoded."""

    vae: AutoencoderKL
    prompts: Texts
    phrases: Texts


@lru_cache(maxsize=1)
def encoders(text: Path, vae: Path, params: Params, where: Place, _digest: str) -> Encoders:
    """The encoders, kept for the shards that follow."""
    encoder: TextEncoder = load_text(text, where)
    dtype = PRECISION[params.precision]
    prompts, phrases = (Texts(encode, params.batch_size, dtype) for encode in (encoder.tokens, encoder.pooled))
    return Encoders(autoencoder.load(vae, where), prompts, phrases)


def run(*, shards: Path, text: Path, vae: Path, embeddings: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From shards to a file of embeddings each, and one for the empty text."""
    where = params.device.settled()
    digest = resume.digest(__name__, params, where.name, fingerprint(text), fingerprint(vae))
    load = partial(encoders, text, vae, params, where, digest)
    makes: list[tuple[str, str, Make]] = [(Path(EMPTY_FILE).stem, "", partial(embed_empty, load=load, params=params))]
    index = Index(shards / INDEX_FILE)
    for number, name in enumerate(index.shards if params.cached else ()):
        make = partial(embed_shard, index=index, number=number, load=load, params=params)
        makes.append((Path(name).stem, content(index, number), make))
    to = Outputs({"embeddings": embeddings}, ledger, packs.place(embeddings))
    return {
        "shards": 0,
        "samples": 0,
        "instances": 0,
        **packs.update(packs.jobs(makes, digest, to), to, params.work),
    }


def content(index: Index, shard: int) -> str:
    """A hash of the samples of a shard, in order."""
    columns = (index.column(shard, name).to_pylist() for name in ("key", "sha256"))
    whole = hashlib.sha256()
    for row in zip(*columns, strict=True):
        whole.update(repr(row).encode())
    return whole.hexdigest()


def embed_empty(
    folder: Path, _before: Path | None, *, load: Callable[[], Encoders], params: Params
) -> tuple[Ledger, Counts]:
    """Encode the empty text."""
    _, prompts, phrases = load()
    empty = Empty(prompts([""])[0], phrases([""])[0], params.prompts.rule)
    write_empty(folder / "embeddings", empty)
    return Ledger(), {}


def embed_shard(
    folder: Path,
    _before: Path | None,
    *,
    index: Index,
    number: int,
    load: Callable[[], Encoders],
    params: Params,
) -> tuple[Ledger, Counts]:
    """Encode the samples of a shard; no text is kept from the shard before, so that no byte depends on it."""
    vae, prompts, phrases = load()
    for texts in (prompts, phrases):
        texts.clear()
    rows = index.rows(number)
    samples = [read_one(index.path.parent, row) for row in rows]
    write_one(folder / "embeddings" / f"{packs.NUMBER}.safetensors", embed(samples, vae, prompts, phrases, params))
    return Ledger(), {"shards": 1, "samples": len(rows), "instances": sum(row["num_instances"] for row in rows)}


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
        phrase_ID=phrases(["", *(instance.phrase for instance in instances)])[1:],
        category_ID=phrases(["", *(instance.category or instance.phrase for instance in instances)])[1:],
        start_S=torch.tensor([0, *np.cumsum(counts)]),
    )


def encode(pixels_SCHW: Tensor, vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """(S, V, C, h, w) mean and standard deviation of the scaled latents of the pictures and their mirror images."""
    means, stds = zip(*(latents(view, vae) for view in (pixels_SCHW, pixels_SCHW.flip(-1))), strict=True)
    return torch.stack(means, 1), torch.stack(stds, 1)


if __name__ == "__main__":
    stage.main(run)
