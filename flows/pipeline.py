"""Run the DVC graph under Prefect: `python -m flows.pipeline [experiment=smoke train.steps=100 ...]`.

One task a stage, named like it. dvc.lock decides what has to run: a stage that is up to date shows as `Skipped`, one
whose outputs DVC restored from its cache as `Cached`. A stage that fails keeps only its descendants from running.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import cache
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import child, dag
from instdiff import config
from instdiff.progress import TAG

DVC = [sys.executable, "-m", "dvc"]
ENVIRONMENT = {"DVC_NO_ANALYTICS": "1", "INSTDIFF_PROGRESS": "1"}
MAX_THREADS = 256  # a task that waits for its upstream holds a thread; `jobs` says how many stages run
SECONDS_BETWEEN_UPDATES = 2.0


Row = dict[str, Any]  # stage, how it ended, seconds


@flow(name="rebuild", task_runner=ThreadPoolTaskRunner(max_workers=MAX_THREADS))  # type: ignore[arg-type]  # invariant
def pipeline(
    overrides: list[str] | None = None, targets: list[str] | None = None, jobs: int = 2
) -> State[Any] | list[Row]:
    """Bring everything up to date.

    Args:
        overrides: Hydra's, as in `experiment=smoke` or `train.steps=100`; configs/ alone when empty.
        targets: stages to bring up to date with all they rest on; every stage when empty.
        jobs: how many stages may run side by side.
    """
    config.compile_params(overrides or [])
    graph = dag.load()
    if targets:
        graph = dag.upto(graph, targets)
    runs: dict[str, Any] = {}
    try:
        for name, node in graph.items():
            run = reproduce.with_options(retries=node.meta.get("retries", 0), retry_delay_seconds=5)
            upstream = [runs[source] for source in node.upstream]
            gpus = node.meta.get("gpus", 0)
            runs[name] = run.submit(name, node.stale, jobs, gpus, wait_for=upstream, return_state=False)
        for run in runs.values():
            run.wait()
    finally:
        child.stop_all()  # cancelled: nothing goes on in the background
    rows = [row(name, run.state) for name, run in runs.items()]
    publish(rows)
    bad = [one["stage"] for one in rows if one["how"] not in {"ran", "Skipped", "Cached"}]
    if bad:
        return Failed(message=f"{len(bad)} of {len(rows)} stages did not complete: {', '.join(bad)}")
    return rows


@task(task_run_name="{stage}", cache_policy=NO_CACHE)  # dvc.lock is the only cache
def reproduce(stage: str, stale: bool, jobs: int, gpus: int) -> State[Row] | Row:
    """Bring one stage up to date, its upstream being so."""
    start = time.monotonic()
    if not stale:
        return ended(stage, "Skipped", start)
    log = get_run_logger()
    how = "ran"
    show = Progress(stage)
    with slots("jobs", jobs), slots("gpus", visible_gpus() if gpus else MAX_THREADS):
        for line in child.lines([*DVC, "--wait-for-lock", "repro", "--single-item", stage], ENVIRONMENT):
            if line.startswith(TAG):
                show(json.loads(line.removeprefix(TAG)))
                continue
            how = spoken(line) or how
            if line.strip():
                log.info(line)
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


class Progress:
    """A stage's own report of its progress, as an artifact and in the log."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.artifact: Any = None
        self.told = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show `done` of `total` units, at most every two seconds and always the last."""
        done, total, unit = event["done"], event["total"], event["unit"]
        now = time.monotonic()
        if now - self.told < SECONDS_BETWEEN_UPDATES and done < total:
            return
        self.told = now
        get_run_logger().info("%s: %d of %d %s", self.stage, done, total, unit)
        share = 100.0 * done / max(1, total)
        if self.artifact is None:
            key = "progress-" + re.sub("[^a-z0-9]+", "-", self.stage.lower())
            self.artifact = create_progress_artifact(share, key=key, description=f"{self.stage}: {total} {unit}")
        else:
            update_progress_artifact(self.artifact, share)


def publish(rows: list[Row]) -> None:
    """Artifacts of the run: how each stage ended, and what the metrics of the table became."""
    create_table_artifact(table=rows, key="stages", description="How each stage ended")
    diff = subprocess.run([*DVC, "metrics", "diff", "--md"], capture_output=True, text=True, check=False)
    lines = [line for line in diff.stdout.splitlines() if ".value" in line or line.startswith(("| Path", "|--"))]
    create_markdown_artifact(
        "\n".join(lines) or "No change.", key="metrics", description="Metrics against the last commit"
    )


@cache  # made on first use: a served flow is pickled, and a lock cannot be
def slots(kind: str, number: int) -> threading.BoundedSemaphore:
    """The slots of one kind that the stages of this process share."""
    return threading.BoundedSemaphore(max(1, number))


@cache
def visible_gpus() -> int:
    """How many GPUs stages take turns on; where there is none, every stage that would use one runs on the CPU."""
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return len(chosen.split(","))
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return MAX_THREADS
    return len(listed.stdout.splitlines()) or MAX_THREADS


def main() -> None:
    """Parse the command line, run the flow, and exit with 1 when a stage did not complete."""
    parser = argparse.ArgumentParser(description="Bring the pipeline up to date under Prefect.")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. experiment=smoke")
    parser.add_argument("--target", action="append", dest="targets", help="a stage; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="stages side by side")
    state = pipeline(**vars(parser.parse_args()), return_state=True)
    print(f"{state.name}: {state.message or 'every stage is up to date'}")
    sys.exit(not state.is_completed())


if __name__ == "__main__":
    main()
