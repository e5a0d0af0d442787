"""Peak memory and rate of each data stage without a network against the number of packs, and what an addition costs.

OMP_NUM_THREADS=1 PACKS="2 8" pytest -s bench/test_packs.py

One pack of scenes is painted; the others are its pictures under other keys, so that a large set takes no hours.
"""

import os
import resource
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import data_world
import yaml
from data_world import INGEST, WORK, ingested, ledger, tables

from data_prep import annotate, caption, ground, segment, shard, sketch
from data_prep.columns import GIVEN, PICTURES
from data_prep.sources import packing
from instdiff.config import compose
from instdiff.files import tables as parquet
from instdiff.work.pictures import pictures_of_pack

ROOT = Path(__file__).parents[1]
PACK = 1000
SIZES = [int(count) for count in os.environ.get("PACKS", "2 8").split()]
MODULES = {
    "ground": ground,
    "segment": segment,
    "caption": caption,
    "sketch": sketch,
    "annotate": annotate,
    "shard": shard,
}


def repeated(painted: Path, root: Path, places: range) -> None:
    """Packs with the pictures of the painted one, each under keys of its own."""
    first = data_world.parts_of(painted, "images")[0]
    images, given = parquet.read(first, PICTURES), data_world.read(painted, "given", GIVEN)
    encoded = [one.encoded() for one in pictures_of_pack(painted / "pictures/train/00000.tar", images)]
    for name in ("pictures", "images", "given"):
        (root / name / "train").mkdir(parents=True, exist_ok=True)
    for place in places:
        names = {key: f"{key}-{place:05d}" for key in images["key"]}
        own = images.assign(key=images["key"].map(names))
        own["file"] = own["key"] + ".png"
        with (root / f"pictures/train/{place:05d}.tar").open("wb") as stream, closing(packing.Tar(stream)) as tar:
            own["offset"] = [tar.add(file, content) for file, content in zip(own["file"], encoded, strict=True)]
        parquet.write(root / f"images/train/{place:05d}.parquet", own, PICTURES)
        rows = given.assign(key=given["key"].map(names))
        parquet.write(root / f"given/train/{place:05d}.parquet", rows, GIVEN)


def stages(root: Path) -> dict[str, Callable[[], object]]:
    """Each stage of the training pictures, with the values of the default run, in this process."""
    page = yaml.safe_load(compose.composed(["work.workers.executor=here"], ROOT / "configs"))
    pictures = {"pictures": root / "pictures" / "train"}
    names = {
        "ground": ("images", "given", "instances"),
        "segment": ("images", "given", "instances", "masks"),
        "caption": ("images", "given", "instances", "captions"),
        "sketch": ("images", "masks", "strokes"),
        "annotate": ("images", "given", "instances", "masks", "captions", "strokes", "annotated"),
        "shard": ("images", "annotated"),
    }
    runs = {}
    for stage, module in MODULES.items():
        paths = {**tables(root, "train", *names[stage]), "ledger": ledger(root, stage)}
        paths |= pictures if stage not in ("sketch", "annotate") else {}
        paths |= {"shards": root / "shards"} if stage == "shard" else {}
        runs[stage] = partial(module.run, **paths, params=module.Params.model_validate(page[stage]))
    return runs


def alone(run: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of the processor, and MB at most, in a process of its own."""
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def test_memory_does_not_grow_with_packs_and_an_addition_costs_what_it_adds(tmp_path: Path) -> None:
    """Print seconds and MB of each stage; of the largest, again with one pack more, and with nothing to do."""
    ingested(tmp_path / "painted", INGEST.model_copy(
        update={"num_train": PACK, "work": WORK.model_copy(update={"part_size": PACK})}), framed=False)  # fmt: skip
    print(f"\nbefore any stage: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    for packs in SIZES:
        root = tmp_path / str(packs)
        repeated(tmp_path / "painted", root, range(packs))
        for name, run in stages(root).items():
            wall, cpu, peak = alone(run)
            print(f"{packs * PACK} pictures: {name} {wall:.1f} s ({cpu:.1f} s of the processor), {peak:.0f} MB at most")
    before = data_world.contents(root / "shards")
    for more in (1, 0):
        repeated(tmp_path / "painted", root, range(packs, packs + more))
        for name, run in stages(root).items():
            wall, cpu, _ = alone(run)
            print(f"{packs * PACK} pictures and {more * PACK} more: {name} {wall:.1f} s ({cpu:.1f} s of the processor)")
    after = data_world.contents(root / "shards")
    assert {name for name in before if before[name] != after[name]} == {"index.arrow"}
