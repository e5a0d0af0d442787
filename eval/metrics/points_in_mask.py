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

from eval.metrics.matching import Flags, Floats, Indices, RunLengths, decoded, in_order, mask_ious, one_to_one
from instdiff import geometry, masks


class Picture(NamedTuple):
    """What PiM needs of one picture: masks of instances and detections, and each instance's stroke (None: has none)."""

    given: RunLengths
    detected: RunLengths
    strokes: Sequence[Floats | None]


class PaperForm(NamedTuple):
    """The reference's number and how many pictures it comes from."""

    value: float
    num_pictures: int


def covered(mask_HW: masks.Mask, stroke_P2: Floats) -> float:
    """Share of the points that lie in the mask."""
    rows, columns = geometry.pixel(stroke_P2, *mask_HW.shape)
    return float(mask_HW[rows, columns].mean())


def strict(picture: Picture, iou_DG: Floats, allowed_DG: Flags) -> Floats:
    """(G,): share of each instance's stroke that its detection covers; NaN where the record has no stroke."""
    return np.array(_shares(picture, one_to_one(iou_DG, allowed_DG), unmatched=0.0), np.float64)


def paper(pictures: Sequence[Picture]) -> PaperForm:
    """PiM as the reference computes it; ValueError when no picture has a pair."""
    means = []
    for picture in pictures:
        matched_G = in_order(mask_ious(picture.detected, picture.given))
        shares = [share for share in _shares(picture, matched_G, unmatched=np.nan) if not np.isnan(share)]
        if shares:
            means.append(float(np.mean(shares)))
    if not means:
        raise ValueError("no picture has an instance with a detection")
    return PaperForm(float(np.mean(means)), len(means))


def _shares(picture: Picture, matched_G: Indices, unmatched: float) -> list[float]:
    """One share an instance; a mask is decoded only where it is needed."""
    shares = []
    for stroke, detection in zip(picture.strokes, matched_G, strict=True):
        if stroke is None:
            shares.append(np.nan)
        elif detection < 0:
            shares.append(unmatched)
        else:
            shares.append(covered(decoded(picture.detected[detection]), stroke))
    return shares
