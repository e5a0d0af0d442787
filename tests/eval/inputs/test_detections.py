"""The door for detections: malformed files are refused in one sentence with file, record and field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.inputs import detections
from instdiff.layouts import masks

SIZES = [(8, 10), (8, 10)]


def _annotation(**more: object) -> dict[str, Any]:
    mask_HW = np.zeros((8, 10), bool)
    mask_HW[2:4, 3:9] = True
    good = {"image_id": 1, "category_id": 1, "bbox": [3, 2, 6, 2], "score": 0.5}
    return good | {"segmentation": masks.encode(mask_HW).model_dump()} | more


def _write(path: Path, *annotations: object) -> Path:
    detections.write(path / "found.json", {"pictures": "abc"}, ["square", "bar"], annotations)
    return path / "found.json"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    read = detections.read(_write(tmp_path, _annotation(), _annotation(image_id=2, score=0.9)), SIZES)
    assert read.classes == ("square", "bar")
    assert read.provenance == {"pictures": "abc"}
    assert [(annotation["id"], annotation["area"]) for annotation in read.in_coco] == [(1, 12.0), (2, 12.0)]


def test_the_same_provenance_is_written_alike_in_whatever_order_it_is_known(tmp_path: Path) -> None:
    sources = {"pictures": "abc", "detector": "def"}
    for name, made_by in (("one", sources), ("other", dict(reversed(sources.items())))):
        detections.write(tmp_path / name, made_by, ["square"], [])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_nothing_found_is_a_valid_file(tmp_path: Path) -> None:
    assert detections.read(_write(tmp_path), SIZES).annotations == ()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"image_id": 3}, "image_id 3 is not one of the 2 pictures"),
        ({"image_id": 0}, "image_id 0 is not"),
        ({"category_id": 3}, "category_id 3 is not one of the 2 categories"),
        ({"score": 1.5}, "annotations.1.score"),
        ({"score": True}, "annotations.1.score"),
        ({"image_id": True}, "annotations.1.image_id: true is no number"),
        ({"category_id": True}, "annotations.1.category_id: true is no number"),
        ({"bbox": [1, 2, True, 4]}, "annotations.1.bbox.2"),
        ({"score": float("nan")}, "annotations.1.score"),
        ({"bbox": [1, 2, 3]}, "annotations.1.bbox"),
        ({"bbox": [1, 2, -0.5, 4]}, "negative width"),
        ({"bbox": [1, 2, 3, -0.5]}, "negative width or height"),
        ({"bbox": [1, 2, float("inf"), 4]}, "annotations.1.bbox.2"),
        ({"segmentation": {"size": [10, 8], "counts": "0"}}, "is not the picture's"),
        ({"segmentation": {"size": [8, 10], "counts": "5"}}, "annotations.1: the runs"),
        ({"segmentation": {"size": [8, 10], "counts": [3, 77]}}, "annotations.1.segmentation.counts"),
        ({"segmentation": [[0, 0, 1, 1, 0, 1]]}, "annotations.1.segmentation"),
    ],
)
def test_a_wrong_record_is_named_with_its_field(tmp_path: Path, wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match="found.json") as caught:
        detections.read(_write(tmp_path, _annotation(), _annotation(**wrong)), SIZES)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"annotations": []}', "[" * 100_000, "\x00", "null"])
def test_what_is_no_file_of_detections_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(ValueError, match="found.json"):
        detections.read(tmp_path / "found.json", SIZES)


def test_all_detections_have_masks_or_none_has(tmp_path: Path) -> None:
    bare = {name: value for name, value in _annotation().items() if name != "segmentation"}
    assert not detections.read(_write(tmp_path, bare, bare), SIZES).has_masks
    assert detections.read(_write(tmp_path, _annotation(), _annotation()), SIZES).has_masks
    for some in ([bare, _annotation()], [_annotation(), bare, _annotation()]):
        with pytest.raises(ValueError, match=f"1 of {len(some)} detections have no segmentation: all or none"):
            detections.read(_write(tmp_path, *some), SIZES)
    (read,) = detections.read(_write(tmp_path, bare | {"bbox": [1, 1, 7, 3]}), SIZES).in_coco
    assert read["area"] == 21


def test_the_order_of_the_categories_changes_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path, _annotation(category_id=2))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"categories": content["categories"][::-1]}))
    assert detections.read(path, SIZES).classes == ("square", "bar")
    for ids in ([1, 1], [1, 3], [0, 1]):
        wrong = [{"id": number, "name": f"{place}"} for place, number in enumerate(ids)]
        path.write_text(json.dumps(content | {"categories": wrong}))
        with pytest.raises(ValueError, match="ids must be 1 to 2, each once"):
            detections.read(path, SIZES)


def _mask(left: int) -> dict[str, Any]:
    mask_HW = np.zeros((8, 10), bool)
    mask_HW[2:4, left : left + 2] = True
    return masks.encode(mask_HW).model_dump()


RECORDS = st.builds(
    lambda image, category, left, score, covered: _annotation(
        image_id=image, category_id=category, bbox=[left, 2, 2, 2], score=score, segmentation=_mask(covered)
    ),
    *(st.integers(1, 2), st.integers(1, 2), st.integers(0, 2), st.sampled_from([0.5, 0.9]), st.integers(0, 2)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(RECORDS, min_size=1, max_size=12), data=st.data())
def test_the_order_of_the_records_changes_nothing_that_is_counted_not_even_among_equal_scores(
    tmp_path: Path, records: list[dict[str, Any]], data: st.DataObject
) -> None:
    there = detections.read(_write(tmp_path, *records), SIZES).in_coco
    assert detections.read(_write(tmp_path, *data.draw(st.permutations(records))), SIZES).in_coco == there
    assert [(annotation["image_id"], -annotation["score"]) for annotation in there] == sorted(
        (record["image_id"], -record["score"]) for record in records
    )


@pytest.mark.parametrize(
    "edge",
    [{"score": 0.0}, {"score": 1.0}, {"bbox": [0, 0, 0, 0]}, {"image_id": 1}, {"image_id": 2}, {"category_id": 2}],
)
def test_the_ends_of_what_is_allowed_are_allowed(tmp_path: Path, edge: dict[str, object]) -> None:
    (read,) = detections.read(_write(tmp_path, _annotation(**edge)), SIZES).annotations
    assert edge.items() <= read.model_dump().items()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["image_id", "category_id", "bbox", "score", "segmentation"]), value=JSON)
def test_any_value_in_any_field_is_either_sound_or_one_sentence(tmp_path: Path, field: str, value: object) -> None:
    path = _write(tmp_path, _annotation(**{field: value}))
    try:
        read = detections.read(path, SIZES)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert 1 <= read.annotations[0].image_id <= 2
        assert 0 <= read.annotations[0].score <= 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_run_lengths_that_do_not_add_up_never_reach_pycocotools(tmp_path: Path, counts: str) -> None:
    path = _write(tmp_path, _annotation(segmentation={"size": [8, 10], "counts": counts}))
    try:
        area = detections.read(path, SIZES).in_coco[0]["area"]
    except ValueError as error:
        assert "annotations.0" in str(error)
    else:
        assert isinstance(area, float) and 0 <= area <= 80
