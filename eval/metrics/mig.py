"""Success rate and mIoU as MIG-Bench defines them (MIGC, CVPR 2024).

An instance succeeds when a detection of its category overlaps its box by half or more and its colour, if one was
asked for, is right. Its IoU counts as 0 when it is placed right and coloured wrong; below a half the overlap stays as
it is, for MIG-Bench never looks at the colour there. A picture succeeds when all its instances do.
MIG-Bench finds with GroundedSAM and judges colours by HSV; here the row's own detector and judge do, so the numbers
compare rows of one table and nothing published.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MIN_IOU = 0.5


def ious(box_iou_N: Floats, right_N: Flags) -> Floats:
    """(N,): the overlap of each instance, 0 where its place is right and its colour wrong."""
    return np.where((box_iou_N >= MIN_IOU) & ~right_N, 0.0, box_iou_N)


def of_instances(box_iou_N: Floats, right_N: Flags) -> Flags:
    """(N,): which instances succeed."""
    return (box_iou_N >= MIN_IOU) & right_N


def of_pictures(succeeded_N: Flags, picture_N: NDArray[np.int64], num_pictures: int) -> Floats:
    """(I,): 1 where all instances of a picture succeed, 0 where one fails, NaN where it has none."""
    num_I = np.bincount(picture_N, minlength=num_pictures)
    num_succeeded_I = np.bincount(picture_N, weights=succeeded_N, minlength=num_pictures)
    return np.where(num_I > 0, (num_succeeded_I == num_I).astype(np.float64), np.nan)
