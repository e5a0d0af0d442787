"""shard: put pictures and layouts into WebDataset tars.   pictures, images, annotated -> shards

Nothing is dropped: a picture none of whose instances was kept is a sample with an empty layout. A pack becomes a shard
of its own, or several where it is too large for one; pictures that come or go change the shards of their pack alone.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import PositiveInt

from data_prep.columns import PICTURES
from data_prep.exchange import energon
from data_prep.sources.packing import Tar
from instdiff import stage
from instdiff.data import index
from instdiff.data.index import INDEX, INDEX_FILE
from instdiff.data.shards import Sample, encode
from instdiff.files import tables
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED
from instdiff.schema import Layout, Strict
from instdiff.work import packs, resume
from instdiff.work.ledger import Ledger
from instdiff.work.packs import Counts, Outputs
from instdiff.work.parts import Execution
from instdiff.work.pictures import Picture, pictures_of_pack

MEGABYTE = 1_000_000
LONGEST_KEY = 76  # a member's name, key and extension, has 100 bytes in a tar


class Entry(NamedTuple):
    """A sample to be written."""

    picture: Picture
    layout: Layout
    sha256: str  # of the picture's file
    length: int  # bytes of the picture's file


class Params(Strict):
    """How the samples of a pack are cut into shards."""

    samples_per_shard: PositiveInt  # at most
    megabytes_per_shard: PositiveInt  # of pictures: a shard is full when it has as many
    work: Execution


def run(*, pictures: Path, images: Path, annotated: Path, shards: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From pictures, images and annotated to shards and their index, in the order of images."""
    all_packs = packs.of(images=images, annotated=annotated)
    makes = [
        (pack.name, pack.digest, partial(shard, tar=pictures / f"{pack.name}.tar", parts=pack.parts, params=params))
        for pack in all_packs
    ]
    to = Outputs({"shards": shards}, ledger, packs.place(shards))
    counts = packs.update(packs.jobs(makes, resume.digest(__name__, params), to), to, params.work, _join_indices)
    return {"shards": 0, "samples": 0, "instances": 0, "without_instances": 0, **counts}


def shard(
    folder: Path, _before: Path | None, *, tar: Path, parts: Mapping[str, Path], params: Params
) -> tuple[Ledger, Counts]:
    """Write the shards of a pack, and its rows of the index."""
    images = tables.read(parts["images"], PICTURES)
    layouts = from_tables.from_tables(images, tables.read(parts["annotated"], ANNOTATED))
    columns = zip(pictures_of_pack(tar, images), layouts, images["sha256"], images["length"], strict=True)
    full = cut([Entry(*row) for row in columns], params)
    names = (
        [f"{packs.NUMBER}.tar"] if len(full) == 1 else [f"{packs.NUMBER}-{part:03d}.tar" for part in range(len(full))]
    )
    to = folder / "shards"
    rows = [row for name, entries in zip(names, full, strict=True) for row in write_shard(to / name, entries)]
    tables.write(to / f"{packs.NUMBER}.parquet", rows, INDEX)
    return Ledger(), {
        "shards": len(full),
        "samples": len(layouts),
        "instances": sum(len(layout.instances) for layout in layouts),
        "without_instances": sum(not layout.instances for layout in layouts),
    }


def _join_indices(_output: str, shards: Path) -> None:
    """One index of all packs, and each pack's own: it names the shards by their places in the pack.

    What Megatron-Energon wants to know of them stands beside them, too.
    """
    samples: dict[str, int] = {}

    def renamed() -> Iterator[pa.Table]:
        for path in sorted(shards.glob("*.parquet")):
            rows = _renamed(pq.read_table(path), path.stem)
            samples.update(energon.write_starts(shards, rows))
            yield rows

    index.write(shards / INDEX_FILE, renamed())
    energon.describe(shards, samples)


def _renamed(rows: pa.Table, pack: str) -> pa.Table:
    shard = pc.replace_substring(rows["shard"], packs.NUMBER, pack)
    return rows.set_column(0, INDEX.field("shard"), shard)


def cut(todo: Sequence[Entry], params: Params) -> list[list[Entry]]:
    """The samples of each shard, in order: as many as fit into either limit, and never none."""
    full: list[list[Entry]] = []
    room = 0
    for entry in todo:
        if not full or room <= 0 or len(full[-1]) == params.samples_per_shard:
            full.append([])
            room = params.megabytes_per_shard * MEGABYTE
        full[-1].append(entry)
        room -= entry.length
    return full


def write_shard(path: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Write one tar, the same bytes for the same samples whoever writes it when; return its rows of the index."""
    samples = ((_named(entry.picture.key), encode(_sample(entry))) for entry in entries)
    return [
        {"shard": path.name, "num_instances": len(entry.layout.instances), **row}
        for entry, row in zip(entries, write_members(path, samples), strict=True)
    ]


def write_members(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> list[dict[str, Any]]:
    """Write the members of each key, by their extension; return where each sample lies, and the hash of its bytes."""
    rows: list[dict[str, Any]] = []
    with path.open("wb") as stream, closing(Tar(stream)) as tar:
        for key, members in samples:
            start = tar.end
            for kind in sorted(members):
                tar.add(f"{key}.{kind}", members[kind])
            rows.append({"key": key, "offset": start, "size": tar.end - start})
    with path.open("rb") as tar_file:  # read in the order they lie in
        return [{**row, "sha256": hashlib.sha256(tar_file.read(row["size"])).digest()} for row in rows]


def _named(key: str) -> str:
    """The key, if a tar's members can be named by it."""
    if not key.isascii() or len(key) > LONGEST_KEY or set(key) & set("./\\"):
        raise ValueError(f"key {key!r}: a sample's key is at most {LONGEST_KEY} ASCII characters without dot or slash")
    return key


def _sample(entry: Entry) -> Sample:
    encoded = entry.picture.encoded()
    if hashlib.sha256(encoded).hexdigest() != entry.sha256:
        raise ValueError(f"{entry.picture.name}: not the file that ingest stored")
    return Sample(entry.picture.key, encoded, entry.picture.kind, entry.layout)


if __name__ == "__main__":
    stage.main(run)
