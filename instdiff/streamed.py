"""Streamed samples: read when they are asked for, from a disk or through it from any store that fsspec knows.

Legend: B batch, V views, I instances of a sample, N slots, D features.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import fsspec
import torch
from safetensors import safe_open
from torch import Tensor

from instdiff import atomic, conditions, embeddings, shards, tables
from instdiff.conditions import Compat
from instdiff.samples import Gathered, fitting, laid_out, padded
from instdiff.schema import INDEX, Layout
from instdiff.unifusion import UniFusionConfig

OPEN_FILES = 64


@dataclass(frozen=True)
class Store:
    """A folder, or a URL with a folder for the copies of what was read."""

    folder: Path
    url: str | None = None

    def path(self, name: str) -> Path:
        """The file on the disk; fetched whole, once for all processes that share the folder."""
        here = self.folder / name
        if self.url is not None and not here.exists():
            with atomic.file(here) as part, fsspec.open(f"{self.url}/{name}", "rb") as remote, part.open("wb") as copy:
                while block := remote.read(1 << 24):
                    copy.write(block)
        return here


class Streamed:
    """Samples of shards and of the embeddings beside them; a few files are open at a time, no sample is kept."""

    def __init__(self, shards_in: Store, embeddings_in: Store, config: UniFusionConfig, compat: Compat | None) -> None:
        self.shards, self.embeddings, self.config, self.compat = shards_in, embeddings_in, config, compat
        index = tables.read(shards_in.path(shards.INDEX_FILE), INDEX)
        self.rows = index.to_dict("records")
        of_shard = index.groupby("shard", sort=False).size()
        self.names, self.sizes = tuple(of_shard.index), tuple(int(size) for size in of_shard)
        self.starts = torch.tensor([0, *self.sizes]).cumsum(0)
        embeddings_in.path(embeddings.EMPTY_FILE)
        self.empty = embeddings.read_empty(embeddings_in.folder)
        self.open: OrderedDict[int, _Shard] = OrderedDict()

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        shard_B = torch.searchsorted(self.starts, chosen_B, right=True) - 1
        places = list(zip(shard_B.tolist(), (chosen_B - self.starts[shard_B]).tolist(), strict=True))
        parts = [
            self._shard(shard).read(place, view)
            for (shard, place), view in zip(places, mirrored_B.tolist(), strict=True)
        ]
        latent_mean, latent_std, prompt, captions, categories = zip(*parts, strict=True)
        layouts = [self._layout(number) for number in chosen_B.tolist()]
        drawn = laid_out(layouts, captions, self.config, self.compat)
        both = conditions.cat([drawn, conditions.mirrored(drawn)])
        shown = both.rows(torch.arange(len(chosen_B)) + len(chosen_B) * mirrored_B.long())
        mean, std, prompts = (torch.stack(one).float() for one in (latent_mean, latent_std, prompt))
        pairs = zip(layouts, categories, strict=True)
        fit = [one[fitting(layout, self.config.max_instances)] for layout, one in pairs]
        return Gathered(mean, std, prompts, shown, padded(fit, drawn.text_BND))

    def _layout(self, number: int) -> Layout:
        row = self.rows[number]
        return shards.read_one(self.shards.path(row["shard"]).parent, row).layout

    def _shard(self, number: int) -> "_Shard":
        if number not in self.open:
            start, size = int(self.starts[number]), self.sizes[number]
            keys = [row["key"] for row in self.rows[start : start + size]]
            self.open[number] = _Shard(self.embeddings.path(f"{Path(self.names[number]).stem}.safetensors"), keys)
            if len(self.open) > OPEN_FILES:
                self.open.popitem(last=False)
        self.open.move_to_end(number)
        return self.open[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"open": OrderedDict()}


def last(store: Store, count: int) -> list[Layout]:
    """The layouts of the last `count` samples of some shards."""
    rows = tables.read(store.path(shards.INDEX_FILE), INDEX).tail(count).to_dict("records")
    return [shards.read_one(store.path(row["shard"]).parent, row).layout for row in rows]


class _Shard:
    """One file of embeddings, read a sample at a time."""

    def __init__(self, path: Path, keys: list[str]) -> None:
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
