"""Layouts: from tables, and from and to the JSON that people write."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from instdiff import atomic, tables
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


def read(path: Path) -> list[Layout]:
    """Layouts from a JSON file (one layout, or a list); ValueError names the file, the record and the field."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # what is no UTF-8 or no JSON is a ValueError
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    records = written if isinstance(written, list) else [written]
    layouts = [_layout(record, f"{path}: record {number}") for number, record in enumerate(records)]
    seen: set[str] = set()
    for number, layout in enumerate(layouts):
        if layout.key in seen:
            raise ValueError(f"{path}: record {number}: key {layout.key!r} stands in an earlier record, too")
        seen.add(layout.key)
    return layouts


def write(path: Path, layouts: Sequence[Layout]) -> None:
    """Layouts as a JSON list, one a line; formats not given are left out."""
    lines = [json.dumps(to_json(layout), ensure_ascii=False) for layout in layouts]
    with atomic.file(path) as part:
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def to_json(layout: Layout) -> dict[str, Any]:
    """The layout as JSON values, without what is not given."""
    return layout.model_dump(mode="json", exclude_none=True)


def _points(flat: Sequence[float] | None) -> tuple[Point, ...] | None:
    """Points from x, y, x, y, ..."""
    if flat is None:
        return None
    return tuple(map(Point._make, np.reshape(flat, (-1, 2)).tolist()))


def _layout(record: object, where: str) -> Layout:
    try:
        return Layout.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{where}: {field}: {first['msg']}") from error
