"""paper: the paper's tables, ours beside them.   scores of all rows -> one page, and its numbers

Every cell has our value with its 95% interval, the band in which a run is held to agree, and the verdict. Rows that the
paper does not have are listed below with their headline metrics, so that a row can be added later.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import PositiveFloat, PositiveInt

from eval.benchmarks.published import CELLS, COLUMNS, PaperCell
from eval.metrics import bootstrap
from eval.scoring.columns import SCORES
from eval.scoring.row import REAL
from instdiff import stage
from instdiff.files import atomic, provenance, tables
from instdiff.files.texts import read_json
from instdiff.layouts import html
from instdiff.layouts.formats import RELEASED
from instdiff.layouts.table_rows import TableRow
from instdiff.schema import Strict

TEMPLATE = Path(__file__).parent / "pages" / "paper.html.j2"
STAGES = ("generate", "detect", "score")
PER_PICTURE = {"colour_accuracy": "colour", "texture_accuracy": "texture", "clip_local": None}  # metric -> its words
STOLEN = (49.9, 40.8)  # box and mask AP of the real pictures at their own size, once published as those of drawn ones


class Params(Strict):
    """Values of the stage."""

    gpu_hour: PositiveFloat | None  # the price of an hour of one GPU
    gpus: PositiveInt  # at work side by side
    rows: dict[str, TableRow]


class PaperMetric(NamedTuple):
    """A value and its 95% interval, as the paper prints it."""

    value: float
    low: float
    high: float


class PaperLine(NamedTuple):
    """One cell of the paper's, and ours by one reading of it."""

    cell: PaperCell
    reading: str
    row: str  # of ours, with its ground truth
    ours: PaperMetric | None
    verdict: str


class PaperRow(NamedTuple):
    """A row of ours."""

    truth: str
    row: str
    metrics: dict[str, dict[str, Any]]
    instances: pd.DataFrame
    source: dict[str, Any]


def read(scores: Path) -> dict[tuple[str, str], PaperRow]:
    """Every row that was scored, by ground truth and name."""
    rows = {}
    for path in sorted(scores.glob("*/*/metrics.json")):
        folder = path.parent
        truth, row = folder.parent.name, folder.name
        instances = tables.read(folder / "instances.parquet", SCORES)
        rows[truth, row] = PaperRow(truth, row, read_json(path), instances, read_json(folder / "provenance.json"))
    return rows


def of_cell(cell: PaperCell, scored: PaperRow) -> PaperMetric | None:
    """Our value of a cell, None where nothing was measured."""
    if cell.metric is None or cell.metric not in scored.metrics:
        return None
    metric = per_picture(cell.metric, scored) if cell.per_picture else scored.metrics[cell.metric]
    factor = COLUMNS[cell.column][1]
    return PaperMetric(*(factor * metric[end] for end in ("value", "low", "high")))


def per_picture(metric: str, scored: PaperRow) -> dict[str, float]:
    """A mean over the first instances of each picture, then over pictures, as the reference's script takes it."""
    instances = scored.instances[scored.instances["index"] < RELEASED.max_instances]
    words = PER_PICTURE[metric]
    values = instances["clip_local"] if words is None else (instances[f"judged_{words}"] == instances[words]) * 1.0
    means_I = values.groupby(instances["key"], sort=False).mean().dropna().to_numpy(np.float64)
    settings = scored.source["settings"]
    draws = bootstrap.draws(len(means_I), settings["num_resamples"], settings["seed"])
    return bootstrap.mean(np.asarray(means_I, np.float64), np.arange(len(means_I)), draws)._asdict()


def verdict(cell: PaperCell, ours: PaperMetric | None, comparable: bool) -> str:
    """Where our value lies: by the band, and where there is none by our own interval."""
    if cell.metric is None:
        return "the paper does not define it"
    if ours is None:
        return "not measured"
    if not comparable:
        return "a part of the benchmark: not comparable"
    if cell.band is None:
        inside = ours.low <= cell.published <= ours.high
        return "no band; the paper's value lies " + ("in our interval" if inside else "outside our interval")
    low, high = cell.band
    return "in the band" if low <= ours.value <= high else "below the band" if ours.value < low else "above the band"


