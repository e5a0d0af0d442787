"""An index of ten million samples: to open it, to draw the first batches of epochs, and what a second process adds.

SAMPLES=10000000 OMP_NUM_THREADS=1 pytest -s bench/test_index.py

The shards are one tar under many names, so that any sample can be read; the index is of full size.
"""

import os
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import torch
import train_world as world
from data_world import picture, prepared

from data_prep.shard import write_members
from instdiff.data import embeddings, index
from instdiff.data.batches import Batches
from instdiff.data.embeddings import Embedded, Empty
from instdiff.data.from_shards import FromShards, ShardSet, Store
from instdiff.data.index import INDEX, INDEX_FILE
from instdiff.data.shards import Sample, encode
from instdiff.files import atomic
from instdiff.schema import Box, Instance, Layout

PER_SHARD = 4000
SHARDS = int(os.environ.get("SAMPLES", "10000000")) // PER_SHARD
HOW = {"seed": 5, "rank": 0, "num_processes": 1, "accumulate": 1, "held_out": 0}


def made(root: Path) -> None:
    """Shards and embeddings."""
    prepared(root)
    encoded, key = picture(root, "train-mixed-000000"), "{:016d}"
    for name in ("shards", "embeddings"):
        (root / name).mkdir()
    instance = Instance(phrase="a kite", category="kite", box=Box(0.1, 0.1, 0.9, 0.9))
    layouts = [Layout(key=key.format(place), prompt="kites", instances=(instance,)) for place in range(PER_SHARD)]
    samples = ((layout.key, encode(Sample(layout.key, encoded, "png", layout))) for layout in layouts)
    rows = pa.Table.from_pylist(
        [{"shard": "", "num_instances": 1, **row} for row in write_members(root / "shards" / "first.tar", samples)],
        INDEX,
    )
    latents, texts = torch.zeros(PER_SHARD, 2, 4, 8, 8), torch.zeros(PER_SHARD, world.WIDTH)
    prompts, start = torch.zeros(PER_SHARD, 3, world.WIDTH), torch.arange(PER_SHARD + 1)
    keys = tuple(layout.key for layout in layouts)
    whole = Embedded(keys, latents, latents.clone(), prompts, texts, texts.clone(), start)
    embeddings.write_one(root / "embeddings" / "first.safetensors", whole)
    embeddings.write_empty(root / "embeddings", Empty(torch.zeros(3, world.WIDTH), torch.zeros(world.WIDTH)))
    names = [f"{shard:05d}-000" for shard in range(SHARDS)]
    for name in names:
        atomic.link(root / "shards" / "first.tar", root / "shards" / f"{name}.tar")
        atomic.link(root / "embeddings" / "first.safetensors", root / "embeddings" / f"{name}.safetensors")
    parts = (rows.set_column(0, INDEX.field("shard"), pa.array([f"{name}.tar"] * PER_SHARD)) for name in names)
    index.write(root / "shards" / INDEX_FILE, parts)


def memory() -> dict[str, float]:
    """MB of this process: all that it sees, its part of what processes share, and what is its own."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return {"rss": kb["Rss"] / 1024, "pss": kb["Pss"] / 1024, "own": (kb["Private_Clean"] + kb["Private_Dirty"]) / 1024}


def opened(root: Path, says: str) -> Batches:
    """Open the set, draw the first batch of two epochs, and print seconds and growth."""
    before, began = memory(), time.perf_counter()
    source = FromShards([ShardSet(Store(root / "shards"), Store(root / "embeddings"))], world.PARAMS.unifusion, None)
    seconds, after = time.perf_counter() - began, memory()
    print(f"{says}: opened in {seconds:.2f} s, {grown(before, after)}")
    batches = Batches(source, world.changed(order="epochs", batch_size=64), **HOW)
    for epoch in (0, 1):
        began = time.perf_counter()
        _ = batches[-(-epoch * SHARDS * PER_SHARD // 64)]
        print(f"{says}: first batch of epoch {epoch} in {time.perf_counter() - began:.2f} s, {grown(before, memory())}")
    return batches


def grown(before: dict[str, float], after: dict[str, float]) -> str:
    """What memory has grown by."""
    return ", ".join(f"{name} {after[name] - before[name]:+.0f} MB" for name in before)


def second(root: Path, line: Connection) -> None:
    """Another process, which opens the index by itself."""
    line.send(memory())
    opened(root, "a second process")
    line.send(memory())
    line.recv()


def test_an_index_of_ten_million(tmp_path: Path) -> None:
    """Print; that what is read is right is held by tests/instdiff/data."""
    made(tmp_path)
    size = (tmp_path / "shards" / INDEX_FILE).stat().st_size
    print(
        f"\n{SHARDS * PER_SHARD} samples, {size / 1e6:.0f} MB of index, {size / SHARDS / PER_SHARD:.0f} bytes a sample"
    )
    _ = opened(tmp_path, "the first process")
    ours, theirs = get_context("spawn").Pipe()
    other = get_context("spawn").Process(target=second, args=(tmp_path, theirs))
    other.start()
    before, alone = ours.recv(), memory()
    after, beside = ours.recv(), memory()
    ours.send(None)
    other.join()
    print(
        f"both together: {after['pss'] - before['pss'] + beside['pss'] - alone['pss']:+.0f} MB by the second's opening"
    )
