"""Records whose boxes are fractions and whose masks are pictures: they become pixels when the picture is read."""

import ast
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from data_prep.sources.records import Annotation, File, Loaded, read
from instdiff.files.picture_files import ERRORS, FORMATS, ORIENTATION, raw
from instdiff.layouts import coco, geometry, mask_pictures, masks
from instdiff.schema import Box, Rle
from instdiff.work.outcomes import Failure

Edges = tuple[float, float, float, float]  # left, top, right, bottom
_SIDEWAYS = 5  # from this EXIF orientation on, width and height change places
_SAME_SHAPE = 0.02  # by which width over height of a mask picture may differ from the picture's


class Mask(Protocol):
    """A mask as a format states it."""

    def at(self, height: int, width: int) -> Rle:
        """At the size of the picture; ValueError says what is wrong with it."""
        ...


@dataclass(frozen=True)
class Place:
    """An instance as a format states it, in fractions of the upright picture."""

    name: str  # what the source calls it, to say which one was wrong
    category: str | None
    caption: str | None
    box: Edges | None  # None: that of the mask
    mask: Mask | None


@dataclass(frozen=True)
class Placed(File):
    """A picture in a file of its own, and its instances in fractions."""

    places: tuple[Place | Failure, ...] = ()

    def load(self) -> Loaded | Failure:
        """Read the file, then masks, and give all in pixels of the upright picture."""
        loaded = super().load()
        if isinstance(loaded, Failure) or (size := upright_size(loaded.encoded)) is None:
            return loaded  # a file that is no picture is refused where all are
        width, height = size
        annotations = (
            place if isinstance(place, Failure) else _annotation(place, height, width) for place in self.places
        )
        return loaded._replace(size=size, annotations=tuple(annotations))


@dataclass(frozen=True)
class MaskPicture:
    """A mask as a picture of its own: inside is what `instdiff.layouts.mask_pictures` takes for it."""

    url: str

    def at(self, height: int, width: int) -> Rle:
        """Read it; another size of the same shape is resized."""
        image = picture(self.url)
        mask = mask_pictures.mask_of(image).mask
        if mask.size == (height, width):
            return mask
        if abs(image.width * height / (image.height * width) - 1) > _SAME_SHAPE:
            raise ValueError(f"{self.url}: {image.width}x{image.height}, which is not the shape of {width}x{height}")
        resized = Image.fromarray(masks.decode(mask)).resize((width, height), Image.Resampling.NEAREST)
        return masks.encode(np.asarray(resized, dtype=np.bool_))


@dataclass(frozen=True)
class Polygons:
    """A mask as polygons: x, y, x, y, ... in fractions."""

    pieces: tuple[tuple[float, ...], ...]

    def at(self, height: int, width: int) -> Rle:
        """Draw them."""
        scaled = [
            [edge * (height if place % 2 else width) for place, edge in enumerate(piece)] for piece in self.pieces
        ]
        region = coco.Region(bbox=[0.0, 0.0, 0.0, 0.0], segmentation=scaled)
        coco.check(region, height, width)
        run_lengths = coco.run_lengths(region, height, width)
        if run_lengths is None:
            raise ValueError("its polygons have fewer than three points")
        return run_lengths


def picture(url: str) -> Image.Image:
    """A mask picture; ValueError names the file that cannot be read."""
    try:
        return raw(read(url))
    except OSError as error:
        raise ValueError(f"{url}: no such mask picture, or it cannot be read ({error})") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error


def upright_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height of a picture once it is turned as its EXIF tag says, from its header; None: no picture."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 0) >= _SIDEWAYS
    except ERRORS:
        return None
    return (height, width) if turned else (width, height)


def numbers(value: Any, count: int, field: str) -> tuple[float, ...]:
    """So many finite numbers; ValueError names the field."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise ValueError(f"{field}: {count} numbers are expected, not {str(value)[:60]}")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{field}: {str(number)[:40]!r} is no finite number")
    return tuple(map(float, value))


def listed(value: Any, field: str) -> Sequence[Any]:
    """A list, also in a text as Python or JSON writes it; ValueError names the field."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError(f"{field}: {value[:60]!r} is no list") from None
    if not isinstance(value, list | tuple):
        raise ValueError(f"{field}: a list is expected, not {str(value)[:60]}")
    return value


def edges(value: Any, field: str) -> Edges:
    """Left, top, right and bottom edge in fractions; ValueError names the field, and says where pixels are stated."""
    x0, y0, x1, y1 = numbers(value, 4, field)
    if max(x0, y0, x1, y1) > 2:
        raise ValueError(f"{field}: {x0:g}, {y0:g}, {x1:g}, {y1:g} are no fractions of the picture: pixels?")
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"{field}: {x0:g}, {y0:g}, {x1:g}, {y1:g} covers nothing: left, top, right, bottom is meant")
    return x0, y0, x1, y1


def _annotation(place: Place, height: int, width: int) -> Annotation | Failure:
    try:
        mask = None if place.mask is None else place.mask.at(height, width)
        box = Box(*place.box) if place.box is not None else None if mask is None else masks.box_of(masks.decode(mask))
    except ValueError as error:
        return Failure("bad_annotation", f"{place.name}: {error}")
    if box is None:
        return Failure("bad_annotation", f"{place.name}: neither box nor mask")
    x0, y0, x1, y1 = geometry.in_pixels(box, height, width)
    segmentation = None if mask is None else {"size": list(mask.size), "counts": mask.counts}
    return Annotation(place.name, place.category, [x0, y0, x1 - x0, y1 - y0], segmentation, place.caption, False)
