"""instdiff validate shards: read everything in a folder of shards and name what is wrong with it."""

import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from PIL import Image

from instdiff.data.index import INDEX, IndexRow
from instdiff.data.shards import Sample, read_index, read_one
from instdiff.layouts import masks
from instdiff.layouts.formats import POINT_FORMATS, points_of
from instdiff.options import Parser
from instdiff.progress import track
from instdiff.schema import Instance


def main(arguments: Sequence[str]) -> None:
    """Print a line a fault; end with code 1 when there was one."""
    options = Parser(prog="instdiff validate shards", description=__doc__)
    options.add_argument("folder", type=Path, help="what the stage shard wrote")
    folder = options.parse_args(arguments).folder
    sentences = list(faults(folder))
    for fault in sentences:
        print(fault)
    index = read_index(folder)
    print(
        f"{folder}: {index['shard'].nunique()} shards, {len(index)} samples, {index['num_instances'].sum()} instances, "
        f"{len(sentences)} faults"
    )
    if sentences:
        sys.exit(1)


def faults(folder: Path) -> Iterator[str]:
    """A sentence for each fault: of the index, of a tar, of a sample."""
    index = read_index(folder)
    for key in index["key"][index["key"].duplicated()].unique():
        yield f"{folder}: {key} stands in the index more than once"
    on_disk, listed = {path.name for path in folder.glob("*.tar")}, set(index["shard"])
    for name in sorted(on_disk - listed):
        yield f"{folder / name}: not in the index"
    for name in sorted(listed - on_disk):
        yield f"{folder / name}: in the index, but not there"
    there = index[index["shard"].isin(on_disk)]
    for shard, rows_of_shard in there.groupby("shard", sort=False):
        yield from _of_tar(folder / str(shard), rows_of_shard)
    rows = pa.Table.from_pandas(there, INDEX, preserve_index=False).to_pylist()
    for row in track(rows, len(rows), "samples"):
        yield from _of_sample(folder, row)


def _of_tar(path: Path, rows: pd.DataFrame) -> Iterator[str]:
    """Samples must lie one after the other, from the first byte to the end of the archive's last member."""
    place = 0
    for row in rows.sort_values("offset").to_dict("records"):
        if row["offset"] != place:
            yield f"{path}: {row['key']} starts at byte {row['offset']}, the sample before it ends at {place}"
        place = row["offset"] + row["size"]
    with path.open("rb") as tar:
        tar.seek(place)
        if tar.read(tarfile.BLOCKSIZE).strip(b"\0"):
            yield f"{path}: goes on after the last sample of the index"


def _of_sample(folder: Path, row: IndexRow) -> Iterator[str]:
    where = f"{folder / row['shard']}: {row['key']}"
    try:
        sample = read_one(folder, row)
        width, height = _size(sample)
    except (ValueError, OSError, tarfile.TarError) as error:  # a damaged sample names itself
        yield str(error) if str(error).startswith(where) else f"{where}: {error}"
        return
    if sample.layout.key != row["key"]:
        yield f"{where}: its layout is of {sample.layout.key}"
    if len(sample.layout.instances) != row["num_instances"]:
        yield f"{where}: {len(sample.layout.instances)} instances, {row['num_instances']} in the index"
    for number, instance in enumerate(sample.layout.instances):
        for fault in _of_instance(instance, (height, width)):
            yield f"{where}: instance {number}: {fault}"


def _size(sample: Sample) -> tuple[int, int]:
    """Width and height of the picture, all of it decoded."""
    try:
        with Image.open(io.BytesIO(sample.picture)) as image:
            image.load()
            return image.size
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ValueError(f"the picture cannot be read ({type(error).__name__}: {error})") from error


def _of_instance(instance: Instance, size: tuple[int, int]) -> Iterator[str]:
    if instance.box is not None:
        x0, y0, x1, y1 = instance.box
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            yield f"box {x0:g}, {y0:g}, {x1:g}, {y1:g} is not a part of the picture"
    for entry in POINT_FORMATS:
        if not all(0 <= point.x <= 1 and 0 <= point.y <= 1 for point in points_of(instance, entry)):
            yield f"{entry.name} leaves the picture"
    if instance.mask is not None:
        if instance.mask.size != size:
            yield f"mask of {instance.mask.size[0]}x{instance.mask.size[1]}, picture of {size[0]}x{size[1]}"
        try:
            if not masks.decode(instance.mask).any():
                yield "mask is empty"
        except ValueError as error:
            yield f"mask: {error}"
