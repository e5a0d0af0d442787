"""The whole path of `make paper`, small: killed, it ends in the same table; by every executor, in the same rows."""

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paper_world
import pytest
import yaml
from data_world import contents

from flows import paper
from instdiff.sampling import generate
from instdiff.schema import Layout
from instdiff.work import parts, workers

KILLS, NUM_PICTURES = 10, 8
DRAWN = re.compile("^(generate|detect|score)@")
ONE_ROW = re.compile("^(generate|detect|score)@plain-reference_mask$")
THREE_ROWS = re.compile("^(generate|detect|score)@(plain-box|plain-reference_mask|colour-box)$")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run that was left alone."""
    root = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        folder = paper_world.write(root, NUM_PICTURES)
        paper_world.run(folder)
        yield folder


def again(whole: Path, to: Path, executor: str = "here", **change: object) -> Path:
    """The same run before anything was drawn, beside its finished ground truth and weights."""
    to.mkdir()
    values = yaml.safe_load((whole / "params.yaml").read_text())
    for name in ("generate", "detect", "score"):
        values[name]["work"]["workers"] |= {"executor": executor, "processes": 2, **change}
    (to / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    shutil.copy(whole / "dvc.yaml", to)
    (to / "data").mkdir()
    for name in ("weights", "real", "truth", "self-test.json"):
        (to / "data" / name).symlink_to(whole / "data" / name)
    return to


def results(folder: Path, only: re.Pattern[str] = DRAWN) -> dict[str, bytes]:
    """Every file of pictures, detections and scores, and the table where it was written."""
    found = {}
    for name, _, outs in paper_world.commands(folder):
        if only.search(name):
            for out in outs:
                inside = contents(out) if out.is_dir() else {"": out.read_bytes()}
                found |= {f"{out.relative_to(folder)}/{file}": data for file, data in inside.items()}
    return found


def test_every_row_of_both_readings_is_drawn_judged_and_held_against_the_paper(whole: Path) -> None:
    table = json.loads((whole / "paper.json").read_text())
    rows = {row["row"] for row in table.values() if row["row"]}
    assert rows == {
        *(f"plain/{row}" for row in ("real", "box", "mask", "point", "scribble", "hybrid")),
        *(f"plain/reference_{row}" for row in ("box", "mask", "scribble", "point")),
        *(f"{truth}/{row}" for truth in ("colour", "texture") for row in ("box", "reference_box")),
    }
    assert {row["verdict"] for row in table.values()} == {
        "the paper does not define it",
        "a part of the benchmark: not comparable",
    }
    assert all("value" in row and row["low"] <= row["high"] for row in table.values() if row["row"])
    colour = table["InstanceDiffusion, colours | colour | ours"]
    assert (colour["published"], colour["band"]) == (54.4, [53.3, 55.2])
    page = (whole / "paper.html").read_text()
    assert "plain/reference_scribble" in page
    assert "<td>plain/box</td><td>36</td>" in page
    assert "<td>0.01</td><td>0.03</td>" in page  # 36 s, at 2.5 an hour


def test_killed_ten_times_at_any_moment_it_ends_in_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    folder, draw, kills = again(whole, tmp_path / "killed"), random.Random(0), 0
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                paper_world.run(folder)
                code = 0
            finally:
                os._exit(code)
        time.sleep(draw.uniform(0.1, 1.5))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        kills += 1
    paper_world.run(folder)
    assert results(folder) == results(whole)
    assert json.loads((folder / "paper.json").read_text()) == json.loads((whole / "paper.json").read_text())


def test_no_finished_batch_is_drawn_twice(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, draw = again(whole, tmp_path / "counted"), generate.draw
    keys: list[str] = []

    def counted(pipeline: object, batch: Sequence[Layout], *rest: object) -> object:
        if keys and "killed" not in keys:
            keys.append("killed")
            raise KeyboardInterrupt
        keys.extend(layout.key for layout in batch)
        return draw(pipeline, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "draw", counted)
    only = re.compile("^generate@plain-box$")
    with pytest.raises(KeyboardInterrupt):
        paper_world.run(folder, only)
    paper_world.run(folder, only)
    keys.remove("killed")
    assert len(keys) == len(set(keys)) == NUM_PICTURES
    assert results(folder, only) == results(whole, only)


CHANCE, FAULTS, MAKE = random.Random(1), [], parts.make


def failing(job: Sequence[parts.Part]) -> int:
    """Makes a job, or fails before it, ten times in all."""
    if len(FAULTS) < KILLS and CHANCE.random() < 0.6:
        FAULTS.append(1)
        raise InterruptedError("a machine went away")
    return MAKE(job)


def test_a_local_dask_cluster_that_fails_ten_times_makes_the_same_rows(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(parts, "make", failing)
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        folder = again(whole, tmp_path / "dask", "dask", dask=cluster.scheduler_address)
        for _ in range(KILLS + 1):
            try:
                paper_world.run(folder, THREE_ROWS)
            except InterruptedError:
                continue
            break
    assert len(FAULTS) == KILLS
    assert results(folder, THREE_ROWS) == results(whole, THREE_ROWS)


@pytest.mark.parametrize(("executor", "kills"), [("processes", 2), ("slurm", 1)])
def test_workers_that_are_killed_leave_what_others_drew_and_the_row_is_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, kills: int
) -> None:
    slurm = {"cluster": "local", "partition": None, "gpus": 0, "cpus": 1, "memory_gb": 1, "minutes": 5, "at_once": 2}
    folder = again(whole, tmp_path / executor, executor, slurm=slurm)
    monkeypatch.setattr(workers, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(generate, "BatchDrawing", paper_world.Deadly)
    (tmp_path / "deadly").mkdir()
    monkeypatch.setenv("DEADLY", str(tmp_path / "deadly"))
    root = Path(__file__).parents[2]  # a job finds there what it imports, `Deadly` among it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(root / "tests" / "worlds")]))
    for number in range(kills):
        (tmp_path / "deadly" / str(number)).touch()
    drawing = re.compile("^generate@plain-reference_mask$")
    for _ in range(kills + 1):
        try:
            paper_world.run(folder, drawing)
        except Exception:  # each executor has its own word for a worker that is gone
            continue
        break
    assert not list((tmp_path / "deadly").iterdir())
    assert results(folder, drawing) == results(whole, drawing)


def test_a_row_that_is_added_later_is_drawn_and_no_other_again(whole: Path, tmp_path: Path) -> None:
    folder = again(whole, tmp_path / "more")
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["rows"]["mine"] = values["rows"]["box"] | {"mis": 0.0}
    values["here"]["drawn"] = paper.rows_to_draw(list(values["rows"]), [])
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for name in ("generated", "detections", "scores"):
        shutil.copytree(whole / "data" / name, folder / "data" / name)
    before = results(folder, re.compile("@plain-(?!mine)"))
    paper_world.run(folder)
    assert results(folder, re.compile("@plain-(?!mine)")) == before
    assert "plain/mine" in (folder / "paper.html").read_text()


def test_the_self_test_stops_with_a_sentence_where_the_detector_is_another(whole: Path) -> None:
    values = yaml.safe_load((whole / "params.yaml").read_text())
    from eval import detect, self_test

    params = self_test.Params(
        expected={"box_ap": 0.499, "mask_ap": 0.408}, within=0.01, detect=detect.Params.model_validate(values["detect"])
    )
    coco = whole.parent / "coco"
    with pytest.raises(ValueError, match=r"val2017: the detector of .* finds box_ap .*, not 49.9 within 1; mask_ap"):
        self_test.run(
            pictures=coco / "val2017",
            annotations=coco / "annotations" / "instances_val2017.json",
            detector=whole / "data" / "weights" / "detector",
            result=whole / "none.json",
            params=params,
        )
    assert not (whole / "none.json").exists()
