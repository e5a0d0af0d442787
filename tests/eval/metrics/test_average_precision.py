"""Average precision: by hand, and equal to pycocotools on random detections, repeated pictures included."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from detection_cases import CATEGORIES, Annotations, _annotation, random_case, sized
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval.metrics import average_precision as ap
from eval.metrics import bootstrap
from eval.scoring import ap_matches


def _pycocotools(images: Annotations, ground_truth: Annotations, detections: Annotations, kind: str) -> list[float]:
    """AP, AP50, AP75 and AR at 100 of stock pycocotools."""
    sets = []
    for annotations in (ground_truth, detections):
        dataset = COCO()
        dataset.dataset = {"images": images, "categories": CATEGORIES, "annotations": [dict(a) for a in annotations]}
        sets.append(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        for dataset in sets:
            dataset.createIndex()
        evaluation = COCOeval(*sets, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [evaluation.stats[place] for place in (0, 1, 2, 8)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_pycocotools_to_the_last_digits(kind: ap.Kind, seed: int) -> None:
    images = sized(12)
    annotations, detections = random_case(seed, 12)
    ours = ap.summary(ap.matched(images, CATEGORIES, annotations, detections, kind))
    assert ours == pytest.approx(_pycocotools(images, annotations, detections, kind), abs=1e-12)


@pytest.mark.parametrize("right_at", [99, 100, 101, 130])
def test_more_detections_of_a_class_in_a_picture_than_coco_counts_give_pycocotools_numbers(right_at: int) -> None:
    images = sized(2)
    box = [2, 3, 10, 6]
    annotations = [_annotation(1, 1, 1, box), _annotation(2, 2, 2, box)]
    detections = [
        _annotation(rank, 1, 1, box if rank == right_at else [20, 20, 5, 5], score=1 - rank / 1000)
        for rank in range(1, 141)
    ]
    ours = ap.summary(ap.matched(images, CATEGORIES, annotations, detections, "bbox"))
    assert ours == pytest.approx(_pycocotools(images, annotations, detections, "bbox"), abs=1e-12)
    assert (ours.ar > 0) == (right_at <= 100)  # the hundred surest count, and no other


@settings(max_examples=20)
@for_all(st.integers(0, 10**6))
def test_among_many_detections_of_equal_score_it_equals_pycocotools(seed: int) -> None:
    images = sized(15)
    annotations, detections = random_case(seed, 15)
    level = [detection | {"score": round(detection["score"])} for detection in detections]  # 0 or 1
    if annotations:
        ours = ap.summary(ap.matched(images, CATEGORIES, annotations, level, "bbox"))
        assert ours == pytest.approx(_pycocotools(images, annotations, level, "bbox"), abs=1e-12)


@pytest.mark.parametrize(("rows", "thresholds"), [(7, 0), (8, 1), (9, 2), (10, 3)])
def test_a_detection_of_exactly_the_overlap_asked_for_counts(rows: int, thresholds: int) -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 4, 16])]
    detections = [_annotation(1, 1, 1, [0, 0, 4, rows], score=0.9)]  # IoU rows / 16; thresholds .50, .55, .60
    (square, *_) = ap.matched(sized(1), CATEGORIES, annotations, detections, "bbox")
    assert square.true_TD.sum() == thresholds


@pytest.mark.parametrize(("area", "sizes"), [(255, "small"), (256, "small large"), (257, "large")])
def test_both_ends_of_a_range_of_areas_lie_within_it(area: float, sizes: str) -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 16, 16], area=float(area))]
    ranges = {"small": (0.0, 256.0), "large": (256.0, 1e10)}
    matched = ap.matched_by_area(sized(1), CATEGORIES, annotations, [], "bbox", ranges)
    assert [name for name, ones in matched.items() if ones[0].instances_I.any()] == sizes.split()


def test_every_resample_is_counted_once_however_many_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations, detections = random_case(9, 10)
    matched = ap.matched(sized(10), CATEGORIES, annotations, detections, "bbox")
    draws = bootstrap.draws(10, 23, seed=0)
    alone = [ap.summaries(matched, draws[place : place + 1])[0] for place in range(len(draws))]
    for chunk in (1, 30, 100):
        monkeypatch.setattr(ap, "CHUNK", chunk)
        assert ap.summaries(matched, draws) == pytest.approx(np.array(alone), abs=1e-12)


def test_a_picture_drawn_several_times_counts_as_if_it_stood_there_several_times() -> None:
    ground_truth, detections = random_case(7, 8)
    detections = [
        detection | {"score": detection["score"] + number / 1e4} for number, detection in enumerate(detections)
    ]  # see the next test
    counts = np.array([3, 0, 1, 2, 0, 1, 1, 0])
    originals = np.repeat(np.arange(1, 9), counts)

    def repeated(annotations: Annotations) -> Annotations:
        copies = [
            annotation | {"image_id": place}
            for place, original in enumerate(originals, start=1)
            for annotation in annotations
            if annotation["image_id"] == original
        ]
        return [copy | {"id": number} for number, copy in enumerate(copies, start=1)]

    weighted = ap.summary(ap.matched(sized(8), CATEGORIES, ground_truth, detections, "bbox"), counts)
    assert weighted == pytest.approx(
        _pycocotools(sized(8), repeated(ground_truth), repeated(detections), "bbox"), abs=1e-12
    )


def test_copies_of_a_picture_follow_each_other_where_scores_are_equal() -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 10, 10])]
    detections = [
        _annotation(n, 1, 1, box, score=0.5) for n, box in enumerate(([0, 0, 10, 10], [20, 20, 5, 5]), start=1)
    ]
    counts = np.array([2])  # right, right, wrong, wrong; pycocotools on two pictures: right, wrong, right, wrong
    assert ap.summary(ap.matched(sized(1), CATEGORIES, annotations, detections, "bbox"), counts).ap50 == pytest.approx(
        1.0
    )


def test_half_found_without_a_wrong_detection_is_the_recall_levels_reached() -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 10, 10]), _annotation(2, 2, 1, [0, 0, 10, 10])]
    detections = [_annotation(1, 1, 1, [0, 0, 10, 10], score=0.9)]
    summary = ap.summary(ap.matched(sized(2), CATEGORIES, annotations, detections, "bbox"))
    assert summary.ap50 == pytest.approx(51 / 101)  # levels 0, .01, ... .50 of 101
    assert summary.ar == 0.5


def test_a_box_of_iou_six_tenths_counts_at_half_and_not_at_three_quarters() -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 10, 10])]
    detections = [_annotation(1, 1, 1, [0, 0, 10, 6], score=0.9)]
    summary = ap.summary(ap.matched(sized(1), CATEGORIES, annotations, detections, "segm"))
    assert (summary.ap50, summary.ap75) == pytest.approx((1.0, 0.0))
    assert summary.ap == pytest.approx(0.3)  # thresholds .50, .55 and .60 of ten


def test_without_any_detection_it_is_zero_and_without_any_instance_an_error() -> None:
    annotations = [_annotation(1, 1, 1, [0, 0, 10, 10])]
    assert ap.summary(ap.matched(sized(1), CATEGORIES, annotations, [], "bbox")) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="no instance"):
        ap.summary(ap.matched(sized(1), CATEGORIES, [], [], "bbox"))


def test_some_pictures_are_evaluated_as_if_the_others_were_not_there() -> None:
    ground_truth, detections = random_case(3, 10)
    chosen = np.arange(10) < 6
    matched = ap.matched(sized(10), CATEGORIES, ground_truth, detections, "bbox")
    of_some = ap.metrics(matched, bootstrap.draws(6, 20, seed=0), chosen)
    first_six = [[record for record in records if record["image_id"] <= 6] for records in (ground_truth, detections)]
    expected = _pycocotools(sized(6), first_six[0], first_six[1], "bbox")
    assert [of_some[name].value for name in ("ap", "ap50", "ap75", "ar")] == pytest.approx(expected, abs=1e-12)
    assert of_some["ap"].n == len(first_six[0])


def test_intervals_hold_the_value_and_stay_within_zero_and_one() -> None:
    annotations, detections = random_case(5, 30)
    metrics = ap.metrics(
        ap.matched(sized(30), CATEGORIES, annotations, detections, "bbox"), bootstrap.draws(30, 200, seed=0)
    )
    for metric in metrics.values():
        assert 0 <= metric.low < metric.value < metric.high <= 1


def test_what_is_counted_is_written_and_counts_the_same_when_read(tmp_path: Path) -> None:
    annotations, detections = random_case(11, 20)
    counted = {
        name: ap.matched(sized(20), CATEGORIES, annotations, detections, kind)
        for name, kind in (("box", "bbox"), ("mask", "segm"))
    }
    ap_matches.write(tmp_path / "matches.parquet", counted)
    read = ap_matches.read(tmp_path / "matches.parquet", 20)
    draws = bootstrap.draws(20, 30, seed=0)
    for name, ones in counted.items():
        assert np.array_equal(ap.summaries(read[name], draws), ap.summaries(ones, draws), equal_nan=True)


def test_a_difference_is_resampled_with_the_same_pictures_on_both_sides() -> None:
    annotations, detections = random_case(2, 25)
    matches = ap.matched(sized(25), CATEGORIES, annotations, detections, "bbox")
    other = ap.matched(sized(25), CATEGORIES, annotations, [], "bbox")
    draws = bootstrap.draws(25, 100, seed=0)
    ends = ap.differences([(other, matches)], draws)["ap50"]
    alone = ap.metrics(matches, draws)["ap50"]
    assert ends == pytest.approx((alone.low, alone.high))  # the other side is 0 in every draw
    assert ap.differences([(matches, matches)], draws)["ap"] == (0, 0)
