"""PiM: the reference's numbers, and the strict form by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from eval.metrics import matching
from eval.metrics.points_in_mask import PictureMasks, covered, paper, paper_point, paper_scribble, strict
from instdiff.layouts import masks, strokes
from instdiff.schema import Rle

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "pim.json").read_text())
SIZE = 512


def _golden(stroke: str) -> list[PictureMasks]:
    """The reference draws a scribble only for an instance that has a detection, and its point is a whole pixel."""
    rng = np.random.RandomState(3)
    pictures = []
    for image in dict.fromkeys(instance["image_id"] for instance in GOLDEN["instances"]):
        boxes = [instance["bbox"] for instance in GOLDEN["instances"] if instance["image_id"] == image]
        corners = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in boxes]
        instances = [coco.merge(coco.frPyObjects([polygon], SIZE, SIZE)) for polygon in corners]
        detections = [
            prediction["segmentation"] for prediction in GOLDEN["predictions"] if prediction["image_id"] == image
        ]
        matched = matching.in_order(matching.mask_ious(detections, instances))
        scribbles = [
            _stroke(stroke, matching.run_lengths(mask), rng) if place >= 0 else None
            for mask, place in zip(instances, matched, strict=True)
        ]
        pictures.append(PictureMasks(instances, detections, scribbles))
    return pictures


def _stroke(stroke: str, mask: Rle, rng: np.random.RandomState) -> strokes.Points | None:
    return paper_scribble(mask, 20, rng) if stroke == "scribble" else paper_point(mask)


@pytest.mark.parametrize("stroke", ["point", "scribble"])
def test_the_paper_form_gives_the_reference_value(stroke: str) -> None:
    form = paper(_golden(stroke))
    assert form.value == GOLDEN["result"][stroke]
    assert form.num_pictures == GOLDEN["num_pictures"]


@given(st.data())
def test_the_papers_point_is_the_whole_pixel_halfway_between_the_first_and_the_last(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    first = [data.draw(st.integers(0, side - 1)) for side in (width, height)]
    last = [data.draw(st.integers(start, side - 1)) for start, side in zip(first, (width, height), strict=True)]
    mask_HW = np.zeros((height, width), bool)
    mask_HW[first[1] : last[1] + 1, first[0] : last[0] + 1] = True
    point = paper_point(masks.encode(mask_HW))
    assert point is not None
    expected = [(start + stop) // 2 for start, stop in zip(first, last, strict=True)]
    assert point * (width, height) == pytest.approx(np.array([expected]))


def _run_lengths(*boxes: tuple[int, int, int, int]) -> list[dict[str, object]]:
    """Masks of 10x10 pixels, filled from left, top to right, bottom."""
    encoded = []
    for left, top, right, bottom in boxes:
        mask_HW = np.zeros((10, 10), bool)
        mask_HW[top:bottom, left:right] = True
        encoded.append(masks.encode(mask_HW).model_dump())
    return encoded


def _strict(picture: PictureMasks, allowed: list[list[bool]]) -> list[float]:
    iou_DG = matching.mask_ious(picture.detected, picture.instances)
    return list(strict(picture, iou_DG, np.array(allowed, bool).reshape(iou_DG.shape)))


LEFT = np.array([[0.2, 0.2], [0.4, 0.4]])


def test_a_point_is_covered_when_its_pixel_is_inside_x_to_the_right() -> None:
    mask_HW = np.zeros((10, 20), bool)
    mask_HW[0, 15] = True
    assert covered(masks.encode(mask_HW), np.array([[15 / 20, 0.0]])) == 1.0
    assert covered(masks.encode(mask_HW), np.array([[0.0, 0.75]])) == 0.0


def test_the_share_of_the_stroke_inside_the_detection_counts() -> None:
    picture = PictureMasks(_run_lengths((0, 0, 5, 5)), _run_lengths((0, 0, 3, 3)), [LEFT])
    assert _strict(picture, [[True]]) == [0.5]


def test_strictly_a_detection_of_another_category_leaves_the_instance_at_zero() -> None:
    picture = PictureMasks(_run_lengths((0, 0, 5, 5)), _run_lengths((0, 0, 5, 5)), [LEFT])
    assert _strict(picture, [[False]]) == [0.0]
    assert paper([picture]).value == 1.0


def test_strictly_an_unmatched_instance_counts_and_in_the_paper_form_it_does_not() -> None:
    both = _run_lengths((0, 0, 5, 5), (5, 5, 10, 10))
    picture = PictureMasks(both, both[:1], [LEFT, LEFT + 0.5])
    assert _strict(picture, [[True, True]]) == [1.0, 0.0]
    assert paper([picture]).value == 1.0


def test_one_detection_over_two_instances_serves_one_of_them() -> None:
    picture = PictureMasks(_run_lengths((0, 0, 5, 10), (5, 0, 9, 10)), _run_lengths((0, 0, 10, 10)), [LEFT, LEFT + 0.5])
    assert _strict(picture, [[True, True]]) == [1.0, 0.0]


def test_an_instance_without_a_stroke_is_not_measured() -> None:
    picture = PictureMasks(_run_lengths((0, 0, 5, 5)), _run_lengths((0, 0, 5, 5)), [None])
    assert np.isnan(_strict(picture, [[True]])).all()


def test_the_paper_form_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no picture"):
        paper([PictureMasks(_run_lengths((0, 0, 5, 5)), [], [LEFT])])
