"""Samples read from shards when they are needed, from a disk or through it from any store that fsspec knows.

Legend: B batch, V views, I instances of a sample, N slots, D features.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import fsspec
import torch
from safetensors import safe_open
from torch import Tensor

from instdiff.data import embeddings, shards
from instdiff.data.samples import Gathered, gathered
from instdiff.data.shards import INDEX
from instdiff.files import atomic, tables
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
            if total > self.limit and not copy.name.startswith("."):  # files that are being written
                copy.unlink(missing_ok=True)
                total -= stat.st_size


class ShardIndex:
    """The samples of some shards by their number; none stays in memory."""

    def __init__(self, shards_in: Store) -> None:
        self.shards = shards_in
        index = shards_in.read(shards.INDEX_FILE, lambda path: tables.read(path, INDEX))
        self.rows = index.to_dict("records")
        of_shard = index.groupby("shard", sort=False).size()
        self.names, self.sizes = tuple(of_shard.index), tuple(int(size) for size in of_shard)

    def sample(self, number: int) -> shards.Sample:
        """Picture and layout."""
        row = self.rows[number]
        return self.shards.read(row["shard"], lambda path: shards.read_one(path.parent, row))


class FromShards(ShardIndex):
    """Samples of shards and of the embeddings beside them; a few files are open at a time, no sample stays."""

    def __init__(self, shards_in: Store, embeddings_in: Store, config: UniFusionConfig, compat: Compat | None) -> None:
        super().__init__(shards_in)
        self.embeddings, self.config, self.compat = embeddings_in, config, compat
        self.starts = torch.tensor([0, *self.sizes]).cumsum(0)
        self.empty = embeddings_in.read(embeddings.EMPTY_FILE, lambda path: embeddings.read_empty(path.parent))
        self.open: OrderedDict[int, _Shard] = OrderedDict()

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        for gone in [number for number, shard in self.open.items() if not shard.path.exists()]:
            del self.open[gone]  # or its bytes stay on the disk
        shard_B = torch.searchsorted(self.starts, chosen_B, right=True) - 1
        places = list(zip(shard_B.tolist(), (chosen_B - self.starts[shard_B]).tolist(), strict=True))
        parts = [
            self._shard(shard).read(place, view)
            for (shard, place), view in zip(places, mirrored_B.tolist(), strict=True)
        ]
        latent_mean, latent_std, prompts, captions, categories = zip(*parts, strict=True)
        layouts = [self.sample(number).layout for number in chosen_B.tolist()]
        latents = torch.stack(latent_mean), torch.stack(latent_std)
        return gathered(
            layouts, captions, categories, latents, torch.stack(prompts), mirrored_B, self.config, self.compat
        )

    def _shard(self, number: int) -> "_Shard":
        if number not in self.open:
            start, size = int(self.starts[number]), self.sizes[number]
            keys = [row["key"] for row in self.rows[start : start + size]]
            name = f"{Path(self.names[number]).stem}.safetensors"
            self.open[number] = self.embeddings.read(name, lambda path: _Shard(path, keys))
            if len(self.open) > OPEN_FILES:
                self.open.popitem(last=False)
        self.open.move_to_end(number)
        return self.open[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"open": OrderedDict()}


def last(store: Store, count: int) -> list[Layout]:
    """The layouts of the last `count` samples of some shards."""
    index = ShardIndex(store)
    return [index.sample(number).layout for number in range(len(index.rows))[-count:]]


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
