"""Columns of the tables that both data_prep and eval read: pictures, and their instances with annotations.

Coordinates are fractions; null is "not given".
"""

import pyarrow as pa

from instdiff.files import tables
from instdiff.layouts.formats import POINT_FORMATS, Kind

BOX = pa.list_(pa.float64(), 4)
POINT = pa.list_(pa.float64(), 2)
POINTS = pa.list_(pa.float64())  # x, y, x, y, ...
COLUMNS: dict[Kind, pa.DataType] = {"box": BOX, "point": POINT, "points": POINTS, "mask": pa.string()}
INSTANCE_KEY = tables.columns(key=pa.string(), index=pa.int32())  # one row an instance: index counts within the picture
IMAGES = tables.columns(
    key=pa.string(),  # unique in the source, safe as a file name
    group=pa.string(),  # what the layout was chosen to stress; "mixed" when nothing
    file=pa.string(),  # relative to the folder of pictures
    width=pa.int32(),
    height=pa.int32(),
    caption=pa.string(),
    sha256=pa.string(),  # of the picture's file
)
ANNOTATED = tables.with_columns(
    INSTANCE_KEY,
    category=pa.string(),
    box=BOX,
    score=pa.float64(),
    mask=pa.string(),
    caption=pa.string(),
    backend=pa.string(),
    **{entry.name: COLUMNS[entry.kind] for entry in POINT_FORMATS},
    colour=pa.string(),
    texture=pa.string(),
)
