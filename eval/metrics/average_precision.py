"""COCO's average precision and recall, with intervals.

pycocotools matches detections to instances once, picture by picture (COCOeval.evaluate). Its accumulation is
written again here for weighted pictures: a picture drawn w times counts w times. With all weights 1 this equals
pycocotools to the last digits, otherwise pycocotools on the pictures with repetitions, except that copies of
equal score follow each other.
Legend: T IoU thresholds, D detections of one category, I pictures, R resamples, K categories.
"""

import contextlib
import functools
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
ANY_AREA = (0.0, 1e10)  # square pixels
MAX_DETECTIONS = 100  # a picture and category, COCO's
CHUNK = 2_000_000  # numbers of an array over resamples, thresholds and detections


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
    return matched_by_area(images, categories, given, detected, kind, {"any": ANY_AREA})["any"]


def matched_by_area(
    images: Sequence[Mapping[str, object]],
    categories: Sequence[Mapping[str, object]],
    given: Sequence[Mapping[str, object]],
    detected: Sequence[Mapping[str, object]],
    kind: Kind,
    areas: Mapping[str, tuple[float, float]],
) -> dict[str, list[Matched]]:
    """`matched` for each range of areas in square pixels, both ends within; what lies outside does not count."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(images, categories, given), _indexed(images, categories, detected), kind)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(one) for one in areas.values()], list(areas)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    found_KAI = np.array(evaluation.evalImgs, dtype=object).reshape(len(categories), len(areas), len(images))
    numbers = [int(str(category["id"])) for category in categories]
    return {
        name: [_of_category(number, found_AI[place]) for number, found_AI in zip(numbers, found_KAI, strict=True)]
        for place, name in enumerate(areas)
    }


def summary(categories: Sequence[Matched], weights_I: Counts | None = None) -> Summary:
    """AP over IoU .50:.95, AP50, AP75 and AR with 100 detections; ValueError when no instance has weight."""
    if weights_I is None:
        weights_I = np.ones_like(categories[0].instances_I)
    values = summaries(categories, weights_I[None])[0]
    if np.isnan(values).any():
        raise ValueError("nothing to find: no instance in the pictures evaluated")
    return Summary(*map(float, values))


def summaries(categories: Sequence[Matched], weights_RI: Counts) -> Floats:
    """(R, 4): `summary` under each weighting; NaN where no instance has weight."""
    num_T = len(THRESHOLDS_T)
    precision_RT, recall_RT = np.zeros((2, len(weights_RI), num_T))
    found_R = np.zeros(len(weights_RI))
    for one in categories:
        size = max(1, CHUNK // (num_T * max(1, len(one.picture_D))))
        parts = [_curves(one, weights_RI[start : start + size]) for start in range(0, len(weights_RI), size)]
        present_R = weights_RI @ one.instances_I > 0
        precision_RT += np.where(present_R[:, None], np.concatenate([part.precision_RT for part in parts]), 0.0)
        recall_RT += np.where(present_R[:, None], np.concatenate([part.recall_RT for part in parts]), 0.0)
        found_R = found_R + present_R
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says nothing to find
        precision_RT, recall_RT = precision_RT / found_R[:, None], recall_RT / found_R[:, None]
    return np.stack([precision_RT.mean(1), precision_RT[:, 0], precision_RT[:, 5], recall_RT.mean(1)], axis=1)


def metrics(categories: Sequence[Matched], draws_RI: Counts, chosen_I: Flags | None = None) -> dict[str, Metric]:
    """ap, ap50, ap75 and ar with intervals; `chosen_I` limits all to some pictures, which the draws are of."""
    if chosen_I is not None:
        categories = [_limited(one, chosen_I) for one in categories]
    values = summary(categories)
    resampled = summaries(categories, draws_RI)
    resampled = resampled[~np.isnan(resampled[:, 0])]
    num_instances = int(sum(one.instances_I.sum() for one in categories))
    return {
        name: Metric(value, num_instances, *interval(resampled[:, place]))
        for place, (name, value) in enumerate(zip(Summary._fields, values, strict=True))
    }


class _Curves(NamedTuple):
    precision_RT: Floats  # mean over recall levels
    recall_RT: Floats


def _curves(one: Matched, weights_RI: Counts) -> _Curves:
    """COCOeval.accumulate for one category, each detection counted as often as its picture."""
    weights_RD = weights_RI[:, one.picture_D]
    num_R = weights_RI @ one.instances_I
    if not weights_RD.shape[1]:
        return _Curves(*np.zeros((2, len(weights_RI), len(THRESHOLDS_T))))
    true_RTD = np.cumsum(one.true_TD * weights_RD[:, None], axis=2)
    false_RTD = np.cumsum(one.false_TD * weights_RD[:, None], axis=2)
    precision_RTD = true_RTD / (false_RTD + true_RTD + np.spacing(1))
    envelope_RTD = np.maximum.accumulate(precision_RTD[..., ::-1], axis=2)[..., ::-1]
    recall_RT = true_RTD[..., -1] / np.maximum(num_R, 1)[:, None]
    return _Curves(_mean_at_recalls(true_RTD, envelope_RTD, num_R), recall_RT)


def _mean_at_recalls(true_RTD: Counts, envelope_RTD: Floats, num_R: Counts) -> Floats:
    """(R, T): mean over recall levels of the precision where each is first reached, 0 where it never is."""
    reached_RN = np.zeros((len(num_R), int(num_R.max()) + 1), np.int64)
    for row, number in enumerate(num_R):
        reached_RN[row, : number + 1] = _levels(int(number))
    levels_RTD = np.take_along_axis(reached_RN[:, None], true_RTD, axis=2)
    gained_RTD = np.diff(levels_RTD, axis=2, prepend=0)
    return np.asarray((envelope_RTD * gained_RTD).sum(2) / len(RECALLS))


@functools.cache
def _levels(num_instances: int) -> Counts:
    """How many recall levels are reached with 0, 1, ... of the instances found, compared as pycocotools does."""
    recalls = np.arange(num_instances + 1) / max(1, num_instances)
    return np.searchsorted(RECALLS, recalls, side="right").astype(np.int64)


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
