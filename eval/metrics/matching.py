"""Which detection belongs to which instance of a picture.

Legend: D detections and G instances of one picture; an entry of -1 means no detection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from instdiff.schema import Rle

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

RunLengths = Sequence[Mapping[str, object]]  # pycocotools' form: size and counts


def mask_ious(detected: RunLengths, instances: RunLengths) -> Floats:
    """(D, G): intersection over union of masks of one size."""
    return _pairs(detected, instances)


def box_ious(detected_D4: Floats, instances_G4: Floats) -> Floats:
    """(D, G): intersection over union of boxes, each x, y, width, height in one unit."""
    return _pairs(np.ascontiguousarray(detected_D4), np.ascontiguousarray(instances_G4))


def corners(boxes: Sequence[Sequence[float]]) -> Floats:
    """(N, 4): boxes as an array, which has four columns where there is none."""
    return np.array(boxes, np.float64).reshape(-1, 4)


def corner_ious(a_N4: Floats, b_M4: Floats) -> Floats:
    """(N, M): intersection over union of boxes, each left, top, right, bottom in one unit; 0 without an area."""
    starts_NM2 = np.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    ends_NM2 = np.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    common_NM = np.clip(ends_NM2 - starts_NM2, 0, None).prod(2)
    areas_N, areas_M = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1) for boxes in (a_N4, b_M4))
    union_NM = areas_N[:, None] + areas_M[None] - common_NM
    return np.asarray(common_NM / np.where(union_NM > 0, union_NM, 1.0), np.float64)


def suppressed(boxes_N4: Floats, iou: float) -> NDArray[np.intp]:
    """Places of the boxes that overlap no surer one that stays by more than `iou`; boxes by falling score."""
    if not len(boxes_N4):
        return np.zeros(0, np.intp)
    overlaps_NN = corner_ious(boxes_N4, boxes_N4)
    stays_N = np.ones(len(boxes_N4), bool)
    for place in range(1, len(boxes_N4)):
        stays_N[place] = not (overlaps_NN[place, :place][stays_N[:place]] > iou).any()
    return np.flatnonzero(stays_N)


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


def hungarian(iou_DG: Floats) -> Indices:
    """(G,): the one-to-one pairs whose overlaps add up to most."""
    detections, instances = linear_sum_assignment(-iou_DG)
    taken = np.full(iou_DG.shape[1], -1, np.int64)
    for detection, instance in zip(detections, instances, strict=True):
        taken[instance] = detection if iou_DG[detection, instance] > 0 else -1
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


def _pairs(detected: object, instances: object) -> Floats:
    shape = (len(detected), len(instances))  # type: ignore[arg-type]
    if not all(shape):
        return np.zeros(shape)
    overlaps: Floats = coco.iou(detected, instances, [0] * shape[1])
    return overlaps
