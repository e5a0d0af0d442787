"""Which detection belongs to which instance of a picture.

Legend: D detections and G instances of one picture; an entry of -1 means no detection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from instdiff.schema import Rle

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

RunLengths = Sequence[Mapping[str, object]]  # pycocotools' form: size and counts


def mask_ious(detected: RunLengths, given: RunLengths) -> Floats:
    """(D, G): intersection over union of masks of one size."""
    return _pairs(detected, given)


def box_ious(detected_D4: Floats, given_G4: Floats) -> Floats:
    """(D, G): intersection over union of boxes, each x, y, width, height in one unit."""
    return _pairs(np.ascontiguousarray(detected_D4), np.ascontiguousarray(given_G4))


def run_lengths(record: Mapping[str, Any]) -> Rle:
    """The mask in our form; pycocotools' own counts are bytes."""
    counts = record["counts"]
    return Rle(size=record["size"], counts=counts if isinstance(counts, str) else counts.decode())


def best(iou_DG: Floats, allowed_DG: Flags) -> Indices:
    """(G,): for each instance the allowed detection that overlaps it most, the first of equals.

    Two instances may have the same one; a detection that does not overlap is none.
    """
    overlaps_DG = np.where(allowed_DG & (iou_DG > 0), iou_DG, -1.0)
    if not len(overlaps_DG):
        return np.full(iou_DG.shape[1], -1, np.int64)
    return np.where(overlaps_DG.max(0) > 0, overlaps_DG.argmax(0), -1).astype(np.int64)


def one_to_one(iou_DG: Floats, allowed_DG: Flags) -> Indices:
    """(G,): pairs are taken by falling overlap, and each detection and each instance once."""
    overlaps_DG = np.where(allowed_DG, iou_DG, 0.0)
    taken = np.full(overlaps_DG.shape[1], -1, np.int64)
    while overlaps_DG.size and overlaps_DG.max() > 0:
        detection, instance = np.unravel_index(overlaps_DG.argmax(), overlaps_DG.shape)
        taken[instance] = detection
        overlaps_DG[detection, :] = 0.0
        overlaps_DG[:, instance] = 0.0
    return taken


def in_order(iou_DG: Floats) -> Indices:
    """(G,): as the reference matches: instance by instance, the free detection of highest overlap, even if it is 0."""
    free_D = np.ones(iou_DG.shape[0], bool)
    taken = np.full(iou_DG.shape[1], -1, np.int64)
    for instance in range(iou_DG.shape[1]):
        if free_D.any():
            taken[instance] = np.where(free_D, iou_DG[:, instance], -1.0).argmax()
            free_D[taken[instance]] = False
    return taken


def _pairs(detected: object, given: object) -> Floats:
    shape = (len(detected), len(given))  # type: ignore[arg-type]
    if not all(shape):
        return np.zeros(shape)
    overlaps: Floats = coco.iou(detected, given, [0] * shape[1])
    return overlaps
