"""What ultralytics is asked for, and what is taken of its answer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from instdiff.networks import detector
from instdiff.networks.detector import Detection, Detector
from instdiff.networks.device import PLAIN
from instdiff.schema import Box

PICTURE = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)


class Yolo:
    """Answers what it is told, and remembers what it was asked."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.pictures: list[Any] = []
        self.options: dict[str, Any] = {}

    def predict(self, pictures: list[Any], **options: Any) -> list[Any]:
        self.pictures, self.options = pictures, options
        return self.results


def result(rows: list[list[float]], masks: torch.Tensor) -> SimpleNamespace:
    boxes = SimpleNamespace(data=torch.tensor(rows))
    return SimpleNamespace(orig_shape=(4, 8), boxes=boxes, masks=SimpleNamespace(data=masks))


@pytest.mark.parametrize(("precision", "quantized"), [("float32", {}), ("float16", {"quantize": 16})])
def test_ultralytics_is_asked_by_the_detectors_settings_for_masks_at_the_pictures_size_and_keeps_nothing(
    precision: str, quantized: dict[str, int]
) -> None:
    model = Yolo(SimpleNamespace(masks=None), SimpleNamespace(masks=None))
    where = PLAIN.model_copy(update={"precision": precision})
    assert Detector(model, ("disc",), 96, 0.25, 0.6, where).detect([PICTURE, PICTURE[::-1]]) == [[], []]
    asked = {"imgsz": 96, "conf": 0.25, "iou": 0.6, "retina_masks": True, "device": "cpu"}
    assert model.options == asked | quantized | {"verbose": False, "save": False}
    blue_first = PICTURE[:, :, [2, 1, 0]]
    assert [picture.tolist() for picture in model.pictures] == [blue_first.tolist(), blue_first[::-1].tolist()]


def test_a_box_is_of_fractions_with_its_class_its_score_and_the_pixels_that_its_mask_covers() -> None:
    masks = torch.zeros(2, 4, 8)
    masks[0, 1:3, 2:6], masks[1, 0, 0] = 1.0, 1.0
    model = Yolo(result([[2, 1, 6, 3, 0.75, 1], [0, 0, 1, 1, 0.5, 0]], masks))
    (found,) = Detector(model, ("disc", "ring"), 96, 0.25, 0.6).detect([PICTURE])
    expected = [("ring", 0.75, Box(0.25, 0.25, 0.75, 0.75)), ("disc", 0.5, Box(0, 0, 0.125, 0.25))]
    assert [(each.category, each.score, each.box) for each in found] == expected
    assert all(isinstance(each, Detection) for each in found)
    assert [each.mask.tolist() for each in found] == (masks == 1).tolist()


def test_a_precision_in_which_ultralytics_does_not_predict_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the detector's precision is bfloat16; ultralytics knows float32 and float16"):
        detector.load(tmp_path / "none", PLAIN.model_copy(update={"precision": "bfloat16"}))
