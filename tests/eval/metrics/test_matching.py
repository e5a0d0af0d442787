"""Matching detections to instances, and per-instance IoU: every case worked out by hand."""

import numpy as np
import pytest

from eval.metrics import instance_iou, matching
from instdiff.layouts import masks

ALL = np.ones((2, 2), bool)


def test_boxes_that_share_a_third_have_an_iou_of_one_third() -> None:
    iou = matching.box_ious(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 2, 1]]))
    assert iou[0, 0] == pytest.approx(1 / 3)


def test_masks_are_compared_pixel_by_pixel() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[0, :3], b[0, 1:] = True, True  # 2 of 4 shared
    runs = [masks.encode(mask).model_dump() for mask in (a, b)]
    assert matching.mask_ious(runs[:1], runs[1:])[0, 0] == 0.5


def test_without_detections_or_instances_there_are_no_overlaps() -> None:
    assert matching.box_ious(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert list(matching.best(np.zeros((0, 3)), np.zeros((0, 3), bool))) == [-1, -1, -1]
    assert list(matching.one_to_one(np.zeros((0, 3)), np.zeros((0, 3), bool))) == [-1, -1, -1]
    assert list(matching.in_order(np.zeros((0, 2)))) == [-1, -1]


def test_the_best_detection_may_serve_two_instances_and_one_to_one_may_not() -> None:
    iou_DG = np.array([[0.9, 0.8], [0.0, 0.1]])
    assert list(matching.best(iou_DG, ALL)) == [0, 0]
    assert list(matching.one_to_one(iou_DG, ALL)) == [0, 1]


def test_one_to_one_takes_the_largest_overlap_first() -> None:
    # in order, instance 0 would take detection 0 and leave 0.1 to instance 1
    iou_DG = np.array([[0.5, 0.9], [0.4, 0.1]])
    assert list(matching.one_to_one(iou_DG, ALL)) == [1, 0]
    assert list(matching.in_order(iou_DG)) == [0, 1]


def test_of_equal_overlaps_the_first_detection_is_taken() -> None:
    iou_DG = np.array([[0.4, 0.0], [0.5, 0.2], [0.5, 0.2]])
    every = np.ones((3, 2), bool)
    assert list(matching.best(iou_DG, every)) == [1, 1]
    assert list(matching.in_order(iou_DG)) == [1, 2]
    assert list(matching.one_to_one(iou_DG, every)) == [1, 2]
    assert list(matching.one_to_one(iou_DG.T, every.T)) == [-1, 0, 1]


def test_a_detection_that_does_not_overlap_is_none_but_the_reference_takes_it() -> None:
    iou_DG = np.array([[0.0]])
    assert list(matching.best(iou_DG, np.ones((1, 1), bool))) == [-1]
    assert list(matching.one_to_one(iou_DG, np.ones((1, 1), bool))) == [-1]
    assert list(matching.in_order(iou_DG)) == [0]


def test_iou_counts_only_detections_of_the_own_category_and_score_and_is_zero_without() -> None:
    iou_DG = np.array([[0.9, 0.3], [0.5, 0.0]])
    allowed_DG = np.array([[False, True], [True, True]])
    assert list(instance_iou.of_instances(iou_DG, allowed_DG)) == [0.5, 0.3]
    assert list(instance_iou.of_instances(iou_DG, np.zeros((2, 2), bool))) == [0.0, 0.0]
