"""COCO's records: what Python takes for a number is no number."""

from typing import Any

import pytest

from instdiff.layouts import coco

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
