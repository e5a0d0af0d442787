"""COCO's average precision and recall, with intervals.

pycocotools matches detections to instances once, category by category, on the pictures that have any
(COCOeval.evaluate). Its accumulation is written again here for weighted pictures: a picture drawn w times counts w
times. With all weights 1 this equals pycocotools to the last digits, otherwise pycocotools on the pictures with
repetitions, except that copies of equal score follow each other.
Legend: T IoU thresholds, D detections of one category, P those of them that are right, I pictures, R resamples,
K categories.
"""

import contextlib
import functools
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.metrics.bootstrap import Counts, Metric, interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Small = NDArray[np.int32]  # of counts, for speed
Kind = Literal["bbox", "segm"]

THRESHOLDS_T = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
ANY_AREA = (0.0, 1e10)  # square pixels
MAX_DETECTIONS = 100  # a picture and category, COCO's
CHUNK = 500_000  # numbers of an array over detections and resamples: it stays in the processor's cache


@dataclass(frozen=True)
class CategoryMatches:
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
    annotations: Sequence[Mapping[str, object]],
    detected: Sequence[Mapping[str, object]],
    kind: Kind,
) -> list[CategoryMatches]:
    """Match per category; all four in COCO's form, image ids 1..I in the order of `images`.

    Annotations need id, image_id, category_id, iscrowd and area; bbox or segmentation by `kind`; detections score too.
    """
    return matched_by_area(images, categories, annotations, detected, kind, {"any": ANY_AREA})["any"]


def matched_by_area(
    images: Sequence[Mapping[str, object]],
    categories: Sequence[Mapping[str, object]],
    annotations: Sequence[Mapping[str, object]],
    detected: Sequence[Mapping[str, object]],
    kind: Kind,
    areas: Mapping[str, tuple[float, float]],
) -> dict[str, list[CategoryMatches]]:
    """`matched` for each range of areas in square pixels, both ends within; what lies outside does not count."""
    by_area: dict[str, list[CategoryMatches]] = {name: [] for name in areas}
    annotations_of, detections_of = _by_category(annotations), _by_category(detected)
    for category in categories:
        number = int(str(category["id"]))
        own = annotations_of[number], detections_of[number]
        places = sorted({int(str(record["image_id"])) - 1 for side in own for record in side})
        if not places:
            for ones in by_area.values():
                ones.append(_of_category(number, [], [], len(images)))
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            sides = [_indexed([images[place] for place in places], category, side) for side in own]
            evaluation = COCOeval(*sides, kind)
            evaluation.params.areaRng, evaluation.params.areaRngLbl = (
                [list(ends) for ends in areas.values()],
                list(areas),
            )
            evaluation.params.maxDets = [MAX_DETECTIONS]
            evaluation.evaluate()
        for number_of_area, name in enumerate(areas):
            per_picture = evaluation.evalImgs[number_of_area * len(places) : (number_of_area + 1) * len(places)]
            by_area[name].append(_of_category(number, places, per_picture, len(images)))
    return by_area


def summary(categories: Sequence[CategoryMatches], weights_I: Counts | None = None) -> Summary:
    """AP over IoU .50:.95, AP50, AP75 and AR with 100 detections; ValueError when no instance has weight."""
    if weights_I is None:
        weights_I = np.ones_like(categories[0].instances_I)
    values = summaries(categories, weights_I[None])[0]
    if np.isnan(values).any():
        raise ValueError("nothing to find: no instance in the pictures evaluated")
    return Summary(*map(float, values))


