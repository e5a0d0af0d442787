"""MIG-Bench's success rate and mIoU, by hand."""

import numpy as np
import pytest

from eval.metrics import mig

BOX_IOU = np.array([0.9, 0.5, 0.49, 0.8])
RIGHT = np.array([True, True, True, False])
PICTURE = np.array([0, 0, 2, 3])


def test_an_instance_succeeds_from_half_its_box_on_and_in_its_own_colour() -> None:
    assert mig.of_instances(BOX_IOU, RIGHT).tolist() == [True, True, False, False]


def test_the_overlap_is_nothing_where_the_place_is_right_and_the_colour_wrong() -> None:
    assert mig.ious(BOX_IOU, RIGHT).tolist() == [0.9, 0.5, 0.49, 0.0]


def test_below_half_the_overlap_stays_whatever_the_colour() -> None:
    """MIG-Bench: by hand (0.9 + 0 + 0.49 + 0.3 + 0) / 5; every wrong colour at 0 would give 0.18."""
    box_iou, right = np.array([0.9, 0.5, 0.49, 0.3, 0.0]), np.array([True, False, False, False, False])
    assert mig.ious(box_iou, right).tolist() == [0.9, 0.0, 0.49, 0.3, 0.0]
    assert mig.ious(box_iou, right).mean() == pytest.approx(0.338)
    assert mig.of_instances(box_iou, right).tolist() == [True, False, False, False, False]


def test_a_picture_succeeds_when_all_in_it_do_and_without_instances_it_is_not_measured() -> None:
    done = mig.of_pictures(np.array([True, True, False, True]), PICTURE, 5)
    assert done[[0, 2, 3]].tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(done[[1, 4]]).all()
