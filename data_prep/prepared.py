"""Prepared data as it lies: a folder of shards, or the tables of a run.

Whoever counts reads columns, some pictures at a time; whoever shows or writes pictures asks for samples by their
places. Memory depends on a chunk, not on how many there are.
"""

import hashlib
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from data_prep.columns import PICTURES
from data_prep.exchange.sample import Sample
from instdiff.data import shards
from instdiff.data.index import INDEX_FILE, Index, IndexRow
from instdiff.files import tables
from instdiff.files.texts import one_line
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED
from instdiff.layouts.formats import FORMATS
from instdiff.work import packs
from instdiff.work.pictures import pictures_of_pack

AT_ONCE = 256  # samples of shards in memory


class Chunk(NamedTuple):
    """Some pictures, and their instances.

    `images` has at least the columns key, width, height, caption and sha256; `instances` has key, category, caption,
    and each location format, None where it is not given.
    """

    images: pd.DataFrame
    instances: pd.DataFrame


class Prepared(Protocol):
    """Pictures with their layouts, in an order of their own; places count from 0."""

    @property
    def num_pictures(self) -> int:
        """How many, by the metadata of the tables alone."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """The columns of all."""
        ...

    def samples(self, places: Collection[int]) -> Iterator[tuple[int, Sample]]:
        """The pictures at these places, in the order of the places."""
        ...


@dataclass(frozen=True)
class Tables:
    """A split of a run: its pictures in packs, their table, and the annotated instances."""

    pictures: Path
    images: Path
    annotated: Path

    @property
    def num_pictures(self) -> int:
        """How many."""
        return packs.num_rows(self.images)

    def chunks(self) -> Iterator[Chunk]:
        """A chunk a pack."""
        for part in self._parts():
            yield self._chunk(part)

    def samples(self, places: Collection[int]) -> Iterator[tuple[int, Sample]]:
        """Read the packs that hold them."""
        start = 0
        for part in self._parts():
            stop = start + int(pq.read_metadata(part).num_rows)
            wanted = [place for place in range(start, stop) if place in places]
            if wanted:
                yield from self._samples(part, wanted, start)
            start = stop

    def _samples(self, part: Path, places: list[int], start: int) -> Iterator[tuple[int, Sample]]:
        images, instances = self._chunk(part)
        pictures = pictures_of_pack(self.pictures / f"{part.stem}.tar", images)
        rows = dict(iter(instances.groupby("key", sort=False)))
        for place in places:
            picture = pictures[place - start]
            own = rows.get(picture.key, instances.iloc[:0])
            (layout,) = from_tables.from_tables(images.iloc[[place - start]], own)
            size = int(picture.width), int(picture.height)
            yield place, Sample(picture.key, picture.encoded(), picture.kind, *size, layout)

    def _parts(self) -> list[Path]:
        return sorted(self.images.glob("*.parquet"))

    def _chunk(self, part: Path) -> Chunk:
        return Chunk(tables.read(part, PICTURES), tables.read(self.annotated / part.name, ANNOTATED))


@dataclass(frozen=True)
class Shards:
    """A folder of shards."""

    folder: Path

    @property
    def num_pictures(self) -> int:
        """How many."""
        return len(self._index)

    def chunks(self) -> Iterator[Chunk]:
        """A chunk for each AT_ONCE samples, in the order of the index."""
        index = self._index
        for start in range(0, len(index), AT_ONCE):
            stop = min(start + AT_ONCE, len(index))
            samples = [self._sample(index.row(place)) for place in range(start, stop)]
            images = [
                {
                    "key": sample.key,
                    "width": sample.width,
                    "height": sample.height,
                    "caption": sample.layout.prompt,
                    "sha256": hashlib.sha256(sample.encoded).hexdigest(),
                }
                for sample in samples
            ]
            instances = [
                {"key": sample.key, "category": instance.category, "caption": instance.phrase}
                | {name: getattr(instance, name) for name in FORMATS}
                for sample in samples
                for instance in sample.layout.instances
            ]
            names = ["key", "category", "caption", *FORMATS]
            yield Chunk(pd.DataFrame(images), pd.DataFrame(instances, columns=names, dtype=object))

    def samples(self, places: Collection[int]) -> Iterator[tuple[int, Sample]]:
        """Read them alone."""
        index = self._index
        for place in sorted(places):
            yield place, self._sample(index.row(place))

    @cached_property
    def _index(self) -> Index:
        return Index(self.folder / INDEX_FILE)

    def _sample(self, row: IndexRow) -> Sample:
        stored = shards.read_one(self.folder, row)
        try:
            with Image.open(io.BytesIO(stored.picture)) as image:
                width, height = image.size
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            where = f"{self.folder / row['shard']}: {row['key']}"
            raise ValueError(f"{where}: the picture cannot be read ({one_line(error)})") from error
        return Sample(stored.key, stored.picture, stored.kind, width, height, stored.layout)


def find(path: Path, split: str) -> Prepared:
    """A folder of shards, or of a run's tables (`data`); ValueError where it is neither, or lacks the split."""
    if (path / INDEX_FILE).is_file():
        return Shards(path)
    folders = [path / name / split for name in ("pictures", "images", "annotated")]
    lacking = [folder for folder in folders if not folder.is_dir()]
    if len(lacking) == len(folders):
        what = (
            f"has neither {INDEX_FILE}, as shards have, nor the tables of a run" if path.is_dir() else "no such folder"
        )
        raise ValueError(f"{path}: {what}")
    if lacking:
        raise ValueError(
            f"{lacking[0]}: no such folder, beside the tables of a run: dvc repro annotate@{split} makes it"
        )
    return Tables(*folders)
