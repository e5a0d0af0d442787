"""Where given boxes overlap: which pairs do, how well the overlap is kept, and how crowded an instance is.

Overlap IoU (OverLayBench): intersection over union of the two given boxes' intersection with that of the two boxes
that were matched to them; 0 where one of them has none.
Legend: G instances of one picture.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.matching import Floats, corner_ious
from instdiff.layouts.geometry import intersection, iou
from instdiff.schema import Box

MIN_IOU, MIN_AREA = 0.05, 0.01  # of a pair that counts: above both, the second a share of the picture
STRATA = {"apart": 0.05, "touching": 0.2, "crossing": np.inf}  # by the largest IoU with another given box: up to this


def pairs(boxes: Sequence[Box]) -> list[tuple[int, int]]:
    """The pairs of boxes whose overlap counts."""
    if len(boxes) < 2:
        return []
    overlaps_GG = corner_ious(*[np.array(boxes, np.float64)] * 2)
    firsts, seconds = np.nonzero(np.triu(overlaps_GG > MIN_IOU, 1))
    candidates = zip(firsts.tolist(), seconds.tolist(), strict=True)
    return [(a, b) for a, b in candidates if intersection(boxes[a], boxes[b]).area > MIN_AREA]


def pair_iou(boxes: tuple[Box, Box], matched: tuple[Box | None, Box | None]) -> float:
    """Overlap IoU of one pair."""
    first, second = matched
    if first is None or second is None:
        return 0.0
    common, matched_common = intersection(*boxes), intersection(first, second)
    if matched_common.x1 <= matched_common.x0 or matched_common.y1 <= matched_common.y0:
        return 0.0
    return iou(common, matched_common)


def of_instances(boxes: Sequence[Box], matched: Sequence[Box | None]) -> Floats:
    """(G,): mean overlap IoU of the pairs that each instance is in; NaN where it is in none."""
    sums_G, counts_G = np.zeros((2, len(boxes)))
    for a, b in pairs(boxes):
        value = pair_iou((boxes[a], boxes[b]), (matched[a], matched[b]))
        sums_G[[a, b]] += value
        counts_G[[a, b]] += 1
    return np.where(counts_G > 0, sums_G / np.maximum(counts_G, 1), np.nan)


def strata(boxes: Sequence[Box]) -> list[str]:
    """How much each box overlaps another: the name of its stratum."""
    if not boxes:
        return []
    overlaps_GG: NDArray[np.float64] = corner_ious(*[np.array(boxes, np.float64)] * 2)
    np.fill_diagonal(overlaps_GG, 0.0)
    names = list(STRATA)
    return [names[place] for place in np.searchsorted(list(STRATA.values()), overlaps_GG.max(1))]
