"""What a cluster is asked for: each value of the settings, as what it means to the scheduler."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import submitit

from instdiff.work import workers
from instdiff.work.workers import Slurm, Workers

SLURM = Slurm(cluster="slurm", partition=None, gpus=1, cpus=2, memory_gb=3, minutes=4, at_once=5)
MEANS: dict[str, tuple[object, dict[str, object]]] = {  # another value -> what it is asked for
    "cluster": ("local", {"cluster": "local"}),
    "partition": ("long", {"slurm_partition": "long"}),
    "gpus": (0, {"gpus_per_node": 0}),
    "cpus": (12, {"cpus_per_task": 12}),
    "memory_gb": (13, {"mem_gb": 13}),
    "minutes": (14, {"timeout_min": 14}),
    "at_once": (15, {"slurm_array_parallelism": 15}),
}


def submission(monkeypatch: pytest.MonkeyPatch, slurm: Slurm) -> tuple[dict[str, object], list[object]]:
    """What submitit is asked for, and what it is handed."""
    options: dict[str, object] = {}
    submitted: list[object] = []

    class Executor:
        def __init__(self, folder: Path, **how: object) -> None:
            options.update(how, folder=folder)

        def update_parameters(self, **how: object) -> None:
            options.update(how)

        def batch(self) -> "nullcontext[None]":
            submitted.append("together")
            return nullcontext()

        def submit(self, *what: object) -> object:
            submitted.append(what)
            return what

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    settings = Workers(executor="slurm", processes=1, slurm=slurm, dask=None)
    with workers.executor(settings) as submit_all:
        assert submit_all is not None
        assert list(submit_all(len, ["a", "b"])) == submitted[1:]
    return options, submitted


def test_each_value_of_the_settings_is_asked_of_the_scheduler_as_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MEANS.keys() == Slurm.model_fields.keys()
    before, submitted = submission(monkeypatch, SLURM)
    assert submitted == ["together", (len, "a"), (len, "b")]
    assert before == {
        "folder": Path("runs/slurm"),
        "cluster": "slurm",
        "name": "instdiff",
        "timeout_min": 4,
        "gpus_per_node": 1,
        "cpus_per_task": 2,
        "mem_gb": 3,
        "slurm_array_parallelism": 5,
    }
    for name, (value, means) in MEANS.items():
        after, _ = submission(monkeypatch, SLURM.model_copy(update={name: value}))
        assert {word: what for word, what in after.items() if before.get(word) != what} == means, name


@pytest.mark.parametrize(
    ("name", "says"), [("slurm", "executor slurm needs slurm"), ("dask", "executor dask needs the scheduler's")]
)
def test_an_executor_without_its_settings_is_one_sentence(name: str, says: str) -> None:
    pytest.importorskip("distributed")
    bare = Workers.model_validate({"executor": name, "processes": 1, "slurm": None, "dask": None})
    with pytest.raises(ValueError, match=says), workers.executor(bare):
        pass


def test_processes_stay_for_the_work_that_follows_but_for_jobs_of_a_cluster() -> None:
    stays = {
        name: Workers.model_validate({"executor": name, "processes": 1, "slurm": None, "dask": None}).keeps_processes
        for name in ("here", "processes", "slurm", "dask")
    }
    assert stays == {"here": True, "processes": True, "slurm": False, "dask": True}
