"""The columns of the tables that one data stage writes for the next."""

import pyarrow as pa

from instdiff.files.tables import with_columns
from instdiff.layouts.columns import BOX, IMAGES, INSTANCE_KEY, POINT, POINTS

PICTURES = with_columns(  # IMAGES, and where each file lies
    IMAGES,
    offset=pa.int64(),  # of its first byte in the pack's tar; null: it is a file of its own
    length=pa.int64(),  # bytes
    converted=pa.string(),  # why it is not the file that came; null: it is
)
GIVEN = with_columns(  # what a source knows of an instance before any annotator ran
    INSTANCE_KEY,
    category=pa.string(),
    box=BOX,
    mask=pa.string(),  # COCO RLE counts at the picture's size
    colour=pa.string(),
    texture=pa.string(),
)
GIVEN_CAPTIONED = with_columns(GIVEN, caption=pa.string())  # of sources that may describe each instance
INSTANCES = with_columns(INSTANCE_KEY, category=pa.string(), box=BOX, score=pa.float64())
MASKS = with_columns(INSTANCE_KEY, mask=pa.string(), score=pa.float64())
CAPTIONS = with_columns(INSTANCE_KEY, caption=pa.string(), backend=pa.string())
STROKES = with_columns(INSTANCE_KEY, point=POINT, scribble=POINTS, outline=POINTS)
