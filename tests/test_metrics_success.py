"""MIG-Bench's success rate and mIoU, by hand."""

import numpy as np

from eval.metrics import mig

BOX_IOU = np.array([0.9, 0.5, 0.49, 0.8])
RIGHT = np.array([True, True, True, False])
PICTURE = np.array([0, 0, 2, 3])


def test_an_instance_succeeds_from_half_its_box_on_and_in_its_own_colour() -> None:
    assert mig.of_instances(BOX_IOU, RIGHT).tolist() == [True, True, False, False]


def test_in_the_wrong_colour_the_overlap_is_nothing() -> None:
    assert mig.ious(BOX_IOU, RIGHT).tolist() == [0.9, 0.5, 0.49, 0.0]


def test_a_picture_succeeds_when_all_in_it_do_and_without_instances_it_is_not_measured() -> None:
    done = mig.of_pictures(np.array([True, True, False, True]), PICTURE, 5)
    assert done[[0, 2, 3]].tolist() == [1.0, 0.0, 1.0]
    assert np.isnan(done[[1, 4]]).all()
