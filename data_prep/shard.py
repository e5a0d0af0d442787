"""shard: pack pictures and layouts into WebDataset tars.   pictures, images, annotated -> shards

Nothing is dropped: a picture none of whose instances was kept is a sample with an empty layout.
"""

import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import PositiveInt
from webdataset import TarWriter

from instdiff import atomic, stage, tables
from instdiff.data.shards import INDEX, INDEX_FILE, Sample, encode
from instdiff.layouts import from_tables
from instdiff.progress import track
from instdiff.schema import Layout, Strict
from instdiff.tables import ANNOTATED, IMAGES
from instdiff.work import parts, resume
from instdiff.work.pictures import Picture, pictures_of

Entry = tuple[Picture, Layout, str]  # with the hash of the picture's file
MEGABYTE = 1_000_000
LONGEST_KEY = 76  # a member's name, key and extension, has 100 bytes in a tar


class Params(Strict):
    """How the samples are cut into shards."""

    samples_per_shard: PositiveInt  # at most
    megabytes_per_shard: PositiveInt  # of pictures: a shard is full when it has as many


def run(*, pictures: Path, images: Path, annotated: Path, shards: Path, params: Params) -> dict[str, int]:
    """From pictures, images and annotated to shards and their index, in the order of images."""
    table = tables.read(images, IMAGES)
    laid_out = from_tables.from_tables(table, tables.read(annotated, ANNOTATED))
    todo = list(zip(pictures_of(pictures, table), laid_out, table["sha256"], strict=True))
    scratch = parts.place(shards, resume.digest(__name__, params, images, annotated))
    full = cut(todo, params)
    made = [scratch / f"{number:05d}" for number in range(len(full))]
    for part, entries in track(zip(made, full, strict=True), len(made), "shards"):
        if not part.is_dir():
            with atomic.folder(part) as to:
                tables.write(to / INDEX_FILE, write_shard(to / f"{part.name}.tar", entries), INDEX)
    with atomic.folder(shards) as to:
        for part in made:
            atomic.link(part / f"{part.name}.tar", to / f"{part.name}.tar")
        index = parts.joined([pq.read_table(part / INDEX_FILE) for part in made], INDEX)
        tables.write(to / INDEX_FILE, index, INDEX)
    parts.clear(scratch, keep=False)
    return {
        "shards": len(made),
        "samples": len(todo),
        "instances": sum(len(layout.instances) for layout in laid_out),
        "without_instances": sum(not layout.instances for layout in laid_out),
    }


def cut(todo: Sequence[Entry], params: Params) -> list[list[Entry]]:
    """The pictures of each shard, in order: as many as fit into either limit, and never none."""
    full: list[list[Entry]] = []
    room = 0
    for entry in todo:
        if not full or room <= 0 or len(full[-1]) == params.samples_per_shard:
            full.append([])
            room = params.megabytes_per_shard * MEGABYTE
        full[-1].append(entry)
        room -= entry[0].path.stat().st_size
    return full


def write_shard(path: Path, part: Sequence[Entry]) -> list[dict[str, Any]]:
    """Write one tar, the same bytes for the same samples whoever writes it when; return its rows of the index."""
    with path.open("wb") as stream, TarWriter(stream, encoder=False, mtime=0, user="", group="") as tar:
        for picture, layout, sha256 in part:
            tar.write({"__key__": _named(picture.key), **encode(_sample(picture, layout, sha256))})
    num_instances = {layout.key: len(layout.instances) for _, layout, _ in part}
    return [
        {"shard": path.name, "key": key, "num_instances": num_instances[key], **place}
        for key, place in _places(path).items()
    ]


def _named(key: str) -> str:
    """The key, if a tar's members can be named by it."""
    if not key.isascii() or len(key) > LONGEST_KEY or set(key) & set("./\\"):
        raise ValueError(f"key {key!r}: a sample's key is at most {LONGEST_KEY} ASCII characters without dot or slash")
    return key


def _sample(picture: Picture, layout: Layout, sha256: str) -> Sample:
    encoded = picture.path.read_bytes()
    if hashlib.sha256(encoded).hexdigest() != sha256:
        raise ValueError(f"{picture.path}: not the file that ingest stored")
    return Sample(picture.key, encoded, picture.path.suffix.removeprefix("."), layout)


def _places(path: Path) -> dict[str, dict[str, Any]]:
    """Offset, size and hash of each sample, from its first member's header to the end of its last member's block."""
    ends: dict[str, tuple[int, int]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key = member.name.partition(".")[0]
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            ends[key] = (ends.get(key, (member.offset, 0))[0], end)
    written = path.read_bytes()
    return {
        key: {"offset": start, "size": end - start, "sha256": hashlib.sha256(written[start:end]).hexdigest()}
        for key, (start, end) in ends.items()
    }


if __name__ == "__main__":
    stage.main(run)
