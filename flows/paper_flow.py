"""The paper's table as a flow of Prefect's: what `make paper` does, one task a stage."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows import paper, pipeline
from flows.graph import tree
from flows.graph.nursery import Nursery
from flows.pipeline import ENVIRONMENT, GOOD, MAX_THREADS, Jobs, Row
from flows.serving import confine
from instdiff.config import compose

Subset = Annotated[int, Field(ge=1)] | None


@flow(name="paper", task_runner=ThreadPoolTaskRunner(max_workers=MAX_THREADS))  # type: ignore[arg-type]  # invariant
def table(
    coco: str,
    weights: str,
    subset: Subset = None,
    workers: str | None = None,
    overrides: list[str] | None = None,
    out: str = "paper",
    jobs: Jobs = 1,
) -> State[Any] | list[Row]:
    """Make the paper's table, or bring it up to date.

    Args:
        coco: the folder with COCO's val2017 and annotations.
        weights: the folder with the published weights.
        subset: that many pictures, stratified; not comparable to the paper.
        workers: a number of processes, slurm, or the address of a Dask scheduler.
        overrides: Hydra's, such as generate.steps=20.
        out: the folder to work in, within the tree.
        jobs: how many stages may run side by side; each has all workers.
    """
    with tree.held(str(runtime.flow_run.name), pipeline.waiting) as lock, Nursery(ENVIRONMENT, jobs, [lock]) as nursery:
        pipeline.under_name("Running")
        try:
            if runtime.deployment.name is not None:
                confined(coco, weights, out, workers, overrides or [])
            paper.prepare(Path(coco), Path(weights), subset, workers, overrides or [], Path(out))
        except ValueError as refused:
            return Failed(message=str(refused))
        rows: list[Row] = []
        for graph in paper.halves(Path(out)):
            ended = pipeline.run(graph, nursery, f"{out}/dvc.yaml:")
            paper.timed(Path(out), {row["stage"]: row["seconds"] for row in ended if row["how"] == "ran"})
            rows += ended
            bad = [row["stage"] for row in ended if row["how"] not in GOOD]
            if bad:
                return Failed(message=f"{len(bad)} of {len(ended)} stages did not complete: {', '.join(bad)}")
        get_run_logger().info("The paper's table: %s", (Path(out) / "paper.html").resolve())
    return rows


def confined(coco: str, weights: str, out: str, workers: str | None, overrides: list[str]) -> None:
    """Refuse what a form may not name; ValueError says which value leads out of the tree."""
    allowed = confine.allowed()
    confine.check(yaml.safe_dump({"coco": coco, "weights": weights, "out": out}), "{}", allowed)
    base = ["experiment=sd15", "+paper=default"]
    confine.check(compose.composed([*base, *paper.workers(workers), *overrides]), compose.composed(base), allowed)
