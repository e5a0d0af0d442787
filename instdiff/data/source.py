"""Where the samples of a training run are, and what its checkpoints belong to."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt

from instdiff.data import embeddings, shards
from instdiff.data.batches import Recipe
from instdiff.data.from_pictures import Encoders, FromPictures
from instdiff.data.from_shards import FromShards, Store
from instdiff.data.in_memory import InMemory
from instdiff.data.samples import Source
from instdiff.files import provenance, tables
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Compat, Strict


class Data(Strict):
    """Where samples are while training runs."""

    source: Literal["memory", "shards", "pictures"]  # "pictures" needs no embeddings: it encodes in every step
    workers: NonNegativeInt  # processes that make batches ahead, 0: between steps; for "pictures" threads that read
    texts_at_once: PositiveInt  # that the text encoder is shown; of source "pictures"
    url: str | None  # of a folder that holds `shards` and `embeddings`, instead of the stage's own; needs `copies`
    copies: Path | None  # folder on a disk for what was read from the url
    copies_limit: int | None  # bytes that copies may take; the least used make room for others


class SampleParams(Recipe):
    """Which samples training is shown: where they are, of what sizes, and what of each."""

    unifusion: UniFusionConfig
    data: Data


def stores(shards_in: Path, embeddings_in: Path, data: Data) -> tuple[Store, Store]:
    """Where shards and embeddings are read: these folders, or the url in their place."""
    if data.url is None:
        return Store(shards_in), Store(embeddings_in)
    if data.copies is None or data.source == "memory":
        raise ValueError(
            "train.data.url needs train.data.source shards or pictures, and a folder train.data.copies for what is read"
        )
    names = ("shards", "embeddings")
    first, second = (Store(data.copies / name, f"{data.url}/{name}", data.copies_limit) for name in names)
    return first, second


def refuse_without_instances(where: Store) -> None:
    """ValueError where no sample of the shards has an instance: nothing of them teaches where things are."""
    index = where.read(shards.INDEX_FILE, lambda path: tables.read(path, shards.INDEX))
    if not index["num_instances"].sum():
        raise ValueError(
            f"{where.url or where.folder}: none of its {len(index)} samples has an instance to learn from: "
            "data/stats/annotate-train.json counts why they were dropped"
        )


def samples(where: tuple[Store, Store], encoders: Encoders, params: SampleParams, device: torch.device) -> Source:
    """The samples of these stores, encoded during training where data says so.

    ValueError where embeddings were made for other shards or by other rules.
    """
    data, sizes, prompts, compat = params.data, params.unifusion, params.prompts, params.compat
    if data.source == "pictures":
        return FromPictures(where[0], encoders, data.texts_at_once, prompts, sizes, compat, device, data.workers)
    source = FromShards(*where, sizes, compat) if data.source == "shards" else in_memory(where, sizes, compat)
    embedded, expected = source.empty.rule, prompts.rule
    if embedded != expected:
        raise ValueError(
            f"{where[1].url or where[1].folder}: prompts were embedded by the rule {embedded or 'never listed'}, "
            f"and train.prompts is {expected or 'never listed'}: run `embed` again"
        )
    return source


def in_memory(where: tuple[Store, Store], sizes: UniFusionConfig, compat: Compat | None) -> InMemory:
    """Every sample of these folders."""
    layouts = [sample.layout for sample in shards.read(where[0].folder)]
    parts = list(embeddings.read(where[1].folder))
    if [layout.key for layout in layouts] != [key for part in parts for key in part.keys]:
        raise ValueError(f"{where[0].folder}: the embeddings were made for other shards")
    return InMemory(layouts, parts, embeddings.read_empty(where[1].folder), sizes, compat)


def fingerprint(folder: Path, data: Data) -> str:
    """What a run's checkpoints belong to: the bytes of a folder, or its names and sizes where it is streamed."""
    if data.source == "memory":
        return provenance.of_folder(folder)
    return "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in provenance.files(folder))


def encoding(embeddings: Path, encoders: Encoders, data: Data) -> str:
    """The same of what the base reads: the embeddings, or the encoders that make them."""
    if data.source == "pictures":
        return "\n".join(map(provenance.of_folder, encoders))
    return fingerprint(embeddings, data)
