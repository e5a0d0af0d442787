"""The evaluator's own test: what a detector reaches on real pictures is kept where it is what its authors publish."""

import json
from pathlib import Path
from typing import Any

import eval_world
import pytest

from eval import detect, self_test
from instdiff.files import provenance
from instdiff.networks.finders import choice
from instdiff.networks.finders.closed import ClosedFinder


def written(folder: Path) -> None:
    """The scenes' pictures with COCO's annotations of them, and a detector that finds them all."""
    eval_world.draw(folder / "val", {})
    eval_world.write_detector(folder / "detector", b"one")
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (key, _, (height, width), shapes) in enumerate(eval_world.SCENES, start=1):
        images.append({"id": number, "file_name": f"{key}.png", "height": height, "width": width})
        for category, _, left, top, right, bottom in shapes:
            corners = [left, top, right, top, right, bottom, left, bottom]
            place = {"bbox": [left, top, right - left, bottom - top], "segmentation": [corners], "iscrowd": 0}
            own = {"id": len(annotations) + 1, "category_id": eval_world.CLASSES.index(category) + 1}
            annotations.append(own | {"image_id": number, "area": (right - left) * (bottom - top)} | place)
    categories = [{"id": number, "name": name} for number, name in enumerate(eval_world.CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **expected: float) -> dict[str, float]:
    detect._loaded.cache_clear()
    monkeypatch.setattr(choice, "load", lambda *_: ClosedFinder(eval_world.PixelDetector()))
    return self_test.run(
        pictures=folder / "val",
        annotations=folder / "instances.json",
        detector=folder / "detector",
        result=folder / "results" / "self-test.json",
        params=self_test.Params(expected=expected, within=0.0625, detect=eval_world.DETECT),
    )


def test_what_is_measured_is_kept_beside_what_is_expected_of_which_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    (tmp_path / "results").mkdir()
    found: dict[str, Any] = {"box_ap": pytest.approx(1), "mask_ap": pytest.approx(1)}
    assert run(tmp_path, monkeypatch, box_ap=0.95, mask_ap=1.0) == {"pictures": 4, **found}
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["self-test.json"]
    assert json.loads((tmp_path / "results" / "self-test.json").read_text()) == {
        "measured": found,
        "expected": {"box_ap": 0.95, "mask_ap": 1.0},
        "detector": provenance.of_folder(tmp_path / "detector"),
    }


def test_a_detector_beyond_the_band_stops_with_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    (tmp_path / "results").mkdir()
    sentence = r"val: the detector of .*detector finds mask_ap 100\.0, not 90\.0 within 6\.25: the pictures"
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path, monkeypatch, box_ap=0.95, mask_ap=0.9)
    assert not list((tmp_path / "results").iterdir())
