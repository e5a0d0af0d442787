"""Where given boxes overlap: how crowded each instance is, and how well its overlaps with others are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from eval.metrics import matching, overlap
from eval.scoring.instance_table import Records, by_picture
from instdiff.layouts.geometry import from_pixels
from instdiff.schema import Box


def of_instances(
    annotations: Records, detections: Records, sizes: Sequence[tuple[int, int]], min_score: float
) -> pd.DataFrame:
    """Columns `overlap` and `overlap_iou`, one row an instance, in their order.

    `annotations` and `detections` in COCO's form, on pictures of these heights and widths; detections of the own
    category with `min_score` or more, matched one to one.
    """
    detections_of = by_picture(detections, len(sizes))
    parts = [
        _of_picture(own, own_detections, size, min_score)
        for own, own_detections, size in zip(by_picture(annotations, len(sizes)), detections_of, sizes, strict=True)
        if own
    ]
    return pd.concat(parts, ignore_index=True)


def _of_picture(annotations: Records, detections: Records, size: tuple[int, int], min_score: float) -> pd.DataFrame:
    boxes, seen = ([_box(record, size) for record in side] for side in (annotations, detections))
    allowed_DG = np.array(
        [
            [
                detection["category_id"] == annotation["category_id"] and detection["score"] >= min_score
                for annotation in annotations
            ]
            for detection in detections
        ],
        bool,
    ).reshape(len(detections), len(annotations))
    iou_DG = matching.corner_ious(matching.corners(seen), matching.corners(boxes))
    paired = [None if place < 0 else seen[place] for place in matching.one_to_one(iou_DG, allowed_DG)]
    return pd.DataFrame({"overlap": overlap.strata(boxes), "overlap_iou": overlap.of_instances(boxes, paired)})


def _box(record: Mapping[str, Any], size: tuple[int, int]) -> Box:
    x, y, width, height = record["bbox"]
    return from_pixels(x, y, x + width, y + height, height=size[0], width=size[1])
