"""What a source says of an instance, checked and turned into a row: fractions for boxes, run lengths for masks."""

from collections.abc import Sequence
from math import isfinite
from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as coco

from data_prep.sources.records import Annotation
from instdiff.layouts import geometry, masks
from instdiff.schema import Box, Rle
from instdiff.work.outcomes import Failure

Row = dict[str, Any]


def given(
    annotations: Sequence[Annotation], key: str, height: int, width: int
) -> tuple[list[Row], list[tuple[int, Failure]]]:
    """Rows of the GIVEN table, numbered 0, 1, ..., and why the others are none, by their place in the source.

    A crowd is a region that nobody counted, not an instance: it is never a row, always a reason.
    """
    rows: list[Row] = []
    failures: list[tuple[int, Failure]] = []
    for place, one in enumerate(annotations):
        try:
            if one.crowd:
                failures.append((place, Failure("crowd", f"{one.name} marks a crowd, not an instance")))
                continue
            box = _box(one.bbox, height, width)
            mask = None if one.segmentation in (None, [], "") else _mask(one.segmentation, height, width).counts
        except ValueError as error:
            failures.append((place, Failure("bad_annotation", f"{one.name}: {error}")))
            continue
        known = {"category": one.category, "box": list(box), "mask": mask, "caption": one.caption}
        rows.append({"key": key, "index": len(rows), **known, "colour": None, "texture": None})
    return rows, failures


def _box(bbox: Any, height: int, width: int) -> Box:
    if not _numbers(bbox) or len(bbox) != 4:
        raise ValueError("bbox is not x, y, width, height")
    x, y, across, down = map(float, bbox)
    box = geometry.clamp(geometry.from_pixels(x, y, x + across, y + down, height=height, width=width))
    if across <= 0 or down <= 0 or box.area == 0:
        raise ValueError(f"bbox {x:g}, {y:g}, {across:g}, {down:g} covers nothing of the picture")
    return box


def _mask(segmentation: Any, height: int, width: int) -> Rle:
    """From polygons in pixels, or from run lengths, whose size must be the picture's."""
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        raise ValueError(f"the mask is not for a picture of {height}x{width}")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        rle = Rle(size=(height, width), counts=counts)
    elif (
        _numbers(counts) and all(isinstance(run, int) and run >= 0 for run in counts) and sum(counts) == height * width
    ):
        inside = np.arange(len(counts)) % 2 == 1
        rle = masks.encode(np.repeat(inside, np.asarray(counts, dtype=np.int64)).reshape(width, height).T)
    else:
        raise ValueError("the mask's counts are neither a run-length string nor runs that fill the picture")
    masks.decode(rle)
    return rle


def _from_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    """Their union; vertices are moved into the picture, as C code draws them."""
    if not all(_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons):
        raise ValueError("a polygon is not x, y, x, y, ... of at least three points")
    inside = [
        np.clip(np.reshape(polygon, (-1, 2)), 0, (width, height)).astype(np.float64).ravel().tolist()
        for polygon in polygons
    ]
    drawn = coco.merge(coco.frPyObjects(inside, height, width))
    return Rle(size=(height, width), counts=drawn["counts"].decode("ascii"))


def _numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) for value in values
    )
