"""Places in a picture: fractions inside the software, pixels only where a foreign tool speaks them.

Arrays of pixels are (height, width): rows are y, columns are x. Points are rows of (x, y) fractions.
"""

import math

import numpy as np
from numpy.typing import NDArray

from instdiff.schema import Box

Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]  # (height, width, channels)

_SAME = 1e-3  # of a pixel: a fraction of a whole pixel, rounded to float32, finds that pixel again


def rows(box: Box, height: int) -> slice:
    """The rows of pixels the box touches."""
    return _touched(box.y0, box.y1, height)


def columns(box: Box, width: int) -> slice:
    """The columns of pixels the box touches."""
    return _touched(box.x0, box.x1, width)


def pixel(points: Points, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels the points lie in; a point on the right or lower border counts as inside."""
    whole = np.floor(points * (width, height) + _SAME).astype(np.int64)
    return np.clip(whole[:, 1], 0, height - 1), np.clip(whole[:, 0], 0, width - 1)


def crop(pixels_HWC: Pixels, box: Box) -> Pixels:
    """The pixels that the box touches, at least one: what CLIP is trained on and judges, and what captions describe."""
    height, width = pixels_HWC.shape[:2]
    return pixels_HWC[rows(box, height), columns(box, width)]


def in_pixels(box: Box, height: int, width: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge in pixels, as detectors and SAM want them."""
    return box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height


def sides(box: Box, height: int, width: int) -> tuple[int, int]:
    """Whole pixels down and across that fit between the box's edges."""
    x0, y0, x1, y1 = in_pixels(box, height, width)
    return math.floor(y1 - y0 + _SAME), math.floor(x1 - x0 + _SAME)


def from_pixels(x0: float, y0: float, x1: float, y1: float, *, height: int, width: int) -> Box:
    """The box of these edges in pixels."""
    return Box(x0 / width, y0 / height, x1 / width, y1 / height)


def clamp(box: Box) -> Box:
    """The part of the box inside the picture; of no area when there is none."""
    x0, y0, x1, y1 = (min(1.0, max(0.0, edge)) for edge in box)
    return Box(x0, y0, x1, y1)


def iou(first: Box, second: Box) -> float:
    """Intersection over union; 0 when both have no area."""
    common = intersection(first, second).area
    union = first.area + second.area - common
    return common / union if union > 0 else 0.0


def intersection(first: Box, second: Box) -> Box:
    """What the boxes share; of no area when nothing."""
    return Box(max(first.x0, second.x0), max(first.y0, second.y0), min(first.x1, second.x1), min(first.y1, second.y1))


def _touched(start: float, stop: float, size: int) -> slice:
    first = min(size - 1, max(0, math.floor(start * size + _SAME)))
    return slice(first, min(size, max(first + 1, math.ceil(stop * size - _SAME))))
