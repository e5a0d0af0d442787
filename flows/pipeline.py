"""Run the DVC graph under Prefect: `python -m flows.pipeline [experiment=smoke train.batch_size=24 ...]`.

One task a stage, named like it. dvc.lock decides what has to run: a stage that is up to date shows as `Skipped`, one
whose outputs DVC restored from its cache as `Cached`. A stage that fails keeps only its descendants from running.
"""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Running
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows.graph import dag, tree
from flows.graph.nursery import ClosedError, Nursery
from flows.results import artifacts, experiments, metrics
from flows.results.progress import Progress
from flows.serving import gpus, parameters, server, settings
from instdiff.config import compose
from instdiff.options import Parser, whole
from instdiff.progress import TAG

ENVIRONMENT = {"DVC_NO_ANALYTICS": "1", "INSTDIFF_PROGRESS": "1"}
MAX_THREADS = 256  # a task that waits for its upstream holds a thread; `jobs` says how many stages run
RETRY_DELAY = 5.0  # seconds before the first retry of a stage, twice as long before the next

if TYPE_CHECKING:
    Experiment = str
else:  # what the form of the UI offers, and all that the server accepts
    Experiment = Literal[("default", *sorted(path.stem for path in (compose.CONFIGS / "experiment").glob("*.yaml")))]

Jobs = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None  # of an experiment: part of a Git reference
GOOD = {"ran", "Skipped", "Cached"}  # how a stage ends that is up to date
Row = dict[str, Any]  # stage, how it ended, seconds


@flow(name="instdiff", task_runner=ThreadPoolTaskRunner(max_workers=MAX_THREADS))  # type: ignore[arg-type]  # invariant
def pipeline(
    experiment: Experiment = "default",
    overrides: list[str] | None = None,
    targets: list[str] | None = None,
    jobs: Jobs = 2,
    name: Name = None,
) -> State[Any] | list[Row]:
    """Bring everything up to date.

    Args:
        experiment: a file of configs/experiment, or default for configs/ as they are.
        overrides: Hydra's, such as train.optimisation.steps=100.
        targets: stages to bring up to date with all they rest on; every stage when empty.
        jobs: how many stages may run side by side.
        name: keep the run as a DVC experiment of this name; one is made up for a run of a deployment.
    """
    log = get_run_logger()
    words = parameters.words(experiment, overrides)
    log.info("Values: %s", shlex.join(words) or "configs/ as they are")
    try:
        chosen, kept_as = settings.read(), experiments.named(name)
        values = parameters.composed(experiment, overrides, by_form=runtime.deployment.name is not None)
    except ValueError as refused:
        return Failed(message=str(refused))
    with (
        tree.held(str(runtime.flow_run.name), waiting) as lock,
        Nursery(ENVIRONMENT, jobs, [lock]) as nursery,
        parameters.way_on(words, log.warning),
    ):
        under_name("Running")
        compose.write(values)
        graph = dag.upto(dag.load(), targets) if targets else dag.load()
        files = artifacts.shown_files(graph)
        last = metrics.read(files["metrics"]) if "metrics" in files else {}
        rows = run(graph, nursery)
        create_table_artifact(rows, key="stages", description="How each stage ended")
        bad = [outcome["stage"] for outcome in rows if outcome["how"] not in GOOD]
        if bad:
            log.warning(parameters.going_on(words))
            return Failed(message=f"{len(bad)} of {len(rows)} stages did not complete: {', '.join(bad)}")
        changed = artifacts.publish(files, last)
        if kept_as and changed_something(rows):
            experiments.save(kept_as, chosen.push, nursery, log.info)
        if chosen.message:
            experiments.tell(chosen.message, kept_as or str(runtime.flow_run.name), changed)
    return rows


def waiting(message: str) -> None:
    """Have the run seen to wait, in its log and by the name of its state."""
    get_run_logger().warning(message)
    under_name("Waiting", message)


