"""sketch: draw a point, a scribble and an outline for each mask.   masks -> strokes"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import PositiveInt

from data_prep.columns import MASKS, STROKES
from instdiff import stage, tables
from instdiff.layouts import masks as run_lengths
from instdiff.layouts.masks import Mask
from instdiff.layouts.strokes import Points, box_centre, inner_centre, outline, scribble
from instdiff.randomness import generator
from instdiff.schema import Rle, Strict
from instdiff.tables import IMAGES
from instdiff.work import parts, resume
from instdiff.work.parts import Answer, Work

POINTS = {"box_centre": box_centre, "inside": inner_centre}


class Params(Strict):
    """How many points, and where the single one goes."""

    seed: int  # of the places drawn for scribbles and outlines
    num_scribble_points: PositiveInt  # of an instance, within its mask
    num_outline_points: PositiveInt  # of an instance, along its mask's edge
    point: Literal["box_centre", "inside"]  # of the box, or the pixel of the mask nearest to it
    work: Work


class Masked(NamedTuple):
    """A picture's size and its rows of the MASKS table."""

    key: str
    size: tuple[int, int]  # height, width
    rows: list[dict[str, Any]]


def run(*, images: Path, masks: Path, strokes: Path, params: Params) -> dict[str, int]:
    """From masks to strokes; one row an instance, null where there is no mask to draw from."""
    sizes = {row["key"]: (row["height"], row["width"]) for row in tables.read(images, IMAGES).to_dict("records")}
    found = tables.rows_of(tables.read(masks, MASKS))
    todo = [Masked(key, sizes[key], rows) for key, rows in found.items()]
    scratch = parts.place(strokes, resume.digest(__name__, params, images, masks))
    its = parts.cut(todo, partial(sketch_all, masks=masks, params=params), scratch, STROKES, params.work)
    parts.make_all(its, params.work)
    made = parts.joined([part.rows() for part in its], STROKES)
    count = tables.write(strokes, made, STROKES)
    parts.clear(scratch, keep=False)
    drawn = {f"with_{name}": count - made[name].null_count for name in ("point", "scribble", "outline")}
    return {"instances": count, **drawn}


def sketch_all(todo: Sequence[Masked], masks: Path, params: Params) -> Iterator[Answer]:
    """The strokes of each picture's instances; ValueError names a mask that is none."""
    for one in todo:
        yield Answer(one.key, [_row(row, one.size, masks, params) for row in one.rows], [])


def sketch(mask_HW: Mask, key: str, index: int, params: Params) -> dict[str, Points | None]:
    """The strokes of one instance, the same wherever and whenever they are drawn."""
    return {
        "point": POINTS[params.point](mask_HW),
        "scribble": scribble(mask_HW, params.num_scribble_points, generator(params.seed, "scribble", key, index)),
        "outline": outline(mask_HW, params.num_outline_points, generator(params.seed, "outline", key, index)),
    }


def _row(row: dict[str, Any], size: tuple[int, int], masks: Path, params: Params) -> dict[str, Any]:
    place = {"key": row["key"], "index": row["index"]}
    if row["mask"] is None:
        return {**place, "point": None, "scribble": None, "outline": None}
    try:
        mask_HW = run_lengths.decode(Rle(size=size, counts=row["mask"]))
    except ValueError as error:
        raise ValueError(f"{masks}: mask of {row['key']} {row['index']}: {error}") from error
    points = sketch(mask_HW, row["key"], row["index"], params)
    return {**place, **{name: None if drawn is None else drawn.ravel() for name, drawn in points.items()}}


if __name__ == "__main__":
    stage.main(run)