def summaries(categories: Sequence[CategoryMatches], weights_RI: Counts) -> Floats:
    """(R, 4): `summary` under each weighting; NaN where no instance has weight."""
    weights_IR = np.ascontiguousarray(weights_RI.T, np.int32)
    precision_TR, recall_TR = np.zeros((2, len(THRESHOLDS_T), len(weights_RI)))
    num_categories_R = np.zeros(len(weights_RI))
    for category in categories:
        size = max(1, CHUNK // max(1, len(category.picture_D)))
        for start in range(0, len(weights_RI), size):
            chunk = slice(start, start + size)
            curves = _curves(category, weights_IR[:, chunk])
            precision_TR[:, chunk] += curves.precision_TR
            recall_TR[:, chunk] += curves.recall_TR
        num_categories_R += weights_RI @ category.instances_I > 0
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says nothing to find
        precision_TR, recall_TR = precision_TR / num_categories_R, recall_TR / num_categories_R
    return np.stack([precision_TR.mean(0), precision_TR[0], precision_TR[5], recall_TR.mean(0)], axis=1)


def metrics(
    categories: Sequence[CategoryMatches], draws_RI: Counts, chosen_I: Flags | None = None
) -> dict[str, Metric]:
    """ap, ap50, ap75 and ar with intervals; `chosen_I` limits all to some pictures, which the draws are of."""
    if chosen_I is not None:
        categories = [_limited(category, chosen_I) for category in categories]
    values = summary(categories)
    resampled = summaries(categories, draws_RI)
    resampled = resampled[~np.isnan(resampled[:, 0])]
    num_instances = int(sum(category.instances_I.sum() for category in categories))
    return {
        name: Metric(value, num_instances, *interval(resampled[:, place]))
        for place, (name, value) in enumerate(zip(Summary._fields, values, strict=True))
    }


def differences(
    pairs: Sequence[tuple[Sequence[CategoryMatches], Sequence[CategoryMatches]]], draws_RI: Counts
) -> dict[str, tuple[float, float]]:
    """The 95% interval of b - a of ap, ap50, ap75 and ar, the mean over pairs (seeds).

    The same pictures are drawn again on both sides and in all pairs.
    """
    apart_R4 = np.mean([summaries(b, draws_RI) - summaries(a, draws_RI) for a, b in pairs], axis=0)
    apart_R4 = apart_R4[~np.isnan(apart_R4[:, 0])]
    return {name: interval(apart_R4[:, place]) for place, name in enumerate(Summary._fields)}


class _Curves(NamedTuple):
    precision_TR: Floats  # mean over recall levels
    recall_TR: Floats


def _curves(matches: CategoryMatches, weights_IR: Small) -> _Curves:
    """COCOeval.accumulate for one category, each detection counted as often as its picture; 0 without an instance.

    Precision is highest where a detection is right, so that it is computed only there.
    """
    precision_TR, recall_TR = np.zeros((2, len(THRESHOLDS_T), weights_IR.shape[1]))
    num_R = matches.instances_I @ weights_IR
    reached = _Reached(num_R)
    weights_DR = weights_IR[matches.picture_D]
    seen_DR = np.cumsum(weights_DR, axis=0, dtype=np.int32)
    for place, (true_D, false_D) in enumerate(zip(matches.true_TD, matches.false_TD, strict=True)):
        right_P = np.flatnonzero(true_D)
        if len(right_P):
            true_PR = np.cumsum(weights_DR[right_P], axis=0, dtype=np.int32)
            counted_PR = seen_DR[right_P] - _before(right_P, ~true_D & ~false_D, weights_DR)
            precision_PR = true_PR / (counted_PR + np.spacing(1))
            envelope_PR = np.maximum.accumulate(precision_PR[::-1], axis=0)[::-1]
            gained_PR = reached.levels(true_PR)
            gained_PR[1:] -= gained_PR[:-1].copy()
            precision_TR[place] = np.where(num_R > 0, (envelope_PR * gained_PR).sum(0) / len(RECALLS), 0.0)
            recall_TR[place] = true_PR[-1] / np.maximum(num_R, 1)
    return _Curves(precision_TR, recall_TR)


def _before(places_P: NDArray[np.intp], chosen_D: Flags, weights_DR: Small) -> Small:
    """(P, R), or (P, 1) zeros: weight of the chosen detections that stand before each place."""
    chosen = np.flatnonzero(chosen_D)
    if not len(chosen):
        return np.zeros((len(places_P), 1), np.int32)
    sums = np.cumsum(weights_DR[chosen], axis=0, dtype=np.int32)
    return np.concatenate([np.zeros_like(sums[:1]), sums])[np.searchsorted(chosen, places_P)]


class _Reached:
    """Recall levels reached in each resample, which has its own number of instances to find."""

    def __init__(self, num_R: Counts) -> None:
        self._starts_R = np.concatenate([[0], np.cumsum(num_R + 1)[:-1]])
        self._levels = np.concatenate([_levels(int(number)) for number in num_R])

    def levels(self, true_PR: Small) -> Counts:
        """(P, R): how many levels are reached with so many found."""
        return np.asarray(self._levels[true_PR + self._starts_R])


@functools.cache
def _levels(num_instances: int) -> Counts:
    """How many recall levels are reached with 0, 1, ... of the instances found, compared as pycocotools does."""
    recalls = np.arange(num_instances + 1) / max(1, num_instances)
    return np.searchsorted(RECALLS, recalls, side="right").astype(np.int64)


def _of_category(
    category: int, places: Sequence[int], per_picture: Sequence[Mapping[str, Any] | None], num_pictures: int
) -> CategoryMatches:
    """Join the pictures' detections and sort them by falling score, pictures in order among equals."""
    evaluated = [(place, result) for place, result in zip(places, per_picture, strict=True) if result is not None]
    instances_I = np.zeros(num_pictures, np.int64)
    for place, result in evaluated:
        instances_I[place] = np.count_nonzero(np.asarray(result["gtIgnore"]) == 0)
    scores_D = np.concatenate([np.zeros(0), *(np.asarray(result["dtScores"]) for _, result in evaluated)])
    picture_D = np.repeat([place for place, _ in evaluated], [len(result["dtScores"]) for _, result in evaluated])
    matches_TD = np.concatenate(
        [np.zeros((len(THRESHOLDS_T), 0)), *(result["dtMatches"] for _, result in evaluated)], axis=1
    )
    ignored_TD = np.concatenate(
        [np.zeros((len(THRESHOLDS_T), 0)), *(result["dtIgnore"] for _, result in evaluated)], axis=1
    )
    order = np.argsort(-scores_D, kind="mergesort")
    hit_TD, counts_TD = (matches_TD != 0)[:, order], (ignored_TD == 0)[:, order]
    return CategoryMatches(
        category, picture_D[order].astype(np.int64), hit_TD & counts_TD, ~hit_TD & counts_TD, instances_I
    )


def _by_category(annotations: Sequence[Mapping[str, object]]) -> dict[int, list[Mapping[str, object]]]:
    split: dict[int, list[Mapping[str, object]]] = defaultdict(list)
    for annotation in annotations:
        split[int(str(annotation["category_id"]))].append(annotation)
    return split


def _limited(matches: CategoryMatches, chosen_I: Flags) -> CategoryMatches:
    """Only the chosen pictures, numbered anew."""
    chosen_D = chosen_I[matches.picture_D]
    place_I = np.cumsum(chosen_I) - 1
    return CategoryMatches(
        matches.category,
        place_I[matches.picture_D[chosen_D]],
        matches.true_TD[:, chosen_D],
        matches.false_TD[:, chosen_D],
        matches.instances_I[chosen_I],
    )


def _indexed(
    images: Sequence[Mapping[str, object]],
    category: Mapping[str, object],
    annotations: Sequence[Mapping[str, object]],
) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [dict(image) for image in images],
        "categories": [dict(category)],
        "annotations": [dict(annotation) for annotation in annotations],
    }
    dataset.createIndex()
    return dataset
