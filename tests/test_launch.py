"""A stage on a scheduler: its words become torch's, and a job that ran out of time is the same job again."""

import sys
from pathlib import Path

import pytest
import submitit
import yaml
from submitit.core.utils import DelayedSubmission, FailedJobError

from instdiff.app.launch import Job, Stage, submit

SLURM = Path(__file__).parents[1] / "configs/launch/slurm.yaml"
HERE = {"cluster": "local", "nodes": 1, "gpus_per_node": 0, "minutes": 5}
SAY = """
import os
with open(os.environ["RANK"] + ".txt", "w") as told:
    told.write(os.environ["WORLD_SIZE"] + " " + os.environ["MASTER_ADDR"])
"""


def job(folder: Path, **changes: object) -> Job:
    return Job.model_validate(yaml.safe_load(SLURM.read_text()) | HERE | {"folder": str(folder)} | changes)


def test_a_task_knows_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    submit(job(tmp_path / "logs"), [sys.executable, "-c", SAY]).result()
    world, address = (tmp_path / "0.txt").read_text().split()
    assert world == "1"
    assert address


def test_a_stage_that_fails_fails_the_job(tmp_path: Path) -> None:
    done = submit(job(tmp_path), [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(FailedJobError, match="ended with 3"):
        done.result()


def test_a_job_out_of_time_is_submitted_again_as_it_was() -> None:
    stage = Stage(("python", "-m", "instdiff.training.train"))
    again = stage.checkpoint()
    assert isinstance(again, DelayedSubmission)
    assert again.function == stage


def test_what_is_asked_of_slurm_is_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda _, **given: asked.update(given))
    monkeypatch.setattr(submitit.AutoExecutor, "submit", lambda _, stage: stage)
    values = {"account": "ours", "partition": "long", "gpus_per_node": 8, "nodes": 8, "minutes": 90}
    assert submit(job(tmp_path, **values), ["true"]) == Stage(("true",))
    assert (asked["slurm_account"], asked["slurm_partition"], asked["tasks_per_node"]) == ("ours", "long", 8)
    assert asked["timeout_min"] == 90
    assert "slurm_qos" not in asked
