"""COCO's records: what Python takes for a number is no number."""

from typing import Any

import numpy as np
import pytest

from instdiff.layouts import coco, masks

PAGE: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
    "categories": [{"id": 1, "name": "disc"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}],
}


@pytest.mark.parametrize("name", ["id", "width", "height"])
def test_a_picture_has_no_side_that_is_true(name: str) -> None:
    (image,) = PAGE["images"]
    page = coco.read({**PAGE, "images": [{**image, name: True}], "annotations": []}, "a.json", coco.Annotation)
    (fault,) = page.faults
    assert fault.detail.startswith(f"{name}: ") and "no" in fault.detail
    assert not page.images


@pytest.mark.parametrize(
    "segmentation",
    [{"size": [4, 4], "counts": [15, True]}, {"size": [True, 16], "counts": [16]}, [[0, 0, 2, 0, True, 2]]],
)
def test_a_mask_has_no_run_and_no_place_that_is_true(segmentation: object) -> None:
    with pytest.raises(ValueError, match="no number|valid number"):
        coco.Region(bbox=[0, 0, 2, 2], segmentation=segmentation)


@pytest.mark.parametrize(
    ("number", "is_read"), [(2**63 - 1, True), (-(2**63), True), (2**63, False), (-(2**63) - 1, False)]
)
def test_an_id_is_a_number_of_64_bits(number: int, is_read: bool) -> None:
    page = coco.read(
        {**PAGE, "images": [{**PAGE["images"][0], "id": number}], "annotations": []}, "a.json", coco.Annotation
    )
    assert [image.id for image in page.images] == [number] * is_read
    assert bool(page.faults) != is_read


@pytest.mark.parametrize(
    ("written", "number"),
    [(str(2**63 - 1), 2**63 - 1), ("-12", -12), (" 7 ", 7), ("7.0", None), ("7 8", None), ("-", None)],
)
def test_an_id_may_be_written_as_text_that_is_a_whole_number(written: str, number: int | None) -> None:
    page = coco.read(
        {**PAGE, "images": [{**PAGE["images"][0], "id": written}], "annotations": []}, "a.json", coco.Annotation
    )
    assert [image.id for image in page.images] == [each for each in (number,) if each is not None]


def test_the_name_of_a_fault_holds_forty_characters_of_an_id_that_is_none() -> None:
    page = coco.read({**PAGE, "images": [{**PAGE["images"][0], "id": "x" * 41}]}, "a.json", coco.Annotation)
    assert page.faults[0].name == "image " + "x" * 40


@pytest.mark.parametrize(
    ("width", "height", "is_read"),
    [
        (1, 100_000, True),
        (100_000, 1, True),
        (0, 4, False),
        (4, 0, False),
        (100_001, 1, False),
        (1, 100_001, False),
        (2494, masks.MAX_PIXELS // 2494, True),
        (2495, masks.MAX_PIXELS // 2494, False),
    ],
)
def test_a_picture_has_sides_and_as_many_pixels_as_can_be_read(width: int, height: int, is_read: bool) -> None:
    image = {**PAGE["images"][0], "width": width, "height": height}
    page = coco.read({**PAGE, "images": [image]}, "a.json", coco.Annotation)
    assert len(page.images) == len(page.annotations) == is_read
    reasons = [fault.reason for fault in page.faults]
    assert reasons == ([] if is_read else ["bad_record", "no_picture"])
    if width == 2495:
        assert page.faults[0].detail == f"{width}x{height} pixels are no picture's"


def test_each_record_that_is_not_taken_is_a_fault_and_is_not_among_those_taken() -> None:
    (image,), (annotation,) = PAGE["images"], PAGE["annotations"]
    others = [{**annotation, "id": 2, "image_id": 9}, {**annotation, "id": 3, "category_id": 9}]
    page = coco.read({**PAGE, "annotations": [*others, annotation]}, "a.json", coco.Annotation)
    assert [(fault.place, fault.name, fault.image_id, fault.reason) for fault in page.faults] == [
        ("annotations.0", "annotation 2", None, "no_picture"),
        ("annotations.1", "annotation 3", image["id"], "unknown_category"),
    ]
    assert {place: each.id for place, each in page.annotations.items()} == {2: 1}


def test_a_category_whose_id_has_two_names_is_none_where_nothing_is_of_it() -> None:
    categories = [*PAGE["categories"], {"id": 2, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}]
    page = coco.read({**PAGE, "categories": categories}, "a.json", coco.Annotation)
    assert [(category.id, category.name) for category in page.categories] == [(1, "disc"), (3, "c")]
    with pytest.raises(ValueError, match=r"a\.json: categories\.1: name: "):
        coco.read(
            {**PAGE, "categories": [{"id": 3, "name": "c"}, {"id": " 1 ", "name": None}]}, "a.json", coco.Annotation
        )


def test_a_picture_is_called_as_its_file_without_folder_and_last_suffix() -> None:
    image = coco.Image.model_validate({**PAGE["images"][0], "file_name": "sub\\deep/a.b.png"})
    assert (image.file_name, image.key) == ("sub/deep/a.b.png", "a.b")


def test_of_captions_those_that_are_null_are_left_out() -> None:
    records = [{"id": 1, "image_id": 1, "caption": None}, {"id": 2, "image_id": 1, "caption": ""}, {"id": 3}]
    captions, faults = coco.captions({"annotations": records}, "a.json")
    assert ([each.id for each in captions], [fault.place for fault in faults]) == ([2], ["annotations.2"])


WIDE, HIGH = 32, 24


def test_the_pieces_of_a_region_are_one_mask_of_the_pictures_shape() -> None:
    pieces = [[0, 0, 4, 0, 4, 8, 0, 8], [20, 4, 30, 4, 30, 6, 20, 6]]
    rle = coco.run_lengths(coco.Region(bbox=[0.0, 0.0, 1.0, 1.0], segmentation=pieces), HIGH, WIDE)
    assert rle is not None
    expected = np.zeros((HIGH, WIDE), bool)
    expected[0:8, 0:4] = expected[4:6, 20:30] = True
    assert np.array_equal(masks.decode(rle), expected)


@pytest.mark.parametrize("change", [-1, 1])
def test_runs_that_cover_more_or_fewer_pixels_than_the_picture_are_refused(change: int) -> None:
    whole = {"size": [HIGH, WIDE], "counts": [8, HIGH * WIDE - 8 + change]}
    with pytest.raises(ValueError, match=f"cover {HIGH * WIDE + change} of {HIGH * WIDE} pixels"):
        coco.run_lengths(coco.Region(bbox=[0.0, 0.0, 1.0, 1.0], segmentation=whole), HIGH, WIDE)


@pytest.mark.parametrize(
    ("pieces", "stray"),
    [([[5, 5], [6, 6]], 2), ([5, 5, 6, 6], 1), ([[5, 5], [6, 6], [7, 5]], 0), ([[[5, 5], [6, 6]]], 1)],
)
def test_a_piece_of_fewer_than_three_points_is_counted_once(pieces: list[object], stray: int) -> None:
    assert coco.Region(bbox=[0.0, 0.0, 1.0, 1.0], segmentation=pieces).stray == stray
