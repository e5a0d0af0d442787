"""Parts and packs are complete or absent: a kill costs time, failures are tried again, workers change nothing."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Timer
from typing import NamedTuple

import pytest
from data_world import WORK, WORKERS, contents, prepared, sources

from data_prep import ground
from data_prep.columns import INSTANCES
from instdiff.files import tables
from instdiff.work import packs, parts, workers
from instdiff.work.ledger import LEDGER
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.packs import Output, Pack
from instdiff.work.parts import Answer
from instdiff.work.pictures import UnreadablePicture

NUM_ITEMS = 23


class Numbered(NamedTuple):
    key: str


ITEMS = [Numbered(f"{number:02d}") for number in range(NUM_ITEMS)]


def answers(items: Sequence[Numbered], log: Path, bad: dict[str, str], slow: float = 0.0) -> Iterator[Answer]:
    """A row an item; some fail. What is done is written to a log."""
    for item in items:
        time.sleep(slow)
        with log.open("a") as stream:
            stream.write(f"{item.key}\n")
        rows = [{"key": item.key, "index": 0, "category": item.key, "box": [0.0, 0.0, 1.0, 1.0], "score": 0.5}]
        failure = [(0, Failure(bad[item.key], "why"))] if item.key in bad else []
        yield Answer(item.key, [] if failure else rows, failure)


Way = Callable[[Path, Callable[..., Iterator[Answer]], parts.Work], None]
BATCHES = [ITEMS[start : start + 4] for start in range(0, NUM_ITEMS, 4)]


def by_parts(root: Path, annotate: Callable[..., Iterator[Answer]], work: parts.Work) -> None:
    """The batches as parts of one table; what they made stays beside it."""
    cut = parts.cut_into(BATCHES, annotate, root / "parts", INSTANCES, work)
    parts.make_all(cut, work)
    for name, tables_of_parts, schema in (
        ("table", [part.rows() for part in cut], INSTANCES),
        ("ledger", [part.failures() for part in cut], LEDGER),
    ):
        tables.write(root / name / "whole.parquet", parts.joined(tables_of_parts, schema), schema)


def by_packs(root: Path, annotate: Callable[..., Iterator[Answer]], work: parts.Work) -> None:
    """The batches as packs, each with its part of the table."""
    whole = [Pack(packs.number(place), {}, str(place)) for place in range(len(BATCHES))]
    to = Output(root / "table", INSTANCES, root / "ledger")
    packs.annotated(whole, batch_of, partial(of_items, annotate=annotate), to, "digest", work)


def batch_of(pack: Pack) -> list[Numbered]:
    return BATCHES[int(pack.name)]


def of_items(items: Sequence[Numbered], pack: Pack, annotate: Callable[..., Iterator[Answer]]) -> Iterator[Answer]:
    return annotate(items)


each_way = pytest.mark.parametrize("way", [by_parts, by_packs])


def made(way: Way, root: Path, bad: dict[str, str] | None = None, work: parts.Work = WORK, slow: float = 0.0) -> None:
    root.mkdir(exist_ok=True)
    way(root, partial(answers, log=root / "log", bad=bad or {}, slow=slow), work)


def done(root: Path) -> list[str]:
    """The items that were worked on since the last call."""
    keys = (root / "log").read_text().split() if (root / "log").exists() else []
    (root / "log").unlink(missing_ok=True)
    return keys


def rows(root: Path, name: str, column: str) -> list[str]:
    column_of: list[str] = tables.read(root / name, {"table": INSTANCES, "ledger": LEDGER}[name])[column].tolist()
    return column_of


def written(root: Path) -> dict[str, bytes]:
    return {
        f"{name}/{file}": content for name in ("table", "ledger") for file, content in contents(root / name).items()
    }


@each_way
def test_rows_come_in_the_order_of_the_items(way: Way, tmp_path: Path) -> None:
    made(way, tmp_path)
    assert rows(tmp_path, "table", "key") == [item.key for item in ITEMS]
    assert rows(tmp_path, "ledger", "key") == []


def test_packs_count_what_was_made_and_what_failed(tmp_path: Path) -> None:
    whole = [Pack(packs.number(place), {}, str(place)) for place in range(len(BATCHES))]
    to = Output(tmp_path / "table", INSTANCES, tmp_path / "ledger", "score")
    annotate = partial(of_items, annotate=partial(answers, log=tmp_path / "log", bad={"03": "odd", "05": "broken"}))
    counts = packs.annotated(whole, batch_of, annotate, to, "digest", WORK)
    assert counts == {"instances": 21, "kept": 21, "failed": 2, "failed_odd": 1, "failed_broken": 1}


@each_way
def test_only_what_failed_for_a_named_reason_is_done_again(way: Way, tmp_path: Path) -> None:
    bad = {"03": "out_of_memory", "05": "broken", "06": "out_of_memory"}
    made(way, tmp_path, bad)
    assert rows(tmp_path, "ledger", "key") == ["03", "05", "06"]
    done(tmp_path)
    made(way, tmp_path, bad)
    assert done(tmp_path) == []
    made(way, tmp_path, {}, WORK.model_copy(update={"retry": ("out_of_memory",)}))
    assert done(tmp_path) == ["03", "06"]
    assert rows(tmp_path, "table", "key") == [item.key for item in ITEMS if item.key != "05"]
    assert rows(tmp_path, "ledger", "reason") == ["broken"]
    made(way, tmp_path, {}, WORK.model_copy(update={"retry": ("broken",)}))
    made(way, tmp_path / "at-once")
    assert written(tmp_path) == written(tmp_path / "at-once")


@each_way
def test_a_fault_in_the_middle_keeps_the_parts_before_it(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = tables.write, [5]

    def full(path: Path, *rest: object) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "write", full)
    with pytest.raises(OSError, match="No space left"):
        made(way, tmp_path)
    assert len(done(tmp_path)) == 12  # the third part was made, but there was no room to keep it
    assert not (tmp_path / "table").exists()
    monkeypatch.undo()
    made(way, tmp_path)
    assert done(tmp_path) == [item.key for item in ITEMS[8:]]
    made(way, tmp_path / "at-once")
    assert written(tmp_path) == written(tmp_path / "at-once")


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def failing(error: Exception) -> Callable[[Sequence[int]], list[int]]:
    def work(batch: Sequence[int]) -> list[int]:
        raise error

    return work


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_a_picture(code: int) -> None:
    with pytest.raises(OSError, match="full"):
        list(outcomes([1, 2], failing(OSError(code, "full")), 1))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "bad disk"), "failed"),
        (UnreadablePicture("a.png"), "unreadable_picture"),
        (MemoryError(), "out_of_memory"),
        (OutOfMemoryError("on the GPU"), "out_of_memory"),
        (RuntimeError("odd"), "failed"),
    ],
)
def test_a_failure_is_named_by_its_kind(error: Exception, reason: str) -> None:
    for _, outcome in outcomes([1, 2], failing(error), 2):
        assert isinstance(outcome, Failure)
        assert outcome.reason == reason
        assert outcome.detail.startswith(f"{type(error).__name__}: {error}")


BAD = {"07": "broken"}
NUM_KILLED = 6  # runs, each killed twice and then left alone


@each_way
def test_kills_at_any_moment_cost_time_and_change_nothing(way: Way, tmp_path: Path) -> None:
    made(way, tmp_path / "whole", BAD)
    whole = written(tmp_path / "whole")
    draw = random.Random(0)
    for number in range(NUM_KILLED):
        root = tmp_path / str(number)
        for pause in (draw.uniform(0.0, 0.09), draw.uniform(0.0, 0.09), None):
            child = os.fork()
            if child == 0:
                made(way, root, BAD, slow=0.002)
                os._exit(0)
            if pause is not None:
                time.sleep(pause)
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        assert status == 0
        assert written(root) == whole
        assert not [path for path in root.rglob("*") if path.name.endswith((".part", ".old"))]


def grounded(root: Path, to: Path, **change: object) -> dict[str, int]:
    how = ground.Params.model_validate(
        {
            "backend": "given",
            "batch_size": 2,
            "detector": None,
            "work": {"retry": (), "workers": WORKERS.model_copy(update=change)},
        }
    )
    return ground.run(**sources(root), instances=to / "found.parquet", ledger=to / "ledger.parquet", params=how)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    return root


def test_processes_write_what_one_writes(world: Path, tmp_path: Path) -> None:
    grounded(world, tmp_path / "one")
    grounded(world, tmp_path / "two", executor="processes", processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_jobs_of_submitit_write_what_one_process_writes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = workers.Slurm(cluster="local", partition=None, gpus=0, cpus=1, memory_gb=1, minutes=5, at_once=2)
    monkeypatch.setattr(workers, "LOGS", tmp_path / "logs")
    grounded(world, tmp_path / "one")
    grounded(world, tmp_path / "jobs", executor="slurm", slurm=slurm)
    assert contents(tmp_path / "one") == contents(tmp_path / "jobs")


SBATCH = """#!/bin/sh
cp "$1" {script}
echo Submitted batch job 12
"""
SLURM = workers.Slurm(cluster="slurm", partition="a100", gpus=3, cpus=5, memory_gb=7, minutes=90, at_once=2)


def requested(folder: Path, monkeypatch: pytest.MonkeyPatch, slurm: workers.Slurm, jobs: int) -> dict[str, str]:
    """What the script that submitit hands to a scheduler asks for; the scheduler is a stand-in."""
    (folder / "bin").mkdir(parents=True)
    for name in ("srun", "sbatch"):
        (folder / "bin" / name).write_text(SBATCH.format(script=folder / "script.sh"))
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(workers, "LOGS", folder / "logs")
    with workers.executor(WORKERS.model_copy(update={"executor": "slurm", "slurm": slurm})) as submit_all:
        assert submit_all is not None
        assert len(submit_all(str, range(jobs))) == jobs
    lines = (folder / "script.sh").read_text().splitlines()
    options = [line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in options}


def test_each_value_of_slurm_reaches_the_scheduler_as_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = requested(tmp_path / "all", monkeypatch, SLURM, jobs=4)
    assert asks["partition"] == "a100"
    assert asks["gpus-per-node"] == "3"
    assert asks["cpus-per-task"] == "5"
    assert asks["mem"] == "7GB"
    assert asks["time"] == "90"  # minutes
    assert asks["array"] == "0-3%2"
    assert asks["job-name"] == "instdiff"
    assert asks["output"].startswith(str(tmp_path / "all" / "logs"))
    default = SLURM.model_copy(update={"partition": None, "at_once": 1})
    asks = requested(tmp_path / "default", monkeypatch, default, jobs=2)
    assert "partition" not in asks
    assert asks["array"] == "0-1%1"


@pytest.mark.parametrize("fails", [False, True])
def test_a_pool_has_its_number_of_processes_and_what_nobody_waits_for_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    class Threads(ThreadPoolExecutor):
        """Threads in the place of processes."""

        def __init__(self, processes: int, context: object, initializer: object, initargs: tuple[object, ...]) -> None:
            assert (initializer, len(initargs)) == (workers._take_gpu, 1)
            super().__init__(processes)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Threads)
    pool, begun, release = WORKERS.model_copy(update={"executor": "processes", "processes": 3}), list[int](), Event()

    def wait(number: int) -> int:
        begun.append(number)
        release.wait(10)
        return number

    with suppress(ZeroDivisionError), workers.executor(pool) as submit_all:
        assert submit_all is not None
        jobs = submit_all(wait, range(9))
        Timer(0.2, release.set).start()
        if fails:
            raise ZeroDivisionError
    assert begun == [0, 1, 2]
    assert [job.cancelled() for job in jobs] == [False] * 3 + [True] * 6  # type: ignore[attr-defined]


STAGE = """
import heavy
from data_world import WORKERS
from instdiff.work import workers

