"""report: put every row side by side.   scores + pictures -> metrics.json, a sheet of samples and one page

metrics.json holds the headline metrics: row -> metric -> value, n, low, high. The page is one HTML file that
needs no network and hides nothing: intervals, samples with their layouts, the worst instances of each row,
what was dropped and why, and the hashes of all that was judged.
"""

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt

from eval.inputs import ground_truth
from eval.pages import figures, report_page
from eval.scoring.columns import SCORES
from eval.scoring.headline import HEADLINE
from eval.scoring.row import REAL
from instdiff import stage
from instdiff.files import atomic, tables
from instdiff.layouts import html
from instdiff.layouts.table_rows import TableRow
from instdiff.schema import Strict

SAME = ("annotated", "images", "real_pictures", "judge", "settings")  # or rows cannot be compared


class Params(Strict):
    """Values of the stage."""

    rows: dict[str, TableRow]  # in the order of the table
    num_layouts: NonNegativeInt  # in the grid of samples
    num_failures: NonNegativeInt  # shown of each row
    max_side: PositiveInt  # pixels of a picture on the page
    sheet_rows: tuple[str, ...]  # of the sheet of samples, those of them that the table has
    sheet_layouts: PositiveInt  # columns of the sheet, taken in turn from every group
    sheet_side: PositiveInt  # pixels of a picture on the sheet


class ReportRow(NamedTuple):
    """What the score stage wrote of one row."""

    name: str
    meaning: str
    metrics: dict[str, dict[str, Any]]  # value, n, low, high; of the table's, which way is better
    instances: pd.DataFrame
    provenance: dict[str, Any]


def read(scores: Path, rows: Mapping[str, TableRow]) -> list[ReportRow]:
    """The rows of the table; ValueError names one that is missing or was judged on or by something else."""
    scored = [_row(scores / name, name, row.meaning) for name, row in rows.items()]
    for row in scored[1:]:
        for what in SAME:
            if row.provenance[what] != scored[0].provenance[what]:
                raise ValueError(f"rows {scored[0].name!r} and {row.name!r} cannot be compared: their {what} differ")
        if row.provenance["detected_by"]["detector"] != scored[0].provenance["detected_by"]["detector"]:
            raise ValueError(f"rows {scored[0].name!r} and {row.name!r} cannot be compared: their detectors differ")
    return scored


def headline(rows: list[ReportRow]) -> dict[str, dict[str, dict[str, Any]]]:
    """Row -> metric -> value, n, low, high, and which way is better, for the metrics of the table."""
    return {row.name: {name: row.metrics[name] for name in HEADLINE if name in row.metrics} for row in rows}


def alarms(rows: list[ReportRow]) -> list[str]:
    """One sentence for everything that makes the table suspicious."""
    sentences = []
    by_name = {row.name: row for row in rows}
    real = by_name.get(REAL)
    for row in rows:
        lacking = [name for name in HEADLINE if name not in row.metrics]
        if lacking:
            sentences.append(f"Row {row.name}: not measured, because no instance asks for it: {', '.join(lacking)}.")
        if real is None or row is real:
            continue
        if _same(row, real):
            sentences.append(f"Row {row.name} equals the real row in every metric: were the real pictures judged?")
        elif row.metrics["box_ap50"]["low"] > real.metrics["box_ap50"]["high"]:
            sentences.append(
                f"Row {row.name} has a higher box AP50 than the real pictures: the detector is not to be trusted."
            )
    all_weights = [
        weights for row in rows if "unet" in (weights := _weights(row))
    ]  # by our model: others are told by their rows
    if any(weights != all_weights[0] for weights in all_weights):
        sentences.append(
            "The rows were not all drawn by the same weights: they differ in more than what they were given."
        )
    if real is None:
        sentences.append("There is no real row: nothing says how far the detector and the judge can be trusted.")
    return sentences


def _weights(row: ReportRow) -> Mapping[str, str]:
    """Of the networks that drew a row; none of real pictures, and of those of a command."""
    weights: dict[str, str] = (row.provenance.get("drawn_by") or {}).get("weights", {})
    return weights


