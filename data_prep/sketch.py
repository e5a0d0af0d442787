"""sketch: draw a point, a scribble and an outline for each mask.   masks -> strokes"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import PositiveInt

from data_prep.columns import MASKS, STROKES
from instdiff import stage
from instdiff.files import tables
from instdiff.layouts import masks as run_lengths
from instdiff.layouts.columns import IMAGES
from instdiff.layouts.masks import Mask
from instdiff.layouts.strokes import Points, box_centre, inner_centre, outline, scribble
from instdiff.randomness import generator
from instdiff.schema import Rle, Strict
from instdiff.work import packs, resume
from instdiff.work.packs import Output, Pack
from instdiff.work.parts import Answer, Execution

POINTS = {"box_centre": box_centre, "inside": inner_centre}


class Params(Strict):
    """How many points, and where the single one goes."""

    seed: int  # of the places drawn for scribbles and outlines
    num_scribble_points: PositiveInt  # of an instance, within its mask
    num_outline_points: PositiveInt  # of an instance, along its mask's edge
    point: Literal["box_centre", "inside"]  # of the box, or the pixel of the mask nearest to it
    work: Execution


class Masked(NamedTuple):
    """A picture's size and its rows of the MASKS table."""

    key: str
    size: tuple[int, int]  # height, width
    rows: list[dict[str, Any]]


def run(*, images: Path, masks: Path, strokes: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From masks to strokes; one row an instance, null where there is no mask to draw from."""
    all_packs = packs.of(images=images, masks=masks)
    to = Output(strokes, STROKES, ledger)
    digest = resume.digest(__name__, params)
    sketch_packs = partial(sketch_pack, params=params)
    counts = packs.annotated(all_packs, masked_in, sketch_packs, to, digest, params.work, count=with_strokes)
    return {**with_strokes([]), **{name: count for name, count in counts.items() if name != "failed"}}


def with_strokes(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many of the rows have strokes of each kind."""
    return {f"with_{name}": sum(row[name] is not None for row in rows) for name in ("point", "scribble", "outline")}


def masked_in(pack: Pack) -> list[Masked]:
    """The pictures of a pack that have masks, with these."""
    images = tables.read(pack.parts["images"], IMAGES)
    sizes = {key: (height, width) for key, height, width in images[["key", "height", "width"]].itertuples(index=False)}
    rows_of = tables.rows_of(tables.read(pack.parts["masks"], MASKS))
    return [Masked(key, sizes[key], rows) for key, rows in rows_of.items()]


def sketch_pack(todo: Sequence[Masked], pack: Pack, params: Params) -> Iterator[Answer]:
    """The strokes of each picture's instances; ValueError names a mask that is none."""
    for masked in todo:
        yield Answer(masked.key, [_row(row, masked.size, pack.parts["masks"], params) for row in masked.rows], [])


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
    return {**place, **{kind: None if of_kind is None else of_kind.ravel() for kind, of_kind in points.items()}}


if __name__ == "__main__":
    stage.main(run)
