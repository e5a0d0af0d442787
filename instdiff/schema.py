"""Types that cross stage borders: the columns of every table, and the layouts people write as JSON.

Coordinates are fractions of the picture, x to the right and y down. `None` means "not given".
"""

from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen; a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(NamedTuple):
    """A place in the picture."""

    x: Fraction
    y: Fraction


class Box(NamedTuple):
    """Left, top, right and bottom edge."""

    x0: Fraction
    y0: Fraction
    x1: Fraction
    y1: Fraction

    @property
    def centre(self) -> Point:
        """The middle of the box."""
        return Point((self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2)

    @property
    def area(self) -> float:
        """Share of the picture that the box covers."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)


class Rle(Strict):
    """A mask as COCO's compressed run lengths: size is (height, width) in pixels."""

    size: tuple[int, int]
    counts: str


class Instance(Strict):
    """A phrase and at least nothing: any subset of the ways to say where it is."""

    phrase: str
    category: str | None = None
    box: Box | None = None
    point: Point | None = None
    scribble: tuple[Point, ...] | None = None
    mask: Rle | None = None
    outline: tuple[Point, ...] | None = None


class Layout(Strict):
    """One picture to draw: a prompt and its instances, in the order they are described."""

    key: str
    prompt: str
    instances: tuple[Instance, ...]

    @model_validator(mode="after")
    def _has_a_key(self) -> "Layout":
        if not self.key:
            raise ValueError("key is empty")
        return self


def _columns(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def _and(schema: pa.Schema, **types: pa.DataType) -> pa.Schema:
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in types.items())])


BOX = pa.list_(pa.float64(), 4)
POINT = pa.list_(pa.float64(), 2)
POINTS = pa.list_(pa.float64())  # x, y, x, y, ...

_ROW = _columns(key=pa.string(), index=pa.int32())  # one row an instance: index counts within the picture

IMAGES = _columns(
    key=pa.string(),  # unique in the source, safe as a file name
    group=pa.string(),  # what the layout was chosen to stress; "mixed" when nothing
    file=pa.string(),  # relative to the folder of pictures
    width=pa.int32(),
    height=pa.int32(),
    caption=pa.string(),
    sha256=pa.string(),  # of the picture's file
)
GIVEN = _and(  # what a source knows of an instance before any annotator ran
    _ROW,
    category=pa.string(),
    box=BOX,
    mask=pa.string(),  # COCO RLE counts at the picture's size
    colour=pa.string(),
    texture=pa.string(),
)
GIVEN_CAPTIONED = _and(GIVEN, caption=pa.string())  # of sources that may describe each instance
INSTANCES = _and(_ROW, category=pa.string(), box=BOX, score=pa.float64())
MASKS = _and(_ROW, mask=pa.string(), score=pa.float64())
CAPTIONS = _and(_ROW, caption=pa.string(), backend=pa.string())
STROKES = _and(_ROW, point=POINT, scribble=POINTS, outline=POINTS)
ANNOTATED = _and(
    _ROW,
    category=pa.string(),
    box=BOX,
    score=pa.float64(),
    mask=pa.string(),
    caption=pa.string(),
    backend=pa.string(),
    point=POINT,
    scribble=POINTS,
    outline=POINTS,
    colour=pa.string(),
    texture=pa.string(),
)
LEDGER = _columns(  # what could not be done, and why; index -1 is the whole picture
    key=pa.string(), index=pa.int32(), reason=pa.string(), detail=pa.string()
)
INDEX = _columns(  # where each picture's sample lies in the shards: bytes [offset, offset + size) of the tar
    shard=pa.string(), key=pa.string(), num_instances=pa.int32(), offset=pa.int64(), size=pa.int64(), sha256=pa.string()
)
SCORES = _and(  # one instance of the pictures of one row, judged
    _columns(row=pa.string(), key=pa.string(), index=pa.int32(), group=pa.string(), category=pa.string()),
    colour=pa.string(),
    texture=pa.string(),
    box=BOX,  # as it was asked for
    area=pa.float64(),  # share of the picture that the given mask covers, or the box where no mask is given
    box_iou=pa.float64(),  # with the best detection of the own category; 0: none
    mask_iou=pa.float64(),
    detection_score=pa.float64(),  # of the best detection by box
    pim_point=pa.float64(),  # share of the record's own stroke covered; 0: no detection, null: no stroke
    pim_scribble=pa.float64(),
    judged_colour=pa.string(),
    judged_texture=pa.string(),
    judged_shape=pa.string(),
    leak=pa.bool_(),  # judged to have a neighbour's colour; null: no neighbour of another colour
    clip_local=pa.float64(),  # cosine of the judge's features of the given box's crop and of the phrase
)
