"""PiM, points in mask: how much of an instance's stroke the detected mask covers.

Strict form (ours): a detection counts only for its own category and from a score threshold on, one detection
serves one instance, the stroke is the record's own (the very points the model was given), and an instance
without a detection scores 0. The metric is the mean over instances.
Paper form (spec 11.3): detections of any category and score, matched even without overlap; instances and
pictures that found no detection are left out; mean over instances per picture, then over pictures.
Legend: D detections and G instances of one picture; P points of a stroke, (P, 2) fractions x, y.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco

from eval.metrics.matching import Flags, Floats, Indices, RunLengths, in_order, mask_ious, one_to_one, run_lengths
from instdiff.layouts import geometry, masks, strokes
from instdiff.schema import Rle


class PictureMasks(NamedTuple):
    """What PiM needs of one picture: masks of instances and detections, and each instance's stroke (None: has none)."""

    instances: RunLengths
    detected: RunLengths
    strokes: Sequence[Floats | None]


class PaperForm(NamedTuple):
    """The reference's number and how many pictures it comes from."""

    value: float
    num_pictures: int


def covered(mask: Rle, stroke_P2: Floats) -> float:
    """Share of the points that lie in the mask."""
    return float(masks.holds(mask, *geometry.pixel(stroke_P2, *mask.size)).mean())


def strict(picture: PictureMasks, iou_DG: Floats, allowed_DG: Flags) -> Floats:
    """(G,): share of each instance's stroke that its detection covers; NaN where the record has no stroke."""
    return np.array(_shares(picture, one_to_one(iou_DG, allowed_DG), unmatched=0.0), np.float64)


def paper(pictures: Sequence[PictureMasks]) -> PaperForm:
    """PiM as the reference computes it; ValueError when no picture has a pair."""
    overlaps = [mask_ious(picture.detected, picture.instances) for picture in pictures]
    means = [mean for mean in map(paper_of_picture, pictures, overlaps) if not np.isnan(mean)]
    if not means:
        raise ValueError("no picture has an instance with a detection")
    return PaperForm(float(np.mean(means)), len(means))


def paper_of_picture(picture: PictureMasks, iou_DG: Floats) -> float:
    """The reference's number of one picture; NaN when it has no pair."""
    shares = np.array(_shares(picture, in_order(iou_DG), unmatched=np.nan))
    counted = shares[~np.isnan(shares)]
    return float(counted.mean()) if len(counted) else float("nan")


def paper_point(mask: Rle) -> Floats | None:
    """(1, 2): the whole pixel in the middle of the mask's box, as the reference judges points, whatever was given.

    None for an empty mask.
    """
    x, y, width, height = coco.toBbox(mask.model_dump())
    if not width:
        return None
    middle = np.array([[(2 * x + width - 1) // 2, (2 * y + height - 1) // 2]])
    return np.asarray(middle / (mask.size[1], mask.size[0]))


def paper_scribble(mask: Rle, num_points: int, rng: np.random.Generator | np.random.RandomState) -> Floats | None:
    """(P, 2): pixels of the mask drawn anew, as the reference judges scribbles, whatever was given; None if empty."""
    return strokes.scribble(masks.decode(mask), num_points, rng)


def _shares(picture: PictureMasks, matched_G: Indices, unmatched: float) -> list[float]:
    """One share an instance; no mask is decoded."""
    shares = []
    for stroke, detection in zip(picture.strokes, matched_G, strict=True):
        if stroke is None:
            shares.append(np.nan)
        elif detection < 0:
            shares.append(unmatched)
        else:
            shares.append(covered(run_lengths(picture.detected[detection]), stroke))
    return shares
