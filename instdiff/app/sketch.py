"""What the page sends: a layout as it is laid out there, and the values to draw it with.

Places are fractions of the picture. A mask is what was gone round, or run lengths of a file; `shift` is how far the
latter were moved.
"""

import base64
import binascii
import io
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from instdiff.files.picture_files import ERRORS, FORMATS
from instdiff.layouts import files, from_tables, masks
from instdiff.layouts.formats import Format
from instdiff.layouts.masks import Mask
from instdiff.model.drawing import MaskedAttention
from instdiff.model.noise_schedule import NUM_TIMESTEPS
from instdiff.schema import Box, Compat, Point, Rle, Share, Strict

MAX_BYTES = 32 << 20  # of what is sent at once
MAX_PIXELS = 50_000_000  # of a picture to start from, and of a mask
MASK_SIDE = 512  # pixels of the longer side of a mask that was gone round
NAME = "layout.json"
_NUMBER = Annotated[int, Field(strict=True)]


class Sketched(Strict):
    """An instance of the page."""

    phrase: str
    category: str | None = None
    box: Box | None = None
    point: Point | None = None
    scribble: tuple[Point, ...] | None = None
    outline: tuple[Point, ...] | None = None
    ring: tuple[Point, ...] | None = None
    mask: Rle | None = None
    shift: Point = Point(0.0, 0.0)


class Sketch(Strict):
    """A layout of the page."""

    prompt: str
    instances: tuple[Sketched, ...]


class Values(Strict):
    """How to draw it; each takes the place of the option of `instdiff generate` of its name."""

    seed: Annotated[_NUMBER, Field(ge=0, lt=2**53)]  # what JavaScript counts exactly
    steps: Annotated[_NUMBER, Field(ge=1, le=NUM_TIMESTEPS)]
    guidance_scale: Annotated[float, Field(ge=0)]
    alpha: Share
    mis: Share
    strength: Annotated[float, Field(gt=0, le=1)]
    width: Annotated[_NUMBER, Field(ge=1)]
    height: Annotated[_NUMBER, Field(ge=1)]
    formats: tuple[Format, ...]
    masked_attention: MaskedAttention


class Drawing(Strict):
    """What is to be drawn."""

    sketch: Sketch
    values: Values
    image: str | None = None  # the picture to start from, in base64


def checked(sketch: Sketch, size: tuple[int, int], max_instances: int) -> files.Checked:
    """The layout, checked as a file is, and remarks; size is the picture's width and height."""
    instances = [_written(sketched, size) for sketched in sketch.instances]
    content = json.dumps({"prompt": sketch.prompt, "instances": instances}).encode()
    return read(content, size, max_instances)


def read(
    content: bytes, size: tuple[int, int], max_instances: int, name: str = NAME, compat: Compat | None = None
) -> files.Checked:
    """The layouts of a file's content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(name).name or NAME)
        path.write_bytes(content)
        checked = files.check(path, max_instances=max_instances, compat=compat, shape=(size[1], size[0]))
        for sentences in (checked.faults, checked.remarks):
            sentences[:] = [
                sentence.replace(f"{folder}/", "").removeprefix(f"{NAME}: record 0: ") for sentence in sentences
            ]
    for layout in checked.layouts:
        for number, instance in enumerate(layout.instances):
            if instance.mask is not None and instance.mask.size[0] * instance.mask.size[1] > MAX_PIXELS:
                checked.faults.append(f"instances.{number}.mask: has more than {MAX_PIXELS} pixels")
    return checked


def start_picture(encoded: str) -> bytes:
    """The bytes of a picture to start from; ValueError where they are none, or too many."""
    try:
        content = base64.b64decode(encoded.partition("base64,")[2] or encoded, validate=True)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
    except (binascii.Error, *ERRORS) as error:
        raise ValueError("the picture to start from: not a readable picture") from error
    if width * height > MAX_PIXELS:
        raise ValueError(f"the picture to start from has {width}x{height} pixels, more than {MAX_PIXELS}")
    return content


def enclosed(ring: tuple[Point, ...], size: tuple[int, int]) -> Mask:
    """What a line goes round, its ends joined, as pixels of a picture of this width and height."""
    if len(ring) < 3:
        raise ValueError("go round the mask")
    width, height = size
    image = Image.new("L", size)
    ImageDraw.Draw(image).polygon([(x * width, y * height) for x, y in ring], fill=1)
    inside_HW: Mask = np.asarray(image) > 0
    return inside_HW


def moved(mask_HW: Mask, shift: Point) -> Mask:
    """The mask this far to the right and down; what leaves the picture is lost."""
    height, width = mask_HW.shape
    down, right = round(shift.y * height), round(shift.x * width)
    moved_HW = np.zeros_like(mask_HW)
    rows, columns = np.nonzero(mask_HW)
    rows, columns = rows + down, columns + right
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved_HW[rows[inside], columns[inside]] = True
    return moved_HW


def _written(sketched: Sketched, size: tuple[int, int]) -> dict[str, Any]:
    """The instance as our JSON has it."""
    mask = sketched.mask
    if sketched.ring is not None:
        share = MASK_SIDE / max(size)
        width, height = (max(1, round(side * share)) for side in size)
        mask = masks.encode(enclosed(sketched.ring, (width, height)))
    elif mask is not None and any(sketched.shift):
        mask = masks.encode(moved(masks.decode(mask), sketched.shift))
    fields = sketched.model_dump(exclude={"ring", "shift", "mask"}, exclude_none=True)
    if sketched.scribble is not None:
        fields["scribble"] = files.along(sketched.scribble)
    return {**fields, "phrase": sketched.phrase.strip(), **({} if mask is None else {"mask": mask.model_dump()})}


def to_json(checked: files.Checked) -> dict[str, Any]:
    """The first layout of a file without its key, and remarks; ValueError with the first fault."""
    layout = from_tables.to_json(checked.drawable()[0])
    del layout["key"]
    return {"layout": layout, "remarks": checked.remarks}
