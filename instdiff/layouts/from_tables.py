"""Layouts from tables, and as JSON values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from instdiff import tables
from instdiff.schema import Box, Instance, Layout, Point, Rle


def from_tables(images: pd.DataFrame, annotated: pd.DataFrame) -> list[Layout]:
    """One layout a picture, in the order of `images`; pictures none of whose instances were kept have no instances.

    The prompt is the picture's caption, an instance's phrase its own caption; every format the table holds is filled.
    """
    rows_of = tables.rows_of(annotated)
    return [
        Layout(
            key=image["key"],
            prompt=image["caption"],
            instances=tuple(
                instance(row, image["height"], image["width"])
                for row in sorted(rows_of.get(image["key"], []), key=lambda row: row["index"])
            ),
        )
        for image in images.to_dict("records")
    ]


def instance(row: dict[Any, Any], height: int, width: int) -> Instance:
    """One row of the ANNOTATED table; what is null there is None here."""
    return Instance(
        phrase=row["caption"],
        category=row["category"],
        box=None if row["box"] is None else Box(*map(float, row["box"])),
        point=None if row["point"] is None else Point(*map(float, row["point"])),
        scribble=_points(row["scribble"]),
        mask=None if row["mask"] is None else Rle(size=(height, width), counts=row["mask"]),
        outline=_points(row["outline"]),
    )


def to_json(layout: Layout) -> dict[str, Any]:
    """The layout as JSON values, without what is not given."""
    return layout.model_dump(mode="json", exclude_none=True)


def _points(flat: Sequence[float] | None) -> tuple[Point, ...] | None:
    """Points from x, y, x, y, ..."""
    if flat is None:
        return None
    return tuple(map(Point._make, np.reshape(flat, (-1, 2)).tolist()))
