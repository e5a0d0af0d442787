"""Mask pictures: white on black, and what people bring instead of it.

A mask picture is inside where it is lighter than middle grey and not transparent. Masks of 0 and 1, label maps,
palettes and colours are darker where they mean "inside": they are read as meant, and a remark says how.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instdiff.files.picture_files import raw
from instdiff.layouts import masks
from instdiff.schema import Rle

_BLACK, _WHITE = 16, 239  # of 255: what compression leaves of black and white
_SHADES = 0.02  # share of pixels of other greys, from which on a mask is not plainly black and white
_MANY = 5  # values in a sentence


class Read(NamedTuple):
    """A mask, and what is to be said of how it was read (None: white was inside)."""

    mask: Rle
    remark: str | None


def read(path: Path) -> Read:
    """The mask of a picture file, upright; ValueError if it cannot be read as a picture."""
    return mask_of(raw(path))


def mask_of(image: Image.Image) -> Read:
    """The mask a picture shows."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        values_HW = np.asarray(image).astype(np.float64)
        full = 65535.0 if values_HW.max(initial=0) > 255 or image.mode.startswith("I;16") else 255.0
        inside_HW, remark = _of_greys(values_HW, full)
        return Read(masks.encode(inside_HW), remark)
    red_HW, green_HW, blue_HW, solid_HW = (np.asarray(band) for band in image.convert("RGBA").split())
    solid = solid_HW >= 128
    spread = np.maximum(np.maximum(red_HW, green_HW), blue_HW) - np.minimum(np.minimum(red_HW, green_HW), blue_HW)
    coloured = bool((spread[solid] > _BLACK).mean() > _SHADES) if solid.any() else False
    if coloured and not solid.all():
        return Read(masks.encode(solid), "has colours and transparency: what is not transparent is inside")
    if coloured:
        inside_HW = np.maximum(np.maximum(red_HW, green_HW), blue_HW) > _BLACK
        return Read(masks.encode(inside_HW), "has colours, as a label map: every colour but black is inside")
    inside_HW, remark = _of_greys(np.where(solid, np.asarray(image.convert("L")), 0).astype(np.float64), 255.0)
    return Read(masks.encode(inside_HW), remark)


def _of_greys(values_HW: NDArray[np.float64], full: float) -> tuple[masks.Mask, str | None]:
    """The mask of greys from 0 to `full`, and the remark."""
    largest = values_HW.max(initial=0)
    values = [f"{value:g}" for value in np.unique(values_HW)[: _MANY + 1]]
    first_values = ", ".join(values[:_MANY]) + (", ..." if len(values) > _MANY else "")
    if 0 < largest * 2 < full:
        return values_HW > 0, f"holds the values {first_values} of {full:g}: every value but 0 is inside"
    inside_HW = values_HW * 2 > full
    between = (values_HW > _BLACK * full / 255) & (values_HW < _WHITE * full / 255)
    if between.mean() > _SHADES:
        grey = f"{between.mean():.0%} of its pixels"
        return inside_HW, f"is neither black nor white in {grey}: what is lighter than middle grey is inside"
    return inside_HW, None
