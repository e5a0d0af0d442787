"""Who does the parts: this process, processes of this machine, SLURM, or a Dask cluster.

All speak concurrent.futures' language, submit and result; what they do is written to files, which all must see.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import NonNegativeInt, PositiveInt

from instdiff.schema import Strict

Item = TypeVar("Item")
Result = TypeVar("Result")
LOGS = Path("runs/slurm")


class Slurm(Strict):
    """What one job asks for; `local` runs the jobs on this machine, to try them."""

    cluster: Literal["slurm", "local"]  # where jobs run
    partition: str | None  # null: the cluster's default
    gpus: NonNegativeInt  # of one job
    cpus: PositiveInt  # of one job
    memory_gb: PositiveInt  # of one job, in GB
    minutes: PositiveInt  # after which the cluster ends a job
    at_once: PositiveInt  # jobs of the array


class Workers(Strict):
    """Which executor, and how large."""

    executor: Literal["here", "processes", "slurm", "dask"]  # this process, others of this machine, jobs, or a cluster
    processes: PositiveInt  # of this machine; each takes one GPU in turn where there are any
    slurm: Slurm | None  # what jobs ask for, with executor slurm
    dask: str | None  # the scheduler's address

    @property
    def keeps_processes(self) -> bool:
        """Whether a process stays for the work that follows; a job of SLURM's ends."""
        return self.executor != "slurm"


class Job(Protocol):
    """Something that was submitted."""

    def result(self) -> Any:
        """Wait for it; raises what it raised."""
        ...


SubmitAll = Callable[[Callable[[Item], Result], Sequence[Item]], Sequence[Job]]


@contextmanager
def executor(workers: Workers) -> Iterator[SubmitAll[Any, Any] | None]:
    """How to submit a function for each of a list of items; None where the caller should do them itself."""
    match workers.executor:
        case "here":
            yield None
        case "processes":
            context = get_context("forkserver")
            context.set_forkserver_preload(_used_by_this_stage())
            taken = context.Value("i", 0)
            with ProcessPoolExecutor(workers.processes, context, _take_gpu, (taken,)) as pool:
                try:
                    yield lambda function, items: [pool.submit(function, item) for item in items]
                finally:  # whatever ended it, nobody waits for what was not begun
                    pool.shutdown(cancel_futures=True)
        case "slurm":
            if workers.slurm is None:
                raise ValueError("work.workers: executor slurm needs slurm")
            yield _slurm(workers.slurm)
        case "dask":
            from distributed import Client

            if workers.dask is None:
                raise ValueError("work.workers: executor dask needs the scheduler's address in dask")
            with Client(workers.dask) as client:
                pool = client.get_executor()
                yield lambda function, items: [pool.submit(function, item) for item in items]


def _used_by_this_stage() -> list[str]:
    """The modules that this process's first one uses: imported once, by a process without threads, for all of them.

    Not that one itself, which each process runs anew under another name.
    """
    used = (
        getattr(value, "__module__", None) or getattr(value, "__name__", "")
        for value in vars(sys.modules["__main__"]).values()
    )
    return sorted({name for name in used if name in sys.modules} - {"__main__"})


def _slurm(slurm: Slurm) -> SubmitAll[Any, Any]:
    """An array of jobs."""
    import submitit

    jobs = submitit.AutoExecutor(LOGS, cluster=slurm.cluster)
    options = {} if slurm.partition is None else {"slurm_partition": slurm.partition}
    jobs.update_parameters(
        name="instdiff",
        timeout_min=slurm.minutes,
        gpus_per_node=slurm.gpus,
        cpus_per_task=slurm.cpus,
        mem_gb=slurm.memory_gb,
        slurm_array_parallelism=slurm.at_once,
        **options,
    )

    def submit_all(function: Callable[[Item], Result], items: Sequence[Item]) -> Sequence[Job]:
        with jobs.batch():
            submitted: list[Job] = [jobs.submit(function, item) for item in items]
        return submitted

    return submit_all


def _take_gpu(taken: "Synchronized[int]") -> None:
    """Give each process of the pool a GPU of its own, in turn."""
    with taken.get_lock():
        number, taken.value = taken.value, taken.value + 1
    gpus = _gpus()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