def double(number):
    return number * heavy.FACTOR

if __name__ == "__main__":
    with workers.executor(WORKERS.model_copy(update={"executor": "processes", "processes": 3})) as submit_all:
        print([job.result() for job in submit_all(double, range(9))])
"""


def test_processes_import_once_what_their_stage_uses_and_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "stage.py").write_text(STAGE)
    (tmp_path / "heavy.py").write_text("FACTOR = 2\nprint('imported', file=open('log', 'a'))\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "toys.stage"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[0, 2, 4, 6, 8, 10, 12, 14, 16]\n", "")
    assert (tmp_path / "log").read_text().split() == ["imported"] * 2  # by the stage, and for all of its processes


def test_a_dask_cluster_writes_what_one_process_writes(world: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    grounded(world, tmp_path / "one")
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        grounded(world, tmp_path / "dask", executor="dask", dask=cluster.scheduler_address)
    assert contents(tmp_path / "one") == contents(tmp_path / "dask")


@each_way
def test_a_worker_that_is_killed_is_one_sentence_and_its_neighbours_work_is_kept(way: Way, tmp_path: Path) -> None:
    work = WORK.model_copy(update={"workers": WORKERS.model_copy(update={"executor": "processes", "processes": 1})})
    with pytest.raises(RuntimeError, match="a worker died"):
        way(tmp_path, partial(dying, log=tmp_path / "log"), work)
    assert "09" in done(tmp_path)
    made(way, tmp_path)
    assert done(tmp_path) == [item.key for item in ITEMS[8:]]


def dying(items: Sequence[Numbered], log: Path) -> Iterator[Answer]:
    for answer in answers(items, log, {}):
        if answer.key == "09":
            os.kill(os.getpid(), signal.SIGKILL)
        yield answer


def test_each_process_of_a_pool_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import Value

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(workers, "_gpus", lambda: ["4", "7"])
    taken, gpus = Value("i", 0), []
    for _ in range(3):
        workers._take_gpu(taken)  # type: ignore[arg-type]
        gpus.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert gpus == ["4", "7", "4"]


def test_gpus_are_those_this_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, gpus in (("4,7", ["4", "7"]), ("2", ["2"]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert workers._gpus() == gpus
    from multiprocessing import Value

    workers._take_gpu(Value("i", 0))  # type: ignore[arg-type]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