def lines(scored: Mapping[tuple[str, str], PaperRow], comparable: bool) -> list[PaperLine]:
    """Every cell of the paper's by every reading of it that was drawn."""
    paper_lines = []
    for cell in CELLS:
        if not cell.rows:
            paper_lines.append(PaperLine(cell, "", "", None, verdict(cell, None, comparable)))
        for reading, truth, row in cell.rows:
            if (truth, row) in scored:
                ours = of_cell(cell, scored[truth, row])
                paper_lines.append(PaperLine(cell, reading, f"{truth}/{row}", ours, verdict(cell, ours, comparable)))
    return paper_lines


def alarms(scored: Mapping[tuple[str, str], PaperRow]) -> list[str]:
    """One sentence for everything that makes the tables suspicious."""
    sentences = []
    for (truth, row), scored_row in scored.items():
        values = [
            round(100 * scored_row.metrics[name]["value"], 1)
            for name in ("box_ap", "mask_ap")
            if name in scored_row.metrics
        ]
        if row != REAL and tuple(values) == STOLEN:
            sentences.append(
                f"{truth}/{row} has box AP 49.9 and mask AP 40.8, which is the score of the real pictures."
            )
    weights = {
        json.dumps(scored_row.source["drawn_by"]["weights"])
        for scored_row in scored.values()
        if scored_row.source["drawn_by"]
    }
    if len(weights) > 1:
        sentences.append("The rows were not all drawn by the same weights.")
    return sentences


def costs(seconds: Mapping[str, float], params: Params) -> dict[str, dict[str, float]]:
    """Of each row: seconds of each stage, hours of all, and their price."""
    by_row: dict[str, dict[str, float]] = {}
    for name, duration in seconds.items():
        step, _, row = name.partition("@")
        if step in STAGES and row:
            by_row.setdefault(row.replace("-", "/", 1), {})[step] = duration
    for own in by_row.values():
        own["hours"] = sum(own.values()) / 3600
        if params.gpu_hour is not None:
            own["price"] = own["hours"] * params.gpus * params.gpu_hour
    return by_row


def numbers(paper_lines: Sequence[PaperLine]) -> dict[str, dict[str, Any]]:
    """The lines as records by table, method, column and reading, for `dvc metrics`."""
    return {
        f"{line.cell.method} | {line.cell.column} | {line.reading}": {
            "published": line.cell.published,
            "band": line.cell.band,
            "row": line.row,
            **({} if line.ours is None else line.ours._asdict()),
            "verdict": line.verdict,
        }
        for line in paper_lines
    }


def run(
    *,
    scores: Path,
    truth: Path,
    weights: Path,
    self_test: Path,
    seconds: Path,
    table: Path,
    page: Path,
    params: Params,
) -> dict[str, float]:
    """Scores of all rows -> the paper's tables, and ours beside them"""
    scored = read(scores)
    if not scored:
        raise ValueError(f"{scores}: no row was scored")
    info = read_json(truth).get("info", {})
    paper_lines = lines(scored, bool(info.get("comparable", False)))
    recipes = {path.parent.relative_to(weights).as_posix(): path for path in sorted(weights.rglob("recipe.json"))}
    content = {
        "lines": paper_lines,
        "tables": list(dict.fromkeys(line.cell.table for line in paper_lines)),
        "scored": list(scored.values()),
        "rows": params.rows,
        "columns": COLUMNS,
        "costs": costs(read_json(seconds), params),
        "stages": STAGES,
        "alarms": alarms(scored),
        "info": info,
        "self_test": read_json(self_test),
        "files": {name: read_json(path)["params"]["files"] for name, path in recipes.items()},
        "versions": provenance.versions(),
    }
    texts = {table: json.dumps(numbers(paper_lines), indent=2) + "\n", page: html.page(TEMPLATE, content)}
    for path, text in texts.items():
        with atomic.file(path) as part:
            part.write_text(text, encoding="utf-8")
    outside = sum(line.verdict.startswith(("below", "above")) for line in paper_lines)
    return {"rows": len(scored), "cells": len(paper_lines), "outside_the_band": outside}


if __name__ == "__main__":
    stage.main(run)
