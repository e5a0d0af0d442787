"""launch: the train stage on a SLURM cluster, on this machine's GPUs, or in this process; `instdiff launch --help`.

On SLURM, a job that reaches its time limit or is pre-empted is queued again and goes on from its last checkpoint. A job
is one task a GPU; torch's rendezvous is the first node. Without a cluster: `torchrun -m instdiff.training.train ...`.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import submitit
import yaml
from pydantic import NonNegativeInt, PositiveInt, ValidationError

from instdiff.files import value_faults
from instdiff.files.texts import one_line
from instdiff.options import Parser
from instdiff.schema import Strict

Cluster = Literal["slurm", "local"]


class Job(Strict):
    """What is asked of the scheduler; `null` leaves a choice to the cluster."""

    cluster: Cluster
    account: str | None
    partition: str | None
    qos: str | None
    minutes: PositiveInt  # after which the job is queued again
    warning_seconds: NonNegativeInt  # between the scheduler's signal and its kill
    requeues: NonNegativeInt
    nodes: PositiveInt
    gpus_per_node: NonNegativeInt  # 0 runs on CPUs, one task a node
    cpus_per_task: PositiveInt
    folder: Path  # seen by every node: logs, and what is submitted


@dataclass(frozen=True)
class Stage:
    """The command of a stage, run by each task of a job with its place among them in the environment."""

    command: tuple[str, ...]

    def __call__(self) -> int:
        """Run it; RuntimeError if it fails."""
        done = subprocess.run(self.command, check=False, env=os.environ | place())
        if done.returncode:
            raise RuntimeError(f"{shlex.join(self.command)} ended with {done.returncode}; its log says why")
        return done.returncode

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called before a time limit: the same again; checkpoints say where it was."""
        return submitit.helpers.DelayedSubmission(self)


def read(path: Path) -> Job:
    """What a file asks of the scheduler; ValueError names the file and every value that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Job.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {'; '.join(value_faults.explained(error, '', content))}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable YAML file ({one_line(error)})") from error


def place() -> dict[str, str]:
    """What torch wants to know of this task, from what the scheduler says."""
    task = submitit.JobEnvironment()
    port = 20000 + sum(map(ord, task.job_id)) % 20000  # the same on every task, another for another job
    return {
        "RANK": str(task.global_rank),
        "LOCAL_RANK": str(task.local_rank),
        "WORLD_SIZE": str(task.num_tasks),
        "MASTER_ADDR": task.hostnames[0],
        "MASTER_PORT": str(port),
    }


def submit(job: Job, command: Sequence[str]) -> Any:
    """Hand the command to the scheduler; return submitit's job."""
    executor = submitit.AutoExecutor(folder=job.folder, cluster=job.cluster, slurm_max_num_timeout=job.requeues)
    account = {"account": job.account, "partition": job.partition, "qos": job.qos}
    executor.update_parameters(
        name="instdiff-train",
        timeout_min=job.minutes,
        nodes=job.nodes,
        tasks_per_node=max(1, job.gpus_per_node),
        gpus_per_node=job.gpus_per_node,
        cpus_per_task=job.cpus_per_task,
        slurm_signal_delay_s=job.warning_seconds,
        **{f"slurm_{name}": value for name, value in account.items() if value is not None},
    )
    return executor.submit(Stage(tuple(command)))


def main(arguments: Sequence[str]) -> None:
    """Submit the train stage as dvc.yaml runs it, on what a file of the scheduler's values says."""
    options = Parser(prog="instdiff launch", description="Submit the train stage to SLURM.")
    options.add_argument("job", type=Path, help="a YAML file of the job's values, as configs/launch/slurm.yaml")
    options.add_argument("command", nargs=argparse.REMAINDER, help="arguments of python -m instdiff.training.train")
    args = options.parse_args(arguments)
    job = read(args.job)
    submitted = submit(job, [sys.executable, "-m", "instdiff.training.train", *args.command])
    print(f"{job.cluster} job {submitted.job_id}; its logs are in {job.folder}", flush=True)
    if job.cluster != "slurm":
        submitted.result()
