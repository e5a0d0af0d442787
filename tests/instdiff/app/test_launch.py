"""A stage on a scheduler: its words become torch's, and a job that ran out of time is the same job again."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
import yaml
from submitit.core.utils import DelayedSubmission, FailedJobError

from instdiff.app import launch
from instdiff.app.launch import Job, Stage, place, submit

SLURM = Path(__file__).parents[3] / "configs/launch/slurm.yaml"
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


def asked(monkeypatch: pytest.MonkeyPatch, **values: object) -> dict[str, object]:
    """What submitit is asked for, by the names that it has for it."""
    parameters: dict[str, object] = {}

    class Executor:
        def __init__(self, **options: object) -> None:
            parameters.update(options)

        def update_parameters(self, **options: object) -> None:
            parameters.update(options)

        def submit(self, stage: Stage) -> Stage:
            return stage

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    wanted = job(Path("logs")).model_dump() | values
    assert submit(Job.model_validate(wanted), ["true"]) == Stage(("true",))
    return parameters


MEANS: dict[str, tuple[object, dict[str, object]]] = {  # a value of the file -> what it is asked for
    "cluster": ("slurm", {"cluster": "slurm"}),
    "account": ("ours", {"slurm_account": "ours"}),
    "partition": ("long", {"slurm_partition": "long"}),
    "qos": ("high", {"slurm_qos": "high"}),
    "minutes": (90, {"timeout_min": 90}),
    "warning_seconds": (77, {"slurm_signal_delay_s": 77}),
    "requeues": (13, {"slurm_max_num_timeout": 13}),
    "nodes": (6, {"nodes": 6}),
    "gpus_per_node": (7, {"gpus_per_node": 7, "tasks_per_node": 7}),
    "cpus_per_task": (11, {"cpus_per_task": 11}),
    "folder": ("elsewhere", {"folder": Path("elsewhere")}),
}


def test_each_value_of_a_job_is_asked_of_the_scheduler_as_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MEANS.keys() == Job.model_fields.keys()
    before = asked(monkeypatch)
    for name, (value, means) in MEANS.items():
        after = asked(monkeypatch, **{name: value})
        assert {word: what for word, what in after.items() if before.get(word) != what} == means, name


def test_what_a_job_leaves_to_the_cluster_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    words = asked(monkeypatch, account=None, partition=None, qos=None)
    assert not words.keys() & {"slurm_account", "slurm_partition", "slurm_qos"}


@pytest.mark.parametrize(("gpus", "tasks"), [(0, 1), (1, 1), (2, 2)])
def test_a_node_without_gpus_runs_one_task_and_another_one_a_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: int, tasks: int
) -> None:
    assert asked(monkeypatch, gpus_per_node=gpus)["tasks_per_node"] == tasks


def test_the_script_that_slurm_gets_says_it_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts: list[str] = []

    def written(executor: submitit.AutoExecutor, _: Stage) -> None:
        scripts.append(executor._executor._make_submission_file_text("run", "1"))

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", lambda *_: 2)  # as where SLURM is installed
    monkeypatch.setattr(submitit.AutoExecutor, "submit", written)
    submit(job(tmp_path, **{name: value for name, (value, _) in MEANS.items() if name != "folder"}), ["true"])
    lines = {line.removeprefix("#SBATCH --") for line in scripts[0].splitlines() if line.startswith("#SBATCH --")}
    assert lines >= {
        "account=ours", "partition=long", "qos=high", "time=90", "signal=USR2@77", "nodes=6", "gpus-per-node=7",
        "ntasks-per-node=7", "cpus-per-task=11", "job-name=instdiff-train",
    }  # fmt: skip
    assert f"--output {tmp_path}" in scripts[0]


def test_places_of_tasks_differ_and_their_rendezvous_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(job_id: str, rank: int, local: int) -> dict[str, str]:
        task = SimpleNamespace(
            job_id=job_id, global_rank=rank, local_rank=local, num_tasks=8, hostnames=["first", "second"]
        )
        monkeypatch.setattr(submitit, "JobEnvironment", lambda: task)
        return place()

    first, last = at("123", 0, 0), at("123", 5, 1)
    assert first | {"RANK": "5", "LOCAL_RANK": "1"} == last
    assert (first["RANK"], first["LOCAL_RANK"], first["WORLD_SIZE"], first["MASTER_ADDR"]) == ("0", "0", "8", "first")
    assert first["MASTER_PORT"] != at("124", 0, 0)["MASTER_PORT"]
    assert first["MASTER_PORT"] == str(20000 + ord("1") + ord("2") + ord("3"))
    assert at("~" * 159, 0, 0)["MASTER_PORT"] == str(20000 + 126 * 159 % 20000)


def test_the_command_submits_the_stage_with_the_arguments_that_follow_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(tmp_path / "logs", cluster="slurm").model_dump(mode="json")))
    submitted: list[tuple[Job, list[str]]] = []

    def submit_nothing(what: Job, command: list[str]) -> SimpleNamespace:
        submitted.append((what, command))
        return SimpleNamespace(job_id="42", result=submitted.clear)

    monkeypatch.setattr(launch, "submit", submit_nothing)
    rest = ["--unet", "a b", "--stats", "s.json"]
    launch.main([str(tmp_path / "job.yaml"), *rest])
    on_slurm = job(tmp_path / "logs", cluster="slurm")
    assert submitted == [
        (on_slurm, [sys.executable, "-m", "instdiff.training.train", *rest])
    ]  # and no one waits for its end
    assert capsys.readouterr().out == f"slurm job 42; its logs are in {tmp_path / 'logs'}\n"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(tmp_path / "logs").model_dump(mode="json")))
    launch.main([str(tmp_path / "job.yaml"), *rest])
    assert submitted == []  # here its end, and its failure, are those of the command
