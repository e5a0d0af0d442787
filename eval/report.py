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
from instdiff import atomic, stage, tables
from instdiff.schema import Strict
from instdiff.table_rows import TableRow

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


class Row(NamedTuple):
    """What the score stage wrote of one row."""

    name: str
    meaning: str
    metrics: dict[str, dict[str, Any]]  # value, n, low, high; of the table's, which way is better
    instances: pd.DataFrame
    provenance: dict[str, Any]


def read(scores: Path, rows: Mapping[str, TableRow]) -> list[Row]:
    """The rows of the table; ValueError names one that is missing or was judged on or by something else."""
    found = [_row(scores / name, name, row.meaning) for name, row in rows.items()]
    for one in found[1:]:
        for what in SAME:
            if one.provenance[what] != found[0].provenance[what]:
                raise ValueError(f"rows {found[0].name!r} and {one.name!r} cannot be compared: their {what} differ")
        if one.provenance["detected_by"]["detector"] != found[0].provenance["detected_by"]["detector"]:
            raise ValueError(f"rows {found[0].name!r} and {one.name!r} cannot be compared: their detectors differ")
    return found


def headline(rows: list[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """Row -> metric -> value, n, low, high, and which way is better, for the metrics of the table."""
    return {row.name: {name: row.metrics[name] for name in HEADLINE if name in row.metrics} for row in rows}


def alarms(rows: list[Row]) -> list[str]:
    """One sentence for everything that makes the table suspicious."""
    said = []
    by_name = {row.name: row for row in rows}
    real = by_name.get(REAL)
    for row in rows:
        lacking = [name for name in HEADLINE if name not in row.metrics]
        if lacking:
            said.append(f"Row {row.name}: not measured, because no instance asks for it: {', '.join(lacking)}.")
        if real is None or row is real:
            continue
        if _same(row, real):
            said.append(f"Row {row.name} equals the real row in every metric: were the real pictures judged?")
        elif row.metrics["box_ap50"]["low"] > real.metrics["box_ap50"]["high"]:
            said.append(
                f"Row {row.name} has a higher box AP50 than the real pictures: the detector is not to be trusted."
            )
    drew = [
        weights for row in rows if "unet" in (weights := _weights(row))
    ]  # by our model: others are told by their rows
    if any(one != drew[0] for one in drew):
        said.append("The rows were not all drawn by the same weights: they differ in more than what they were given.")
    if real is None:
        said.append("There is no real row: nothing says how far the detector and the judge can be trusted.")
    return said


def _weights(row: Row) -> Mapping[str, str]:
    """Of the networks that drew a row; none of real pictures, and of those of a command."""
    weights: dict[str, str] = (row.provenance.get("drawn_by") or {}).get("weights", {})
    return weights


def _row(folder: Path, name: str, meaning: str) -> Row:
    if not folder.is_dir():
        raise ValueError(f"{folder}: row {name!r} was not scored")
    return Row(
        name,
        meaning,
        json.loads((folder / "metrics.json").read_text()),
        tables.read(folder / "instances.parquet", SCORES),
        json.loads((folder / "provenance.json").read_text()),
    )


def _same(one: Row, real: Row) -> bool:
    """The same pictures, or the same numbers wherever a number can differ."""
    if one.provenance["pictures"] == real.provenance["pictures"]:
        return True
    return all(one.metrics.get(name) == real.metrics.get(name) for name in HEADLINE if name != "fid")


def groups(rows: list[Row]) -> list[str]:
    """Groups of layouts that box AP50 was measured on."""
    return sorted({name.partition("/")[2] for row in rows for name in row.metrics if name.startswith("box_ap50/")})


def content(
    rows: list[Row],
    of: report_page.Sources,
    params: Params,
    dropped: Mapping[str, object],
    log: pd.DataFrame | None,
    data: report_page.Link,
) -> dict[str, object]:
    """All that the template shows."""
    keys = report_page.chosen(of.truth, params.num_layouts)
    values = stage.PARAMS_FILE.read_text() if stage.PARAMS_FILE.is_file() else ""
    controls = [name for name, row in params.rows.items() if row.pictures != "drawn" or not row.formats]
    failed = [one for row in rows for one in report_page.failures(of, row.name, row.instances, params.num_failures)]
    shown = {(row.name, key) for row in rows for key in keys}
    shown |= {(row, one.key) for one in failed for row in (REAL, one.row)}
    return {
        "rows": rows,
        "real": REAL,
        "first_drawn": next((row.name for row in rows if row.name not in controls), REAL),
        "metrics": HEADLINE,
        "controls": controls,
        "groups": groups(rows),
        "alarms": alarms(rows),
        "num_pictures": len(of.truth.images),
        "num_instances": len(of.truth.instances),
        "atlas": of.atlas(shown),
        "samples": report_page.samples(of, keys),
        "failures": failed,
        "filters": {
            "row": [row.name for row in rows],
            "category": sorted({one.category for one in failed}),
            "colour": sorted({one.colour for one in failed} - {""}),
            "size": list(report_page.SIZES),
            "group": sorted({one.group for one in failed}),
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
    of = report_page.sources(truth, folders, rows[0].provenance["settings"]["square"], params.max_side)
    log = instance / "log.csv"
    dropped = report_page.dropped(stats_folder, ledger)
    seen = report_page.page_of_data(look, report)
    whole = report_page.render(content(rows, of, params, dropped, pd.read_csv(log) if log.is_file() else None, seen))
    for path, text in ((metrics, json.dumps(headline(rows), indent=2) + "\n"), (report, whole)):
        with atomic.file(path) as part:
            part.write_text(text, encoding="utf-8")
    with atomic.file(samples) as part:
        report_page.sheet(of, params.sheet_rows, params.sheet_layouts, params.sheet_side).save(part, format="png")
    return {"rows": len(rows), "alarms": len(alarms(rows)), "bytes": len(whole.encode())}


if __name__ == "__main__":
    stage.main(run)