def _row(folder: Path, name: str, meaning: str) -> ReportRow:
    if not folder.is_dir():
        raise ValueError(f"{folder}: row {name!r} was not scored")
    return ReportRow(
        name,
        meaning,
        json.loads((folder / "metrics.json").read_text()),
        tables.read(folder / "instances.parquet", SCORES),
        json.loads((folder / "provenance.json").read_text()),
    )


def _same(row: ReportRow, real: ReportRow) -> bool:
    """The same pictures, or the same numbers wherever a number can differ."""
    if row.provenance["pictures"] == real.provenance["pictures"]:
        return True
    return all(row.metrics.get(name) == real.metrics.get(name) for name in HEADLINE if name != "fid")


def groups(rows: list[ReportRow]) -> list[str]:
    """Groups of layouts that box AP50 was measured on."""
    return sorted({name.partition("/")[2] for row in rows for name in row.metrics if name.startswith("box_ap50/")})


def content(
    rows: list[ReportRow],
    sources: report_page.Sources,
    params: Params,
    dropped: Mapping[str, object],
    log: pd.DataFrame | None,
    data: report_page.Link,
) -> dict[str, object]:
    """All that the template shows."""
    keys = report_page.chosen(sources.truth, params.num_layouts)
    values = stage.PARAMS_FILE.read_text() if stage.PARAMS_FILE.is_file() else ""
    controls = [name for name, row in params.rows.items() if row.pictures != "drawn" or not row.formats]
    failed = [
        failure
        for row in rows
        for failure in report_page.failures(sources, row.name, row.instances, params.num_failures)
    ]
    pictures_needed = {(row.name, key) for row in rows for key in keys}
    pictures_needed |= {(row, failure.key) for failure in failed for row in (REAL, failure.row)}
    return {
        "rows": rows,
        "real": REAL,
        "first_drawn": next((row.name for row in rows if row.name not in controls), REAL),
        "metrics": HEADLINE,
        "controls": controls,
        "groups": groups(rows),
        "alarms": alarms(rows),
        "num_pictures": len(sources.truth.images),
        "num_instances": len(sources.truth.instances),
        "atlas": sources.atlas(pictures_needed),
        "samples": report_page.samples(sources, keys),
        "failures": failed,
        "filters": {
            "row": [row.name for row in rows],
            "category": sorted({failure.category for failure in failed}),
            "colour": sorted({failure.colour for failure in failed} - {""}),
            "size": list(report_page.SIZES),
            "group": sorted({failure.group for failure in failed}),
        },
        "curves": [] if log is None else figures.curves(log),
        "dropped": dropped,
        "data": data,
        "commit": report_page.commit(),
        "written": f"{dt.datetime.now(dt.UTC):%d %B %Y, %H:%M} UTC",
        "params": values,
        "changed": report_page.changed_values(values),
    }


def run(
    *,
    scores: Path,
    pictures: Path,
    generated: Path,
    images: Path,
    annotated: Path,
    stats_folder: Path,
    ledger: Path,
    look: Path,
    instance: Path,
    metrics: Path,
    samples: Path,
    report: Path,
    params: Params,
) -> dict[str, float]:
    """Scores + pictures -> metrics.json, one picture of samples and one page"""
    rows = read(scores, params.rows)
    truth = ground_truth.load(images, annotated)
    folders = {row.name: pictures if row.name == REAL else generated / row.name for row in rows}
    sources = report_page.sources(truth, folders, rows[0].provenance["settings"]["square"], params.max_side)
    log = instance / "log.csv"
    dropped = report_page.dropped(stats_folder, ledger)
    data = report_page.page_of_data(look, report)
    whole = html.page(
        report_page.TEMPLATE, content(rows, sources, params, dropped, pd.read_csv(log) if log.is_file() else None, data)
    )
    for path, text in ((metrics, json.dumps(headline(rows), indent=2) + "\n"), (report, whole)):
        with atomic.file(path) as part:
            part.write_text(text, encoding="utf-8")
    with atomic.file(samples) as part:
        report_page.sheet(sources, params.sheet_rows, params.sheet_layouts, params.sheet_side).save(part, format="png")
    return {"rows": len(rows), "alarms": len(alarms(rows)), "bytes": len(whole.encode())}


if __name__ == "__main__":
    stage.main(run)
