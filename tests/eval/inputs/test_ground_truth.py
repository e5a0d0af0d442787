"""What was asked for, at the size of the pictures judged: the same place in a picture of any shape, from any file."""

import json
from pathlib import Path
from typing import Any

import eval_world
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eval.inputs import coco, coco_results, ground_truth, ground_truth_files
from instdiff.files import tables
from instdiff.layouts import coco as coco_files
from instdiff.layouts import files, geometry, masks
from instdiff.layouts.columns import ANNOTATED
from instdiff.schema import Box, Instance, Layout, Point, Rle

SIDES = st.integers(1, 12)
MASKS = st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays.arrays(bool, shape))
LEAVE_FOLDER = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(MASKS, SIDES, SIDES)
def test_resizing_treats_rows_and_columns_alike(mask_HW: masks.Mask, height: int, width: int) -> None:
    there = ground_truth.resized(mask_HW, height, width)
    assert np.array_equal(ground_truth.resized(mask_HW.T, width, height), there.T)


@given(MASKS, SIDES, SIDES)
def test_a_pixel_of_a_resized_mask_is_the_one_its_middle_falls_on(mask_HW: masks.Mask, height: int, width: int) -> None:
    resized = ground_truth.resized(mask_HW, height, width)
    assert resized.shape == (height, width)
    for row, column in np.ndindex(height, width):
        old = ((2 * row + 1) * mask_HW.shape[0] // (2 * height), (2 * column + 1) * mask_HW.shape[1] // (2 * width))
        assert resized[row, column] == mask_HW[old]


@given(MASKS, st.integers(1, 4), st.integers(1, 4))
def test_a_mask_made_larger_by_whole_numbers_repeats_its_pixels(mask_HW: masks.Mask, down: int, across: int) -> None:
    height, width = mask_HW.shape
    assert np.array_equal(
        ground_truth.resized(mask_HW, height * down, width * across), mask_HW.repeat(down, 0).repeat(across, 1)
    )


@given(st.data())
def test_a_box_of_whole_pixels_of_any_picture_is_those_pixels(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 700), st.integers(1, 700)))
    x, y = data.draw(st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)))
    w, h = data.draw(st.tuples(st.integers(1, width - x), st.integers(1, height - y)))
    box = Box(*map(float, np.float32([x / width, y / height, (x + w) / width, (y + h) / height])))
    assert ground_truth.xywh(box, height, width) == pytest.approx([x, y, w, h], abs=1e-3)
    exact = Box(x / width, y / height, (x + w) / width, (y + h) / height)
    assert ground_truth.xywh(exact, height, width) == [x, y, w, h]


def _coco(**more: object) -> dict[str, Any]:
    """Two pictures of two shapes, the second with two instances, one with points, in COCO's form."""
    annotations: list[dict[str, Any]] = [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [2, 1, 4, 3], "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 6, 2], "segmentation": [[0, 0, 6, 0, 6, 2, 0, 2]]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [5, 0, 9, 2], "segmentation": [[5, 0, 14, 0, 14, 2, 5, 2]]},
    ]
    return {
        "images": [
            {"id": 7, "file_name": "wide.jpg", "width": 20, "height": 5},
            {"id": 3, "file_name": "high.jpg", "width": 6, "height": 16},
        ],
        "annotations": [annotation | more for annotation in annotations],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


def _read(folder: Path, content: dict[str, Any]) -> ground_truth.GroundTruth:
    (folder / "instances.json").write_text(json.dumps(content))
    return coco.ground_truth(folder / "instances.json")


@given(data=st.data())
@LEAVE_FOLDER
def test_stated_points_and_scribbles_come_back_as_the_same_pixels(tmp_path: Path, data: st.DataObject) -> None:
    width, height = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    pixels = data.draw(
        st.lists(st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)), min_size=1, max_size=6)
    )
    content = _coco(point=list(pixels[0]), scribble=[edge for pixel in pixels for edge in pixel])
    content["images"] = [image | {"width": width, "height": height} for image in content["images"]]
    content["annotations"] = [
        annotation | {"bbox": [0, 0, 1, 1], "segmentation": None} for annotation in content["annotations"]
    ]
    for row in _read(tmp_path, content).instances.to_dict("records"):
        for stroke, expected in (("point", pixels[:1]), ("scribble", pixels)):
            rows, columns = geometry.pixel(np.reshape(row[stroke], (-1, 2)), height, width)
            assert list(zip(columns, rows, strict=True)) == expected