def under_name(name: str, message: str | None = None) -> None:
    """Let this run's state, which is a running one, have a name of ours."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(runtime.flow_run.id)
        if run.state is not None and run.state.is_running() and run.state.name != name:
            client.set_flow_run_state(run.id, Running(name=name, message=message), force=True)


def changed_something(rows: Sequence[Row]) -> bool:
    """Whether a run did more than to see that all is up to date."""
    return any(outcome["how"] != "Skipped" for outcome in rows)


def run(graph: dag.Graph, nursery: Nursery, page: str = "") -> list[Row]:
    """One task a stage of a page (`folder/dvc.yaml:`), each after those it reads from; say how each ended."""
    gpus.create_limit()
    runs: dict[str, Any] = {}
    for name, node in graph.items():
        retried = reproduce.with_options(
            retries=node.meta.get("retries", 0), retry_delay_seconds=exponential_backoff(RETRY_DELAY)
        )
        upstream, num_gpus = [runs[each] for each in node.upstream if each in runs], node.meta.get("gpus", 0)
        runs[name] = retried.submit(name, node.stale, num_gpus, nursery, page, wait_for=upstream, return_state=False)
    for future in runs.values():
        future.wait()
    return [row(name, future.state) for name, future in runs.items()]


@task(task_run_name="{stage}", cache_policy=NO_CACHE)  # dvc.lock is the only cache
def reproduce(stage: str, stale: bool, num_gpus: int, nursery: Nursery, page: str = "") -> State[Row] | Row:
    """Bring one stage up to date, its upstream being so."""
    start = time.monotonic()
    if not stale:
        return ended(stage, "Skipped", start)
    log = get_run_logger()
    how = "ran"
    show = Progress(stage)
    try:
        with gpus.held(num_gpus) as environment:
            for line in nursery.lines(["--wait-for-lock", "repro", "--single-item", f"{page}{stage}"], environment):
                if line.startswith(TAG):
                    show(json.loads(line.removeprefix(TAG)))
                    continue
                how = spoken(line) or how
                if line.strip():
                    log.info(line)
    except ClosedError as stopped:
        return Cancelled(message=str(stopped))
    return ended(stage, how, start)


def spoken(line: str) -> str | None:
    """What DVC's words say of how a stage ended, if they do (tests hold them for the DVC that is pinned)."""
    if "didn't change, skipping" in line:
        return "Skipped"
    if "is cached - skipping run" in line:
        return "Cached"
    return None


def ended(stage: str, how: str, start: float) -> State[Row] | Row:
    """A row, under a state that carries its name when nothing ran."""
    data: Row = {"stage": stage, "how": how, "seconds": round(time.monotonic() - start, 1)}
    return data if how == "ran" else Completed(name=how, message=f"{stage}: {how.lower()} by DVC", data=data)


def row(stage: str, state: State[Any]) -> Row:
    """How a task ended, also when it failed or never ran."""
    if state.is_completed():
        data: Row = state.result()
        return data
    return {"stage": stage, "how": state.name, "seconds": 0.0}


@contextmanager
def watched() -> Iterator[None]:
    """The server that the environment names, else one of our own while the context is open."""
    if PREFECT_API_URL.value():
        yield
        return
    access = server.new()
    settings_of_it = {PREFECT_API_URL: f"{access.address}/api", PREFECT_API_AUTH_STRING: access.token}
    with server.running(access), temporary_settings(settings_of_it):
        yield
        APILogWorker.drain_all()  # what is not sent yet is sent while the server is there


def main() -> None:
    """Parse the command line, run the flow, and exit with 1 when a stage did not complete."""
    parser = Parser(prog="python -m flows.pipeline", description="Bring the pipeline up to date under Prefect.")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. experiment=smoke")
    parser.add_argument("--target", action="append", dest="targets", help="a stage; may be given again")
    parser.add_argument("--jobs", type=whole(1), default=2, help="stages side by side")
    parser.add_argument("--name", help="keep the run as a DVC experiment of this name")
    chosen = vars(parser.parse_args())
    with watched():
        state = pipeline(**chosen, return_state=True)
    print(f"{state.name}: {state.message or 'every stage is up to date'}")
    sys.exit(not state.is_completed())


if __name__ == "__main__":
    main()
