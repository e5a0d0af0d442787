"""Samples read from shards when they are needed, from a disk or through it from any store that fsspec knows.

Legend: B batch, V views, I instances of a sample, N slots, D features.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import fsspec
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from instdiff.data import embeddings, shards
from instdiff.data.index import INDEX_FILE, Index
from instdiff.data.order import SampleSet
from instdiff.data.samples import Gathered, gathered
from instdiff.files import atomic
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Compat, Layout

OPEN_FILES = 64
Read = TypeVar("Read")


@dataclass(frozen=True)
class Store:
    """A folder, or a URL with a folder for the copies of what was read."""

    folder: Path
    url: str | None = None
    limit: int | None = None  # bytes that copies may take in all folders beside this one; the least used go first

    def __str__(self) -> str:
        return self.url or str(self.folder)

    def read(self, name: str, use: Callable[[Path], Read]) -> Read:
        """What `use` makes of a file; a copy that another process removes in that moment is fetched again."""
        while True:
            try:
                return use(self.path(name))
            except FileNotFoundError:
                if self.url is None:
                    raise

    def path(self, name: str) -> Path:
        """The file on the disk; fetched whole, once for all processes that share the folder."""
        here = self.folder / name
        if self.url is not None:
            if not here.exists():
                self._fetch(name, here)
            now = time.time_ns()
            os.utime(here, ns=(now, now))  # mark as recently used
        return here

    def _fetch(self, name: str, here: Path) -> None:
        with fsspec.open(f"{self.url}/{name}", "rb") as remote:
            self._make_room(name, getattr(remote, "size", None) or 0)
            with atomic.file(here) as part, part.open("wb") as copy:
                while block := remote.read(1 << 24):
                    copy.write(block)

    def _make_room(self, name: str, needed: int) -> None:
        if self.limit is None:
            return
        if needed > self.limit:
            raise ValueError(f"{self.url}/{name}: {needed} bytes, and train.data.copies_limit is {self.limit}")
        copies = [(path, path.stat()) for path in self.folder.parent.rglob("*") if path.is_file()]
        total = needed + sum(stat.st_size for _, stat in copies)
        for copy, stat in sorted(copies, key=lambda pair: pair[1].st_mtime_ns):
            if total > self.limit and not copy.name.startswith((".", INDEX_FILE)):  # being written, or mapped
                copy.unlink(missing_ok=True)
                total -= stat.st_size


class ShardSet(NamedTuple):
    """Shards that belong together, and their embeddings."""

    shards: Store
    embeddings: Store
    weight: float = 1.0  # how often its samples are shown, beside the weights of other sets


class ShardIndex:
    """The samples of some sets of shards by their number, set after set; none stays in memory."""

    def __init__(self, where: Sequence[ShardSet]) -> None:
        self.where = tuple(where)
        self.indices = [shard_set.shards.read(INDEX_FILE, Index) for shard_set in where]
        self.sets = tuple(
            SampleSet(index.sizes, shard_set.weight) for index, shard_set in zip(self.indices, where, strict=True)
        )
        self.starts = np.cumsum([0, *map(len, self.indices)])  # of each set

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, number: int) -> tuple[int, int]:
        """Of a sample: which set it is of, and its number there."""
        number_of_set = int(np.searchsorted(self.starts, number, side="right")) - 1
        return number_of_set, number - int(self.starts[number_of_set])

    def sample(self, number: int) -> shards.Sample:
        """Picture and layout."""
        number_of_set, own = self.place(number)
        row = self.indices[number_of_set].row(own)
        return self.where[number_of_set].shards.read(row["shard"], lambda path: shards.read_one(path.parent, row))


class FromShards(ShardIndex):
    """Samples of shards and of the embeddings beside them; a few files are open at a time, no sample stays."""

    def __init__(self, where: Sequence[ShardSet], config: UniFusionConfig, compat: Compat | None) -> None:
        super().__init__(where)
        self.config, self.compat = config, compat
        self.empty = empty_of(where)
        self.open: OrderedDict[tuple[int, int], _Shard] = OrderedDict()  # by the number of the set, and of the shard

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        for gone in [place for place, shard in self.open.items() if not shard.path.exists()]:
            del self.open[gone]  # or its bytes stay on the disk
        parts = [
            self._embedded(number, mirrored)
            for number, mirrored in zip(chosen_B.tolist(), mirrored_B.tolist(), strict=True)
        ]
        latent_mean, latent_std, prompts, captions, categories = zip(*parts, strict=True)
        layouts = [self.sample(number).layout for number in chosen_B.tolist()]
        latents = torch.stack(latent_mean), torch.stack(latent_std)
        return gathered(
            layouts, captions, categories, latents, torch.stack(prompts), mirrored_B, self.config, self.compat
        )

    def _embedded(self, number: int, mirrored: bool) -> tuple[Tensor, ...]:
        number_of_set, own = self.place(number)
        index = self.indices[number_of_set]
        shard, place = index.place(own)
        at = (number_of_set, shard)
        if at not in self.open:
            keys = index.column(shard, "key").to_pylist()
            name = f"{Path(index.shards[shard]).stem}.safetensors"
            self.open[at] = self.where[number_of_set].embeddings.read(name, lambda path: _Shard(path, keys))
            if len(self.open) > OPEN_FILES:
                self.open.popitem(last=False)
        self.open.move_to_end(at)
        return self.open[at].read(place, mirrored)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"open": OrderedDict()}


def empty_of(where: Sequence[ShardSet]) -> embeddings.Empty:
    """The empty text of all sets; ValueError where encoders or rules of one are others than those of the first."""
    first, *others = (
        shard_set.embeddings.read(embeddings.EMPTY_FILE, lambda path: embeddings.read_empty(path.parent))
        for shard_set in where
    )
    for shard_set, empty in zip(where[1:], others, strict=True):
        same = torch.equal(empty.prompt_LD, first.prompt_LD) and torch.equal(empty.phrase_D, first.phrase_D)
        if not same or empty.rule != first.rule:
            raise ValueError(
                f"{shard_set.embeddings}: texts were embedded by other encoders or rules than those of "
                f"{where[0].embeddings}"
            )
    return first


def last(where: Sequence[ShardSet], count: int) -> list[Layout]:
    """The layouts of the last `count` samples."""
    index = ShardIndex(where)
    return [index.sample(number).layout for number in range(len(index))[-count:]]


class _Shard:
    """One file of embeddings, read a sample at a time."""

    def __init__(self, path: Path, keys: list[str]) -> None:
        self.path = path
        self.stored = cast(Any, safe_open(path, framework="pt"))
        if embeddings.keys_of(self.stored) != tuple(keys):
            raise ValueError(f"{path}: the embeddings were made for another shard")
        self.start_S = self.stored.get_tensor("start_S")

    def read(self, place: int, mirrored: bool) -> tuple[Tensor, ...]:
        """Latent mean and deviation of one view, prompt, phrase features and category features."""
        start, stop = self.start_S[place : place + 2].tolist()
        latents = [
            self.stored.get_slice(name)[place][int(mirrored)] for name in ("latent_mean_SVChw", "latent_std_SVChw")
        ]
        texts = [self.stored.get_slice(name)[start:stop] for name in ("phrase_ID", "category_ID")]
        return (*latents, self.stored.get_slice("prompt_SLD")[place], *texts)