def test_boxes_masks_and_middles_are_those_of_the_file_in_each_pictures_own_shape(tmp_path: Path) -> None:
    truth = _read(tmp_path, _coco())
    rows = {(row["key"], row["index"]): row for row in truth.instances.to_dict("records")}
    assert rows["wide", 0]["box"] == [2 / 20, 1 / 5, 6 / 20, 4 / 5]
    assert rows["high", 0]["box"] == [0, 0, 1, 2 / 16]
    assert rows["wide", 1]["point"] == pytest.approx([9.5 / 20, 1 / 5])
    for row in rows.values():
        height, width = (5, 20) if row["key"] == "wide" else (16, 6)
        mask = masks.decode(Rle(size=(height, width), counts=row["mask"]))
        assert masks.box_of(mask) == pytest.approx(row["box"])


@pytest.mark.parametrize("own", [True, False])
def test_a_stated_area_counts_at_the_size_it_was_stated_for_and_at_no_other(tmp_path: Path, own: bool) -> None:
    truth = _read(tmp_path, _coco(area=2.5))
    sizes = [(16, 6), (5, 20)] if own else [(32, 6), (5, 40)]  # of high and wide: by id
    annotations = ground_truth.coco_annotations(truth, sizes, ["cat", "dog"])
    assert [annotation["area"] for annotation in annotations] == ([2.5, 2.5, 2.5] if own else [24.0, 24.0, 36.0])
    unstated = ground_truth.coco_annotations(_read(tmp_path, _coco()), sizes, ["cat", "dog"])
    assert [annotation["area"] for annotation in unstated] == ([12.0, 12.0, 18.0] if own else [24.0, 24.0, 36.0])


def test_a_size_is_not_the_stated_one_when_its_sides_are_exchanged(tmp_path: Path) -> None:
    truth = _read(tmp_path, _coco(area=2.5))
    annotations = ground_truth.coco_annotations(truth, [(6, 16), (20, 5)], ["cat", "dog"])
    assert 2.5 not in [annotation["area"] for annotation in annotations]


def test_without_masks_the_area_is_that_of_the_box(tmp_path: Path) -> None:
    annotations = ground_truth.coco_annotations(
        _read(tmp_path, _coco(segmentation=None)), [(16, 6), (5, 20)], ["cat", "dog"]
    )
    assert [annotation["area"] for annotation in annotations] == [12.0, 12.0, 18.0]
    assert [annotation["bbox"] for annotation in annotations] == [[0, 0, 6, 2], [2, 1, 4, 3], [5, 0, 9, 2]]


