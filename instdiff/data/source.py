"""Where the samples of a training run are, and what its checkpoints belong to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from instdiff.data import embeddings, shards
from instdiff.data.batches import Recipe
from instdiff.data.from_pictures import Encoders, FromPictures
from instdiff.data.from_shards import FromShards, ShardSet, Store, empty_of
from instdiff.data.in_memory import InMemory
from instdiff.data.index import INDEX_FILE, Index
from instdiff.data.order import SampleSet
from instdiff.data.samples import Source
from instdiff.files import provenance
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Compat, Layout, Strict


class Weighted(Strict):
    """One of several sets of shards."""

    url: str  # a folder, or an address that fsspec knows, that holds `shards` and `embeddings`
    weight: PositiveFloat  # its share of the samples shown, beside the others' weights


class Data(Strict):
    """Where samples are while training runs."""

    source: Literal["memory", "shards", "pictures"]  # "pictures" needs no embeddings: it encodes in every step
    workers: NonNegativeInt  # processes that make batches ahead, 0: between steps; for "pictures" threads that read
    texts_at_once: PositiveInt  # that the text encoder is shown; of source "pictures"
    url: str | None  # of a folder with `shards` and `embeddings`, in the stage's place; an address needs `copies`
    copies: Path | None  # folder on a disk for what was read from the url
    copies_limit: int | None  # bytes that copies may take; the least used make room for others
    mixture: dict[str, Weighted] | None  # several sets, by a name each, instead of the stage's own


class SampleParams(Recipe):
    """Which samples training is shown: where they are, of what sizes, and what of each."""

    unifusion: UniFusionConfig
    data: Data


def stores(shards_in: Path, embeddings_in: Path, data: Data) -> list[ShardSet]:
    """Where shards and embeddings are read: these folders, or the url, or the sets of a mixture in their place."""
    if data.url is not None and data.mixture:
        raise ValueError("train.data.url and train.data.mixture: only one of them can be given")
    if data.url is not None:
        return [_there(data.url, "", 1.0, data)]
    if not data.mixture:
        return [ShardSet(Store(shards_in), Store(embeddings_in))]
    return [_there(source.url, f"{name}-", source.weight, data) for name, source in data.mixture.items()]


def _there(url: str, name: str, weight: float, data: Data) -> ShardSet:
    """The set at an address; a folder on the disk is read where it is."""
    if "://" not in url:
        return ShardSet(Store(Path(url) / "shards"), Store(Path(url) / "embeddings"), weight)
    if data.copies is None or data.source == "memory":
        raise ValueError(
            f"{url} needs train.data.source shards or pictures, and a folder train.data.copies for what is read"
        )
    names = ("shards", "embeddings")
    first, second = (Store(data.copies / f"{name}{part}", f"{url}/{part}", data.copies_limit) for part in names)
    return ShardSet(first, second, weight)


def refuse_without_instances(where: Sequence[ShardSet]) -> None:
    """ValueError where no sample of a set has an instance: nothing of it teaches where things are."""
    for shard_set in where:
        index = shard_set.shards.read(INDEX_FILE, Index)
        if not any((index.column(shard, "num_instances").to_numpy() > 0).any() for shard in range(len(index.shards))):
            raise ValueError(
                f"{shard_set.shards}: none of its {len(index)} samples has an instance to learn from: "
                "data/stats/annotate-train.json counts why they were dropped"
            )


def samples(where: Sequence[ShardSet], encoders: Encoders, params: SampleParams, device: torch.device) -> Source:
    """The samples of these sets, encoded during training where data says so.

    ValueError where embeddings were made for other shards or by other rules.
    """
    data, sizes, prompts, compat = params.data, params.unifusion, params.prompts, params.compat
    if data.source == "pictures":
        return FromPictures(where, encoders, data.texts_at_once, prompts, sizes, compat, device, data.workers)
    source = FromShards(where, sizes, compat) if data.source == "shards" else in_memory(where, sizes, compat)
    embedded, expected = source.empty.rule, prompts.rule
    if embedded != expected:
        raise ValueError(
            f"{where[0].embeddings}: prompts were embedded by the rule {embedded or 'never listed'}, "
            f"and train.prompts is {expected or 'never listed'}: run `embed` again"
        )
    return source


def in_memory(where: Sequence[ShardSet], sizes: UniFusionConfig, compat: Compat | None) -> InMemory:
    """Every sample of these sets."""
    layouts: list[Layout] = []
    parts: list[embeddings.Embedded] = []
    sets = []
    for shard_set in where:
        layouts_of_set = [sample.layout for sample in shards.read(shard_set.shards.folder)]
        embedded = list(embeddings.read(shard_set.embeddings.folder))
        if [layout.key for layout in layouts_of_set] != [key for part in embedded for key in part.keys]:
            raise ValueError(f"{shard_set.shards}: the embeddings were made for other shards")
        sets.append(SampleSet(tuple(len(part.keys) for part in embedded), shard_set.weight))
        layouts += layouts_of_set
        parts += embedded
    return InMemory(layouts, parts, tuple(sets), empty_of(where), sizes, compat)


def fingerprint(folder: Path, data: Data) -> str:
    """The bytes of a folder, or its names and sizes where it is streamed."""
    if data.source == "memory":
        return provenance.of_folder(folder)
    return "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in provenance.files(folder))


def identity(where: Sequence[ShardSet], encoders: Encoders, data: Data) -> list[Path | str]:
    """What a run's checkpoints belong to: what is in the folders that it reads; addresses are among its parameters."""
    here = [shard_set for shard_set in where if shard_set.shards.url is None]
    read: list[Path | str] = [fingerprint(shard_set.shards.folder, data) for shard_set in here]
    if data.source == "pictures":
        return [*read, "\n".join(map(provenance.of_folder, encoders))]
    return [*read, *(fingerprint(shard_set.embeddings.folder, data) for shard_set in here)]
