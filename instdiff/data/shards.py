"""Shards: pictures and layouts in WebDataset tars, with an index that says where each lies.

A sample is three members of a tar, one after the other:

    <key>.png                       the picture's file as it came, never encoded again
    <key>.json.gz                   the layout, without the long lists of points
    <key>.strokes.safetensors.gz    scribbles and outlines, uint16 (2, points), named "scribble/<instance>", ...

Points are counted in steps of a grid that has the pixels of the instance's mask among its places: whole pixels, as
`sketch` draws them, come back exactly, other points to 1/65536 of the picture's longer side.
"""

import gzip
import hashlib
import io
import json
import math
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from instdiff.data.index import INDEX_FILE, Index, IndexRow
from instdiff.layouts import from_tables
from instdiff.layouts.formats import LOCATION_FORMATS
from instdiff.schema import Instance, Layout, Point

LAYOUT, STROKES = "json.gz", "strokes.safetensors.gz"
LONG = tuple(entry.name for entry in LOCATION_FORMATS if entry.kind == "points")
LARGEST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Sample:
    """A picture's file, its kind ("png", "jpg") and its layout."""

    key: str
    picture: bytes
    kind: str
    layout: Layout


def read(folder: Path) -> Iterator[Sample]:
    """Every sample of a folder of shards, in the index's order; ValueError names shard and key of a damaged one."""
    index = Index(folder / INDEX_FILE)
    for shard in range(len(index.shards)):
        for row in index.rows(shard):
            yield read_one(folder, row)


def read_index(folder: Path) -> pd.DataFrame:
    """Where each sample lies: the INDEX table, all of it in memory."""
    table: pd.DataFrame = Index(folder / INDEX_FILE).table().to_pandas()
    return table


def read_one(folder: Path, row: IndexRow) -> Sample:
    """The sample of one row of the index."""
    with (folder / row["shard"]).open("rb") as tar:
        tar.seek(row["offset"])
        return _read(tar.read(row["size"]), row, folder)


def encode(sample: Sample) -> dict[str, bytes]:
    """The members of the sample by their extension, in the order in which they are written."""
    short = [instance.model_copy(update=dict.fromkeys(LONG)) for instance in sample.layout.instances]
    layout = sample.layout.model_copy(update={"instances": tuple(short)})
    strokes = {
        f"{name}/{number}": _steps(points, instance)
        for number, instance in enumerate(sample.layout.instances)
        for name in LONG
        if (points := getattr(instance, name)) is not None
    }
    return {sample.kind: sample.picture, LAYOUT: _packed(_json(layout)), STROKES: _packed(save(strokes))}


def decode(key: str, members: dict[str, bytes]) -> Sample:
    """The sample of these members; ValueError says what is wrong with them."""
    kinds = sorted(members.keys() - {LAYOUT, STROKES})
    if len(kinds) != 1 or LAYOUT not in members or STROKES not in members:
        raise ValueError(f"expected a picture, {LAYOUT} and {STROKES}, found {', '.join(sorted(members)) or 'nothing'}")
    try:
        layout = Layout.model_validate_json(gzip.decompress(members[LAYOUT]))
        strokes = load(gzip.decompress(members[STROKES]))
    except (ValidationError, SafetensorError, OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    instances = tuple(_with_strokes(instance, number, strokes) for number, instance in enumerate(layout.instances))
    return Sample(key, members[kinds[0]], kinds[0], layout.model_copy(update={"instances": instances}))


def _with_strokes(instance: Instance, number: int, strokes: dict[str, NDArray[np.uint16]]) -> Instance:
    stored = {name: strokes[f"{name}/{number}"] for name in LONG if f"{name}/{number}" in strokes}
    grid = _grid(instance)
    return instance.model_copy(
        update={name: tuple(map(Point._make, (steps.T / grid).tolist())) for name, steps in stored.items()}
    )


def _steps(points: Sequence[Point], instance: Instance) -> NDArray[np.uint16]:
    """(2, points): x and y in steps of the grid."""
    places = np.reshape(points, (-1, 2))
    if not ((places >= 0) & (places <= 1)).all():
        raise ValueError(f"a stroke of {instance.phrase!r} leaves the picture")
    return np.ascontiguousarray(np.rint(places * _grid(instance)).T.astype(np.uint16))


def _grid(instance: Instance) -> NDArray[np.float64]:
    """Steps across and down: the pixels of the mask (without a mask, one), halved as often as a uint16 allows."""
    height, width = instance.mask.size if instance.mask is not None else (1, 1)
    halvings = math.floor(math.log2(LARGEST / max(height, width, 1)))
    return np.array([width, height]) * 2.0**halvings


def _read(data: bytes, row: IndexRow, folder: Path) -> Sample:
    where = f"{folder / row['shard']}: {row['key']}"
    if hashlib.sha256(data).digest() != row["sha256"]:
        raise ValueError(f"{where}: the bytes are not those the index was made for")
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            members[member.name.removeprefix(f"{row['key']}.")] = content.read()
    try:
        return decode(row["key"], members)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _json(layout: Layout) -> bytes:
    return json.dumps(from_tables.to_json(layout), ensure_ascii=False, separators=(",", ":")).encode()


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
