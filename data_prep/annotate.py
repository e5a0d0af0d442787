"""annotate: join what is known of each instance, and keep what is fit to learn from.   tables -> annotated

The only stage that drops: each instance it was given is a row of `annotated` or a row of the ledger.
"""

from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from data_prep.columns import CAPTIONS, GIVEN, INSTANCES, MASKS, STROKES
from instdiff import stage, tables
from instdiff.formats import Format
from instdiff.layouts import masks as run_lengths
from instdiff.layouts.geometry import clamp
from instdiff.schema import Box, Rle, Strict
from instdiff.tables import ANNOTATED, IMAGES
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

ROW = ["key", "index"]
Needed = Format | Literal["category", "caption"]


class Params(Strict):
    """What an instance needs to be kept."""

    required: tuple[Needed, ...]  # an instance without one of these is dropped
    min_visible_area: float  # of the mask, as a share of the picture
    min_box_size: float  # of the box, as a share of the picture


def run(
    *,
    images: Path,
    given: Path,
    instances: Path,
    masks: Path,
    captions: Path,
    strokes: Path,
    annotated: Path,
    ledger: Path,
    params: Params,
) -> dict[str, int]:
    """From all tables of a split to one, in the order of the images and then of their instances."""
    sizes = {row["key"]: (row["height"], row["width"]) for row in tables.read(images, IMAGES).to_dict("records")}
    joined = tables.read(instances, INSTANCES)
    _once(joined, instances)
    for path, schema in ((masks, MASKS), (captions, CAPTIONS), (strokes, STROKES)):
        joined = _with(joined, tables.read(path, schema).drop(columns="score", errors="ignore"), path)
    from_source = [name for name in GIVEN.names if name in ANNOTATED.names and name not in joined.columns]
    joined = _joined(joined, tables.read(given, GIVEN)[[*ROW, *from_source]], given)
    kept: dict[str, list[dict[str, Any]]] = {key: [] for key in sizes}
    dropped = Ledger()
    for row in _nulls_as_none(joined):
        reason = unfit(row, sizes.get(row["key"]), params)
        if reason is None:
            kept[row["key"]].append({**row, "box": list(clamp(Box(*row["box"]))) if row["box"] is not None else None})
        else:
            dropped.add(row["key"], row["index"], reason)
    rows = [row for key in sizes for row in kept[key]]
    dropped.write(ledger)
    return {
        "instances": len(joined),
        "kept": tables.write(annotated, rows, ANNOTATED),
        "dropped": len(dropped.rows),
        "pictures_without_instances": sum(not rows for rows in kept.values()),
        **dropped.counts("dropped"),
    }


def unfit(row: dict[str, Any], size: tuple[int, int] | None, params: Params) -> Failure | None:
    """Why the instance is dropped: the first reason found, or None."""
    if size is None:
        return Failure("no_picture", "no such key among the images")
    for name in params.required:
        if row[name] is None:
            return Failure(f"no_{name}", f"an earlier stage gave no {name}")
    if row["box"] is not None:
        box = clamp(Box(*row["box"]))
        if not box.area >= params.min_box_size or box.area == 0:
            return Failure("small_box", f"covers {box.area:.4f} of the picture")
    if row["mask"] is not None:
        visible = run_lengths.area(run_lengths.decode(Rle(size=size, counts=row["mask"])))
        if visible < params.min_visible_area or visible == 0:
            return Failure("small_mask", f"covers {visible:.4f} of the picture")
    return None


def _with(instances: pd.DataFrame, table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The instances with what a stage added to them; ValueError when it added to one that is not there."""
    strange = table.merge(instances[ROW], on=ROW, how="left", indicator=True).query("_merge == 'left_only'")
    if len(strange):
        raise ValueError(f"{path}: {_name(strange)} is not among the instances")
    return _joined(instances, table, path)


def _joined(instances: pd.DataFrame, table: pd.DataFrame, path: Path) -> pd.DataFrame:
    _once(table, path)
    return instances.merge(table, on=ROW, how="left", sort=False)


def _once(table: pd.DataFrame, path: Path) -> None:
    twice = table[table.duplicated(ROW)]
    if len(twice):
        raise ValueError(f"{path}: {_name(twice)} stands there more than once")


def _name(rows: pd.DataFrame) -> str:
    return f"instance {rows.iloc[0]['index']} of {rows.iloc[0]['key']}"


def _nulls_as_none(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows with None for what a left join left open, which pandas calls NaN."""
    for row in table.to_dict("records"):
        yield {str(name): None if isinstance(value, float) and isnan(value) else value for name, value in row.items()}


if __name__ == "__main__":
    stage.main(run)
