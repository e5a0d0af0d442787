"""Prepared data as it lies, some pictures at a time: a folder of shards, or the tables of a run.

Whoever counts reads the columns of a chunk; whoever shows or writes a picture asks for its sample. Memory depends on
the chunk, not on how many there are.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_prep.columns import PICTURES
from data_prep.exchange.sample import Sample
from instdiff import tables
from instdiff.data import shards
from instdiff.formats import FORMATS
from instdiff.layouts import from_tables
from instdiff.tables import ANNOTATED
from instdiff.texts import one_line
from instdiff.work import packs
from instdiff.work.pictures import Picture, pictures_of_pack

AT_ONCE = 256  # samples of a shard in memory


class Chunk(ABC):
    """Some pictures and their instances.

    `images` has at least the columns key, width, height, caption and sha256; `instances` has key, index, category,
    caption, and each location format, None where it is not given.
    """

    images: pd.DataFrame
    instances: pd.DataFrame

    @abstractmethod
    def sample(self, place: int) -> Sample:
        """The picture and the layout of a row of `images`."""


@dataclass(frozen=True)
class TableChunk(Chunk):
    """A pack of a run's tables."""

    images: pd.DataFrame
    instances: pd.DataFrame
    pictures: Sequence[Picture]

    @cached_property
    def _rows(self) -> dict[str, Any]:
        return dict(iter(self.instances.groupby("key", sort=False)))

    def sample(self, place: int) -> Sample:
        """Read the picture's file, and put its layout together."""
        picture = self.pictures[place]
        own = self._rows.get(picture.key, self.instances.iloc[:0])
        (layout,) = from_tables.from_tables(self.images.iloc[[place]], own)
        return Sample(picture.key, picture.encoded(), picture.kind, int(picture.width), int(picture.height), layout)


@dataclass(frozen=True)
class ShardChunk(Chunk):
    """Some samples of a folder of shards."""

    images: pd.DataFrame
    instances: pd.DataFrame
    samples: Sequence[Sample]

    def sample(self, place: int) -> Sample:
        """It is in memory."""
        return self.samples[place]


def is_shards(path: Path) -> bool:
    """Whether a folder is one of shards; ValueError where it is neither that nor the tables of a run."""
    if (path / shards.INDEX_FILE).is_file():
        return True
    if (path / "images").is_dir() and (path / "annotated").is_dir():
        return False
    what = "has neither index.parquet, as shards have, nor images/ and annotated/, as the tables of a run"
    raise ValueError(f"{path}: {what if path.is_dir() else 'no such folder'}")


def num_pictures(path: Path, split: str) -> int:
    """How many there are, from the metadata of the tables alone."""
    if is_shards(path):
        return int(pq.read_metadata(path / shards.INDEX_FILE).num_rows)
    return packs.num_rows(path / "images" / split)


def chunks(path: Path, split: str) -> Iterator[Chunk]:
    """Those of a folder of shards, or of a run's folder (`data`), which has pictures/, images/ and annotated/.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    if is_shards(path):
        return of_shards(path)
    return of_tables(path / "pictures" / split, path / "images" / split, path / "annotated" / split)


def of_tables(pictures: Path, images: Path, annotated: Path) -> Iterator[Chunk]:
    """A chunk a pack."""
    for part in sorted(images.glob("*.parquet")):
        table = tables.read(part, PICTURES)
        rows = tables.read(annotated / part.name, ANNOTATED)
        yield TableChunk(table, rows, pictures_of_pack(pictures / f"{part.stem}.tar", table))


def of_shards(folder: Path) -> Iterator[Chunk]:
    """A chunk for each AT_ONCE samples, in the order of the index."""
    for rows in _index(folder):
        samples = [_sample(shards.read_one(folder, row), folder, row) for row in rows]
        images = [
            {"key": one.key, "width": one.width, "height": one.height, "caption": one.layout.prompt, "sha256": None}
            for one in samples
        ]
        instances = [
            {"key": one.key, "index": index, "category": each.category, "caption": each.phrase}
            | {name: getattr(each, name) for name in FORMATS}
            for one in samples
            for index, each in enumerate(one.layout.instances)
        ]
        names = ["key", "index", "category", "caption", *FORMATS]
        yield ShardChunk(pd.DataFrame(images), pd.DataFrame(instances, columns=names, dtype=object), samples)


def _index(folder: Path) -> Iterator[list[dict[str, Any]]]:
    path = folder / shards.INDEX_FILE
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: not a readable Parquet table ({one_line(error)})") from error
    for name in shards.INDEX.names:
        if name not in file.schema_arrow.names:
            raise ValueError(f"{path}: column {name!r} is missing")
    for batch in file.iter_batches(AT_ONCE):
        yield batch.to_pylist()


def _sample(stored: shards.Sample, folder: Path, row: dict[str, Any]) -> Sample:
    try:
        with Image.open(io.BytesIO(stored.picture)) as image:
            width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        where = f"{folder / row['shard']}: {row['key']}"
        raise ValueError(f"{where}: the picture cannot be read ({one_line(error)})") from error
    return Sample(stored.key, stored.picture, stored.kind, width, height, stored.layout)