@given(data=st.data())
@LEAVE_FOLDER
def test_the_order_of_a_coco_files_records_changes_nothing_but_instances_places_in_their_picture(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = _coco()
    turned = {name: data.draw(st.permutations(content[name])) for name in content}
    places = [[annotation["id"] for annotation in turned["annotations"]].index(number) for number in (1, 3)]
    assume(places[0] < places[1])  # a picture's instances are numbered in the file's order
    there, back = _read(tmp_path, content), _read(tmp_path, turned)
    pd.testing.assert_frame_equal(there.images, back.images)
    pd.testing.assert_frame_equal(there.instances, back.instances)
    names_and_keys = [
        coco_results.of_coco(coco_files.read(instances, "instances", coco.CocoInstance))
        for instances in (content, turned)
    ]
    assert names_and_keys[0] == names_and_keys[1] == ({5: "dog", 2: "cat"}, {7: "wide", 3: "high"})


@given(order=st.permutations(range(7)))
@LEAVE_FOLDER
def test_the_order_of_an_annotated_tables_rows_changes_nothing(tmp_path: Path, order: list[int]) -> None:
    if not (tmp_path / "real").exists():
        eval_world.write(tmp_path)
    images, annotated = tmp_path / "images.parquet", tmp_path / "annotated.parquet"
    rows = tables.read(annotated, ANNOTATED)
    tables.write(tmp_path / "turned.parquet", rows.iloc[order], ANNOTATED)
    there, back = ground_truth.load(images, annotated), ground_truth.load(images, tmp_path / "turned.parquet")
    pd.testing.assert_frame_equal(there.instances, back.instances)


def test_the_order_of_captions_chooses_the_first_of_each_picture(tmp_path: Path) -> None:
    annotations = [
        {"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate([(2, "b"), (1, "a"), (2, "c")])
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": annotations}))
    assert coco.read_captions(tmp_path / "captions.json") == {2: "b", 1: "a"}


@pytest.mark.parametrize(
    ("corner", "taken"),
    [
        *(((-20, 0), True), ((-20.1, 0), False), ((40, 0), True), ((40.1, 0), False)),
        *(((0, -5), True), ((0, -5.1), False), ((0, 10), True), ((0, 10.1), False)),
    ],
)
def test_a_polygon_may_reach_one_picture_beyond_each_side_and_no_further(
    tmp_path: Path, corner: tuple[float, float], taken: bool
) -> None:
    content = _coco()
    content["annotations"][0]["segmentation"] = [[2, 1, 6, 1, *corner]]  # of the wide picture, 20x5
    if taken:
        _read(tmp_path, content)
    else:
        with pytest.raises(
            ValueError, match=r"annotations\.0: segmentation: a polygon lies far outside the 20x5 picture"
        ):
            _read(tmp_path, content)


@pytest.mark.parametrize("side", [2, 3])
def test_a_box_without_width_is_a_box_and_one_turned_inside_out_is_not(tmp_path: Path, side: int) -> None:
    content = _coco(segmentation=None)
    content["annotations"][1]["bbox"][side] = 0
    _read(tmp_path, content)
    content["annotations"][1]["bbox"][side] = -0.01
    with pytest.raises(ValueError, match=r"annotations\.1: bbox has a negative width or height"):
        _read(tmp_path, content)


def test_a_picture_may_have_as_many_pixels_as_a_mask_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MAX_PIXELS", 100)  # the larger of the two has 20 x 5
    _read(tmp_path, _coco())
    monkeypatch.setattr(masks, "MAX_PIXELS", 99)
    with pytest.raises(ValueError, match="images.0: 20x5 pixels are no picture's"):
        _read(tmp_path, _coco())


def test_layouts_say_their_size_by_their_masks_or_are_told_it(tmp_path: Path) -> None:
    mask_HW = np.zeros((4, 9), bool)
    mask_HW[1:3, 2:7] = True
    masked = Instance(phrase="a cat", category="cat", mask=masks.encode(mask_HW))
    boxed = Instance(phrase="a dog", category="dog", box=Box(0.1, 0.2, 0.5, 0.4), scribble=(Point(0.2, 0.3),))
    files.write(tmp_path / "masked.json", [Layout(key="a", prompt="Two.", instances=(masked,))])
    files.write(tmp_path / "boxed.json", [Layout(key="a", prompt="Two.", instances=(boxed,))])
    truth = ground_truth_files.read(tmp_path / "masked.json", None, 512)
    assert truth.images[["height", "width", "caption"]].to_numpy().tolist() == [[4, 9, "Two."]]
    assert truth.instances["box"][0] == pytest.approx([2 / 9, 1 / 4, 7 / 9, 3 / 4])
    boxed_truth = ground_truth_files.read(tmp_path / "boxed.json", None, 48)
    assert boxed_truth.images[["height", "width"]].to_numpy().tolist() == [[48, 48]]
    assert boxed_truth.instances[["point", "scribble"]].to_numpy().tolist() == [[pytest.approx([0.3, 0.3]), [0.2, 0.3]]]
    with pytest.raises(ValueError, match="give its side with --size"):
        ground_truth_files.read(tmp_path / "boxed.json", None, None)


def test_masks_of_two_sizes_in_a_layout_are_refused(tmp_path: Path) -> None:
    masked = [
        Instance(phrase="a", category="a", mask=masks.encode(np.ones(size, bool))) for size in ((4, 9), (9, 4), (4, 9))
    ]
    for chosen, fits in (((0, 2), True), ((0, 1), False)):
        instances = tuple(masked[place] for place in chosen)
        files.write(tmp_path / "layouts.json", [Layout(key="a", prompt="", instances=instances)])
        if fits:
            assert len(ground_truth_files.read(tmp_path / "layouts.json", None, None).instances) == 2
        else:
            with pytest.raises(ValueError, match=r"masks are of different sizes: \(4, 9\), \(9, 4\)"):
                ground_truth_files.read(tmp_path / "layouts.json", None, None)
