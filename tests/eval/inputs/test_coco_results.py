"""COCO's plain list of results: every way to name a picture and a class says the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.inputs import coco_results, pictures
from instdiff.layouts import masks

KEYS, SIZES = ("high", "wide", "12"), ((16, 6), (5, 20), (4, 4))
CLASSES, IMAGES = {90: "toothbrush", 3: "car", 18: "dog"}, {7: "wide", 12: "high", 5: "12"}


def _read(folder: Path, *records: dict[str, Any]) -> coco_results.Detections:
    (folder / "found.json").write_text(json.dumps(records))
    picture_set = pictures.Pictures(KEYS, (), SIZES, (), (), SIZES)
    return coco_results.read(folder / "found.json", picture_set, CLASSES, IMAGES)


def _result(**more: object) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 18, "bbox": [2, 1, 8, 3], "score": 0.5} | more


def test_category_ids_with_gaps_are_numbered_by_size_and_keep_their_names(tmp_path: Path) -> None:
    read = _read(
        tmp_path, *(_result(category_id=number, score=score) for number, score in ((90, 0.9), (3, 0.8), (18, 0.7)))
    )
    assert read.classes == ("car", "dog", "toothbrush")
    assert [read.classes[annotation.category_id - 1] for annotation in read.annotations] == ["toothbrush", "car", "dog"]


@pytest.mark.parametrize(("image", "key"), [(7, "wide"), ("wide", "wide"), (12, "high"), ("5", "12"), (5, "12")])
def test_a_picture_is_named_by_its_id_or_by_its_file(tmp_path: Path, image: int | str, key: str) -> None:
    (read,) = _read(tmp_path, _result(image_id=image)).annotations
    assert KEYS[read.image_id - 1] == key


def test_a_mask_is_held_against_the_size_of_its_own_picture(tmp_path: Path) -> None:
    runs = masks.encode(np.ones((5, 20), bool)).model_dump()
    (read,) = _read(tmp_path, _result(segmentation=runs)).in_coco
    assert read["area"] == 100
    with pytest.raises(ValueError, match=r"annotations\.0: segmentation.size \(5, 20\) is not the picture's \(16, 6\)"):
        _read(tmp_path, _result(image_id=12, segmentation=runs))


def test_what_names_nothing_is_refused_by_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found.json: 1: image_id 'wide.jpg' is not one of the 3 pictures"):
        _read(tmp_path, _result(), _result(image_id="wide.jpg"))
    with pytest.raises(ValueError, match=r"0: image_id '12' is the name of one picture and the id of another, 'high'"):
        _read(tmp_path, _result(image_id="12"))
    with pytest.raises(ValueError, match=r"1: category_id 2 is not among .* \(3 to 90, 3 of them\)"):
        _read(tmp_path, _result(), _result(category_id=2))


def test_a_plain_list_needs_names_and_says_that_its_pictures_are_unknown(tmp_path: Path) -> None:
    read = _read(tmp_path, _result())
    assert read.provenance == {"pictures": None, "detector": coco_results.UNKNOWN}
    with pytest.raises(ValueError, match="needs COCO's ground truth"):
        coco_results.read(tmp_path / "found.json", pictures.Pictures(KEYS, (), SIZES, (), (), SIZES), None, {})
