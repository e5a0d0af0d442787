"""MIG-Bench's rule of colours: how much of an instance's mask lies in the ranges of its colour in HSV.

Ranges as in OpenCV: hue 0 to 180, saturation and value 0 to 255, both ends within. Red and brown overlap.
Legend: H, W pixels.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (height, width, 3)
Flags = NDArray[np.bool_]
Range = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # of hue, saturation, value

MIN_SHARE = 0.2
_ALL = (0, 255)
_VIVID = ((50, 255), (70, 255))
RANGES: dict[str, tuple[Range, ...]] = {  # MIG_Bench 063ec45, eval_mig.py:206-214
    "red": (((0, 9), *_VIVID), ((159, 180), *_VIVID)),
    "blue": (((90, 128), *_VIVID),),
    "yellow": (((25, 35), *_VIVID),),
    "green": (((36, 89), *_VIVID),),
    "black": (((0, 180), _ALL, (0, 30)),),
    "white": (((0, 180), (0, 43), (221, 255)),),
    "brown": (((6, 25), (43, 255), (35, 255)),),
}
_SHIFT = 12  # bits of OpenCV's fixed point
_STEPS = np.arange(1, 256)
_SATURATION = np.concatenate([[0], np.rint((255 << _SHIFT) / _STEPS)]).astype(np.int64)
_HUE = np.concatenate([[0], np.rint((180 << _SHIFT) / (6 * _STEPS))]).astype(np.int64)


def hsv(pixels: Pixels) -> Pixels:
    """RGB to HSV, to the digit as OpenCV's cvtColor does it with 8 bits."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    value = pixels.max(-1).astype(np.int64)
    spread = value - pixels.min(-1)
    half = 1 << (_SHIFT - 1)
    saturation = (spread * _SATURATION[value] + half) >> _SHIFT
    sector = np.where(
        value == red, green - blue, np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = (sector * _HUE[spread] + half) >> _SHIFT
    return np.stack([hue + np.where(hue < 0, 180, 0), saturation, value], -1).astype(np.uint8)


def within(pixels: Pixels, colour: str) -> Flags:
    """(H, W): which pixels lie in a range of the colour; KeyError for a colour without ranges."""
    converted = hsv(pixels)
    inside = np.zeros(pixels.shape[:-1], bool)
    for ends in RANGES[colour]:
        low, high = np.array(ends).T
        inside |= ((converted >= low) & (converted <= high)).all(-1)
    return inside


def right(pixels: Pixels, mask_HW: Flags, colour: str) -> bool:
    """Whether a fifth of the mask or more has the colour; an empty mask has none."""
    masked = pixels[mask_HW]
    return bool(len(masked)) and bool(within(masked, colour).mean() >= MIN_SHARE)
