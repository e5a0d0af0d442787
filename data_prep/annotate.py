"""annotate: join what is known of each instance, and keep what is fit to learn from.   tables -> annotated

The only stage that drops: each instance it reads is a row of `annotated` or a row of the ledger.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from data_prep.columns import CAPTIONS, GIVEN, INSTANCES, MASKS, STROKES
from instdiff import stage
from instdiff.files import tables
from instdiff.layouts import masks as run_lengths
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.formats import Format
from instdiff.layouts.geometry import clamp
from instdiff.schema import Box, Rle, Share, Strict
from instdiff.work import packs, resume
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure
from instdiff.work.packs import Counts, Outputs
from instdiff.work.parts import Execution

ROW = ["key", "index"]
Needed = Format | Literal["category", "caption"]


class Params(Strict):
    """What an instance needs to be kept."""

    required: tuple[Needed, ...]  # an instance without one of these is dropped
    min_visible_area: Share  # of the mask, as a share of the picture
    min_box_size: Share  # of the box, as a share of the picture
    work: Execution


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
    all_packs = packs.of(
        images=images, given=given, instances=instances, masks=masks, captions=captions, strokes=strokes
    )
    makes = [(pack.name, pack.digest, partial(annotate, parts=pack.parts, params=params)) for pack in all_packs]
    to = Outputs({"annotated": annotated}, ledger, packs.place(annotated))
    none = {"instances": 0, "kept": 0, "dropped": 0, "pictures_without_instances": 0}
    return {**none, **packs.update(packs.jobs(makes, resume.digest(__name__, params), to), to, params.work)}


def annotate(folder: Path, _before: Path | None, *, parts: Mapping[str, Path], params: Params) -> tuple[Ledger, Counts]:
    """Join a pack's parts, column by column, and write the instances that are fit."""
    images = tables.read(parts["images"], IMAGES)[["key", "height", "width"]]
    joined = _joined(parts).merge(images, on="key", how="left", sort=False)
    reasons = unfit(joined, params, parts["masks"])
    dropped = Ledger()
    for key, index, reason in zip(joined["key"], joined["index"], reasons, strict=True):
        if reason is not None:
            dropped.add(key, index, reason)
    fit = joined[[reason is None for reason in reasons]]
    order = fit["key"].map(pd.Series(images.index, index=images["key"])).sort_values(kind="stable").index
    fit = fit.loc[order]
    boxes = [None if box is None else list(clamp(Box(*box))) for box in fit["box"]]
    fit = fit.assign(box=pd.Series(boxes, index=fit.index, dtype=object))
    tables.write(folder / "annotated" / f"{packs.NUMBER}.parquet", fit, ANNOTATED)
    return dropped, {
        "instances": len(joined),
        "kept": len(fit),
        "dropped": len(dropped.rows),
        "pictures_without_instances": len(images) - fit["key"].nunique(),
        **dropped.counts("dropped"),
    }


def unfit(rows: pd.DataFrame, params: Params, masks: Path) -> list[Failure | None]:
    """Why each instance is dropped, the first reason that holds, or None.

    `rows` has the columns of ANNOTATED, and the picture's height and width, null where there is no such picture;
    ValueError names the file of the masks and the instance whose mask is none.
    """
    lacking = {name: rows[name].isna().to_numpy() for name in params.required}
    columns = [rows[name] for name in ("key", "index", "height", "width", "box", "mask")]
    reasons: list[Failure | None] = []
    for place, (key, index, height, width, box, mask) in enumerate(zip(*columns, strict=True)):
        missing = next((name for name, column in lacking.items() if column[place]), None)
        if np.isnan(height):
            reasons.append(Failure("no_picture", "no such key among the images"))
        elif missing is not None:
            reasons.append(Failure(f"no_{missing}", f"an earlier stage gave no {missing}"))
        else:
            try:
                reasons.append(_small(box, mask, (int(height), int(width)), params))
            except ValueError as error:
                raise ValueError(f"{masks}: mask of {key} {index}: {error}") from error
    return reasons


def _small(box: Any, mask: str | None, size: tuple[int, int], params: Params) -> Failure | None:
    if box is not None:
        area = clamp(Box(*box)).area
        if not area >= params.min_box_size or area == 0:
            return Failure("small_box", f"covers {area:.4f} of the picture")
    if mask is not None:
        visible = run_lengths.visible(Rle(size=size, counts=mask))
        if visible < params.min_visible_area or visible == 0:
            return Failure("small_mask", f"covers {visible:.4f} of the picture")
    return None


def _joined(parts: Mapping[str, Path]) -> pd.DataFrame:
    """The instances with what each stage added to them, and what the source knows beside."""
    joined = tables.read(parts["instances"], INSTANCES)
    _once(joined, parts["instances"])
    for name, schema in (("masks", MASKS), ("captions", CAPTIONS), ("strokes", STROKES)):
        joined = _with(joined, tables.read(parts[name], schema).drop(columns="score", errors="ignore"), parts[name])
    from_source = [name for name in GIVEN.names if name in ANNOTATED.names and name not in joined.columns]
    given = tables.read(parts["given"], GIVEN)[[*ROW, *from_source]]
    joined = _beside(joined, given, parts["given"])
    return joined.astype(object).where(joined.notna(), None)  # a left join leaves NaN, which is truthy


def _with(instances: pd.DataFrame, table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The instances with what a stage added to them; ValueError when it added to one that is not there."""
    strange = table.merge(instances[ROW], on=ROW, how="left", indicator=True).query("_merge == 'left_only'")
    if len(strange):
        raise ValueError(f"{path}: {_name(strange)} is not among the instances")
    return _beside(instances, table, path)


def _beside(instances: pd.DataFrame, table: pd.DataFrame, path: Path) -> pd.DataFrame:
    _once(table, path)
    return instances.merge(table, on=ROW, how="left", sort=False)


def _once(table: pd.DataFrame, path: Path) -> None:
    twice = table[table.duplicated(ROW)]
    if len(twice):
        raise ValueError(f"{path}: {_name(twice)} stands there more than once")


def _name(rows: pd.DataFrame) -> str:
    return f"instance {rows.iloc[0]['index']} of {rows.iloc[0]['key']}"


if __name__ == "__main__":
    stage.main(run)
