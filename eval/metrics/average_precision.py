"""COCO's average precision and recall, with intervals.

pycocotools matches detections to instances once, picture by picture (COCOeval.evaluate). Its accumulation is
written again here for weighted pictures: a picture drawn w times counts w times. With all weights 1 this equals
pycocotools to the last digits, otherwise pycocotools on the pictures with repetitions, except that copies of
equal score follow each other.
Legend: T IoU thresholds, D detections of one category, I pictures, R resamples, K categories.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.metrics.bootstrap import Counts, Metric, interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Kind = Literal["bbox", "segm"]

THRESHOLDS_T = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # a picture and category, COCO's


@dataclass(frozen=True)
class Matched:
    """What one category's detections, by falling score over all pictures, were matched to."""

    category: int
    picture_D: NDArray[np.int64]
    true_TD: Flags
    false_TD: Flags  # neither: matched to an instance that does not count
    instances_I: Counts  # instances of the category in each picture


class Summary(NamedTuple):
    """Means over categories that have an instance."""

    ap: float
    ap50: float
    ap75: float
    ar: float


def matched(
    images: Sequence[Mapping[str, object]],
    categories: Sequence[Mapping[str, object]],
    given: Sequence[Mapping[str, object]],
    detected: Sequence[Mapping[str, object]],
    kind: Kind,
) -> list[Matched]:
    """Match per category; all four in COCO's form, image ids 1..I in the order of `images`.

    Annotations need id, image_id, category_id, iscrowd and area; bbox or segmentation by `kind`; detections score too.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(images, categories, given), _indexed(images, categories, detected), kind)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    per_category = np.array(evaluation.evalImgs, dtype=object).reshape(len(categories), len(images))
    return [_of_category(int(str(c["id"])), row) for c, row in zip(categories, per_category, strict=True)]


def summary(categories: Sequence[Matched], weights_I: Counts | None = None) -> Summary:
    """AP over IoU .50:.95, AP50, AP75 and AR with 100 detections; ValueError when no instance has weight."""
    if weights_I is None:
        weights_I = np.ones_like(categories[0].instances_I)
    curves = [_curve(one, weights_I) for one in categories if weights_I @ one.instances_I]
    if not curves:
        raise ValueError("nothing to find: no instance in the pictures evaluated")
    precision_T = np.mean([curve.precision_T for curve in curves], axis=0)
    recall_T = np.mean([curve.recall_T for curve in curves], axis=0)
    return Summary(float(precision_T.mean()), float(precision_T[0]), float(precision_T[5]), float(recall_T.mean()))


def metrics(categories: Sequence[Matched], draws_RI: Counts, chosen_I: Flags | None = None) -> dict[str, Metric]:
    """ap, ap50, ap75 and ar with intervals; `chosen_I` limits all to some pictures, which the draws are of."""
    if chosen_I is not None:
        categories = [_limited(one, chosen_I) for one in categories]
    values = summary(categories)
    resampled = np.array([s for s in map(lambda drawn: _drawn(categories, drawn), draws_RI) if s is not None])
    num_instances = int(sum(one.instances_I.sum() for one in categories))
    return {
        name: Metric(value, num_instances, *interval(resampled[:, place]))
        for place, (name, value) in enumerate(zip(Summary._fields, values, strict=True))
    }


class _Curve(NamedTuple):
    precision_T: Floats  # mean over recall levels
    recall_T: Floats


def _drawn(categories: Sequence[Matched], drawn_I: Counts) -> Summary | None:
    """None when the draw holds no instance at all."""
    if not any(drawn_I @ one.instances_I for one in categories):
        return None
    return summary(categories, drawn_I)


def _curve(one: Matched, weights_I: Counts) -> _Curve:
    """COCOeval.accumulate for one category, each detection counted as often as its picture."""
    weights_D = weights_I[one.picture_D]
    true_TD = np.cumsum(one.true_TD * weights_D, axis=1).astype(np.float64)
    false_TD = np.cumsum(one.false_TD * weights_D, axis=1).astype(np.float64)
    if not true_TD.shape[1]:
        return _Curve(np.zeros(len(THRESHOLDS_T)), np.zeros(len(THRESHOLDS_T)))
    recall_TD = true_TD / (weights_I @ one.instances_I)
    precision_TD = true_TD / (false_TD + true_TD + np.spacing(1))
    envelope_TD = np.maximum.accumulate(precision_TD[:, ::-1], axis=1)[:, ::-1]
    levels = [_at_recalls(r, p) for r, p in zip(recall_TD, envelope_TD, strict=True)]
    return _Curve(np.array(levels), recall_TD[:, -1])


def _at_recalls(recall_D: Floats, envelope_D: Floats) -> float:
    places = np.searchsorted(recall_D, RECALLS, side="left")
    reached = places[places < len(envelope_D)]
    return float(envelope_D[reached].sum()) / len(RECALLS)


def _of_category(category: int, per_picture: NDArray[np.object_]) -> Matched:
    """Join the pictures' detections and sort them by falling score, pictures in order among equals."""
    found = [(picture, one) for picture, one in enumerate(per_picture) if one is not None]
    instances_I = np.zeros(len(per_picture), np.int64)
    for picture, one in found:
        instances_I[picture] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
    scores_D = np.concatenate([np.zeros(0), *(np.asarray(one["dtScores"]) for _, one in found)])
    picture_D = np.concatenate([[], *(np.full(len(one["dtScores"]), picture) for picture, one in found)])
    matches_TD = np.concatenate([np.zeros((len(THRESHOLDS_T), 0)), *(one["dtMatches"] for _, one in found)], axis=1)
    ignored_TD = np.concatenate([np.zeros((len(THRESHOLDS_T), 0)), *(one["dtIgnore"] for _, one in found)], axis=1)
    order = np.argsort(-scores_D, kind="mergesort")
    hit_TD, counts_TD = (matches_TD != 0)[:, order], (ignored_TD == 0)[:, order]
    return Matched(category, picture_D[order].astype(np.int64), hit_TD & counts_TD, ~hit_TD & counts_TD, instances_I)


def _limited(one: Matched, chosen_I: Flags) -> Matched:
    """Only the chosen pictures, numbered anew."""
    kept_D = chosen_I[one.picture_D]
    place_I = np.cumsum(chosen_I) - 1
    return Matched(
        one.category,
        place_I[one.picture_D[kept_D]],
        one.true_TD[:, kept_D],
        one.false_TD[:, kept_D],
        one.instances_I[chosen_I],
    )


def _indexed(
    images: Sequence[Mapping[str, object]],
    categories: Sequence[Mapping[str, object]],
    annotations: Sequence[Mapping[str, object]],
) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [dict(image) for image in images],
        "categories": [dict(category) for category in categories],
        "annotations": [dict(annotation) for annotation in annotations],
    }
    dataset.createIndex()
    return dataset
