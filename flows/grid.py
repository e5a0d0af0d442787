"""Grids of experiments, each a file of configs/grid.

instdiff grid ablation            # queue one DVC experiment for each line; `dvc exp run --run-all` runs them
instdiff grid ablation --show     # the table of those that have run, beside the run they started from

An experiment is named <grid>-<line> and computes the rows of the table that it is about, no others.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from dvc.api import DVCFileSystem
from pydantic import ValidationError
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Column, Table

from flows.results.metrics import Change, Metric
from instdiff.options import Parser
from instdiff.schema import Strict

GRIDS = Path("configs/grid")
WIDTH = 100  # characters of a table


class Variant(Strict):
    """One experiment of a grid."""

    overrides: list[str]  # Hydra's
    rows: list[str]  # of the table: what is drawn, detected and scored again; the whole graph when empty


class Grid(Strict):
    """The whole file."""

    metrics: list[str]  # what its table shows
    variants: dict[str, Variant]


class Line(NamedTuple):
    """A row of the table as one run has it."""

    row: str
    run: str
    metrics: dict[str, Metric]


def read(path: Path) -> Grid:
    """A grid; ValueError names the file and the line that is wrong."""
    try:
        return Grid.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def command(name: str, variant: Variant) -> list[str]:
    """What queues one experiment."""
    chosen = [word for override in variant.overrides for word in ("-S", override)]
    targets = [f"score@{row}" for row in variant.rows]
    return [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name, *chosen, *targets]


def queue(name: str, grid: Grid) -> None:
    """Queue every experiment of a grid; ValueError names the first that DVC refuses."""
    for variant_name, variant in grid.variants.items():
        if subprocess.run(command(f"{name}-{variant_name}", variant), check=False).returncode:
            raise ValueError(f"{name}-{variant_name} was not queued; those above it were (dvc queue status)")
    print(f"run them: dvc exp run --run-all; look at them: instdiff grid {name} --show, dvc exp show")


def lines(name: str, grid: Grid) -> Iterator[Line]:
    """Every row that an experiment of the grid changed, each after the same row of HEAD, which they started from."""
    ran = {
        variant_name: variant
        for variant_name, variant in grid.variants.items()
        if f"{name}-{variant_name}" in experiments()
    }
    runs = {"HEAD": DVCFileSystem(rev="HEAD")} | {
        variant_name: DVCFileSystem(rev=f"{name}-{variant_name}") for variant_name in ran
    }
    scores = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["vars"][0]["path"]["scores"]
    rows = dict.fromkeys(row for variant in ran.values() for row in variant.rows)
    for row in rows:
        for run in ["HEAD", *(variant_name for variant_name, variant in ran.items() if row in variant.rows)]:
            yield Line(row, run, json.loads(runs[run].read_text(f"{scores}/{row}/metrics.json")))


def nothing(name: str, grid: Grid) -> str:
    """What to do where no experiment of a grid has run."""
    return (
        f"none of the {len(grid.variants)} experiments of {name} has run from this commit: `instdiff grid {name}`"
        " queues them, `dvc exp run --run-all` runs them"
    )


def experiments() -> set[str]:
    """Names of the experiments that started from HEAD."""
    command = ["git", "for-each-ref", "--format=%(refname)", "refs/exps"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    references = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {
        reference.rpartition("/")[2]
        for reference in references
        if reference.startswith(f"refs/exps/{head[:2]}/{head[2:]}/")
    }


def table(table_lines: Sequence[Line], metrics: Sequence[str]) -> Table:
    """Each value with half of its 95% interval; marked where it leaves the interval that HEAD gave it."""
    heads = (name.replace("_accuracy", "").replace("_", " ") for name in metrics)
    printed = Table("row", Column("run", no_wrap=True), *heads, box=MARKDOWN)
    before: dict[str, Metric] = {}
    for line in table_lines:
        if line.run == "HEAD":
            before = line.metrics
        cells = (number(Change(line.row, name, before[name], line.metrics[name])) for name in metrics)
        printed.add_row(line.row, line.run, *cells)
    return printed


def number(change: Change) -> str:
    """A value, its interval and a mark: `.57±.03 worse`."""
    value, half = change.after["value"], (change.after["high"] - change.after["low"]) / 2
    return f"{value:.3f}±{half:.3f}{' worse' if change.fell else ' better' if change.rose else ''}"


def main(arguments: Sequence[str]) -> None:
    """Queue a grid, or show what became of it."""
    parser = Parser(prog="instdiff grid", description="A grid of experiments.")
    parser.add_argument("grid", choices=sorted(path.stem for path in GRIDS.glob("*.yaml")))
    parser.add_argument("--show", action="store_true", help="print the table of those that have run")
    chosen = parser.parse_args(arguments)
    grid = read(GRIDS / f"{chosen.grid}.yaml")
    if chosen.show:
        table_lines = list(lines(chosen.grid, grid))
        if not table_lines:
            print(nothing(chosen.grid, grid))
            return
        Console(width=WIDTH).print(table(table_lines, grid.metrics))
    else:
        queue(chosen.grid, grid)
