"""Layouts from tables, and as JSON values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from instdiff.files import tables
from instdiff.layouts.formats import LOCATION_FORMATS, Kind
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


def instance(row: Mapping[str, Any], height: int, width: int) -> Instance:
    """One row of the ANNOTATED table; what is null there is None here."""
    locations = {
        entry.name: _location(entry.kind, row[entry.name], (height, width))
        for entry in LOCATION_FORMATS
        if row[entry.name] is not None
    }
    return Instance(phrase=row["caption"], category=row["category"], **locations)


def to_json(layout: Layout) -> dict[str, Any]:
    """The layout as JSON values, without what is not given."""
    return layout.model_dump(mode="json", exclude_none=True)


def _location(kind: Kind, value: Any, size: tuple[int, int]) -> Any:
    """A column's value as Instance holds it; `size` is the picture's height and width."""
    if kind == "mask":
        return Rle(size=size, counts=value)
    if kind == "points":  # x, y, x, y, ...
        return tuple(map(Point._make, np.reshape(value, (-1, 2)).tolist()))
    return (Box if kind == "box" else Point)(*map(float, value))
