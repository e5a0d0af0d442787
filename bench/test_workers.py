"""Rates of the data stages, and of drawing, against the number of processes; all must write the same bytes.

OMP_NUM_THREADS=1 pytest -s bench/test_workers.py
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import data_world
import pytest
import yaml

from data_prep import annotate, caption, ground, ingest, segment, shard, sketch
from instdiff.config import compose
from instdiff.sampling import generate

ROOT = Path(__file__).parents[1]
PICTURES, PART, LAYOUTS = 1920, 160, 600
MODULES = {
    "ingest": ingest,
    "ground": ground,
    "segment": segment,
    "caption": caption,
    "sketch": sketch,
    "annotate": annotate,
    "shard": shard,
}


def params(processes: int) -> dict[str, Any]:
    """Of each stage: scenes, the miniature's small SAM and BLIP, and so many processes (0: the caller does it all)."""
    values = ["experiment=annotators", f"ingest.num_train={PICTURES}"]
    composed = yaml.safe_load(compose.composed(values, ROOT / "configs"))
    workers = data_world.WORKERS.model_copy(
        update={"executor": "processes" if processes else "here", "processes": max(1, processes)}
    )
    work = data_world.EXECUTION.model_copy(update={"workers": workers}).model_dump()
    return {
        name: module.Params.model_validate(
            composed[name] | {"work": work | ({"part_size": PART} if name == "ingest" else {})}
        )
        for name, module in MODULES.items()
    }


def stages(root: Path, how: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The stages of the training pictures, in order."""
    source_paths, to = data_world.sources(root), partial(data_world.tables, root, "train")
    ledger = {name: data_world.ledger(root, name) for name in MODULES}
    ingested = {name: root / name for name in ("pictures", "images", "given")}
    return {
        "ingest": partial(ingest.run, **ingested, ledger=root / "ledger/ingest", params=how["ingest"]),
        "ground": partial(ground.run, **source_paths, **to("instances"), ledger=ledger["ground"], params=how["ground"]),
        "segment": partial(
            segment.run, **source_paths, **to("instances", "masks"), ledger=ledger["segment"], params=how["segment"]
        ),
        "caption": partial(
            caption.run, **source_paths, **to("instances", "captions"), ledger=ledger["caption"], params=how["caption"]
        ),
        "sketch": partial(
            sketch.run, **to("images", "masks", "strokes"), ledger=ledger["sketch"], params=how["sketch"]
        ),
        "annotate": partial(
            annotate.run,
            **to("images", "given", "instances", "masks", "captions", "strokes", "annotated"),
            ledger=ledger["annotate"],
            params=how["annotate"],
        ),
        "shard": partial(
            shard.run,
            pictures=source_paths["pictures"],
            **to("images", "annotated"),
            shards=root / "shards",
            ledger=ledger["shard"],
            params=how["shard"],
        ),
    }


def test_rates_against_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print pictures a second of each stage, by the clock, the start of its processes included."""
    monkeypatch.chdir(ROOT)  # where the paths of weights begin
    tables, rates = {}, {}
    for processes in (0, 1, 2):
        root = tmp_path / str(processes)
        root.mkdir()
        for name, run in stages(root, params(processes)).items():
            began = time.perf_counter()
            run()
            rates[name, processes] = PICTURES / (time.perf_counter() - began)
        tables[processes] = data_world.contents(root)
    for name in MODULES:
        in_none, in_one, in_two = (rates[name, processes] for processes in (0, 1, 2))
        print(f"\n{name}: {in_none:.0f} pictures/s here, {in_one:.0f} in one process, {in_two:.0f} in two", end="")
    assert tables[0] == tables[1] == tables[2]


def test_drawing_against_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Print the seconds of the row `box` with the shipped weights, by the clock, in one process and in two."""
    monkeypatch.chdir(ROOT)
    data_world.prepared(tmp_path, ingest=data_world.INGEST.model_copy(update={"num_train": LAYOUTS}), framed=False)
    weights = ROOT / "weights/miniature"
    folders = {"text": weights / "clip/text", **{name: weights / name for name in ("vae", "unet", "instance")}}
    tables = data_world.tables(tmp_path, "train", "pictures", "images", "annotated")
    composed = yaml.safe_load(compose.composed([], ROOT / "configs"))
    values = composed["generate"] | {"rows": composed["rows"]}
    drawn, seconds = {}, {}
    for processes in (2, 1):
        workers = data_world.WORKERS.model_copy(update={"executor": "processes", "processes": processes})
        work = data_world.WORK.model_copy(update={"part_size": 24, "workers": workers}).model_dump()
        params = generate.Params.model_validate(values | {"work": work})
        began = time.perf_counter()
        generate.run(**tables, **folders, generated=tmp_path / str(processes), row="box", params=params)
        seconds[processes] = time.perf_counter() - began
        drawn[processes] = {path.name: path.read_bytes() for path in (tmp_path / str(processes)).glob("*.png")}
    print(f"\ngenerate: {seconds[1]:.0f} s in one process, {seconds[2]:.0f} in two, {seconds[1] / seconds[2]:.2f}x")
    assert drawn[1] == drawn[2]
