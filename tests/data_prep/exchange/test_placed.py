"""Where other tools say an instance is: numbers and edges at their limits, lists as texts, masks and names of files."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.exchange import eligen, layoutsam, placed, yolo
from data_prep.exchange.placed import MaskPicture, Polygons
from data_prep.exchange.sample import Sample
from instdiff.layouts import masks
from instdiff.schema import Layout
from instdiff.work.ledger import Ledger


@pytest.mark.parametrize("value", [(1, 2, 3), [0.5, -1, 1e300]])
def test_numbers_are_so_many_finite_ones(value: Any) -> None:
    assert placed.numbers(value, 3, "box") == tuple(map(float, value))
    for count in (2, 4):
        with pytest.raises(ValueError, match=f"box: {count} numbers are expected"):
            placed.numbers(value, count, "box")


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), -float("inf"), [1]])
def test_what_is_no_finite_number_is_named_with_its_field_wherever_it_stands(value: Any) -> None:
    for place in range(3):
        row: list[Any] = [0, 1, 2]
        row[place] = value
        with pytest.raises(ValueError, match=r"box: .* is no finite number"):
            placed.numbers(row, 3, "box")
    with pytest.raises(ValueError, match="box: 3 numbers are expected, not abc"):
        placed.numbers("abc", 3, "box")


def test_edges_reach_two_pictures_far_and_cover_something() -> None:
    assert placed.edges((-9, 0, 2, 2), "box") == (-9, 0, 2, 2)
    for place in range(4):
        row = [0.0, 0.0, 1.0, 1.0]
        row[place] = 2.001
        with pytest.raises(ValueError, match="no fractions of the picture: pixels"):
            placed.edges(row, "box")
    for wrong in ((0.5, 0, 0.5, 1), (0, 0.5, 1, 0.5), (0.6, 0, 0.5, 1), (0, 0.6, 1, 0.5)):
        with pytest.raises(ValueError, match="covers nothing"):
            placed.edges(wrong, "box")


@pytest.mark.parametrize(("tag", "turned"), [(None, False), (1, False), (4, False), (5, True), (6, True), (8, True)])
def test_a_picture_that_lies_on_its_side_is_measured_upright(tag: int | None, turned: bool) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    Image.new("RGB", (6, 2)).save(stream, "jpeg", exif=exif)
    assert placed.upright_size(stream.getvalue()) == ((2, 6) if turned else (6, 2))
    assert placed.upright_size(b"no picture") is None


@pytest.mark.parametrize(
    ("size", "fits"), [((100, 100), True), ((101, 100), True), ((50, 50), True), ((97, 100), False)]
)
def test_a_mask_picture_has_the_shape_of_the_picture_within_two_in_a_hundred(
    size: tuple[int, int], fits: bool, tmp_path: Path
) -> None:
    """The left half of a mask of any size is the left half of the picture, which is 100 pixels high and wide."""
    width, height = size
    half = np.zeros((height, width), np.uint8)
    half[:, : width // 2] = 255
    Image.fromarray(half).save(tmp_path / "m.png")
    mask = MaskPicture(str(tmp_path / "m.png"))
    if not fits:
        with pytest.raises(ValueError, match="97x100, which is not the shape of 100x100"):
            mask.at(100, 100)
        return
    mask_HW = masks.decode(mask.at(100, 100))
    assert mask_HW.shape == (100, 100)
    assert mask_HW[:, :49].all() and not mask_HW[:, 51:].any()


def test_a_polygons_numbers_are_x_and_y_in_turn() -> None:
    left_third = Polygons(((0, 0, 1 / 3, 0, 1 / 3, 1, 0, 1),)).at(10, 30)
    expected = np.zeros((10, 30), bool)
    expected[:, :10] = True
    assert np.array_equal(masks.decode(left_third), expected)
    with pytest.raises(ValueError, match="fewer than three points"):
        Polygons(((0, 0, 1, 1),)).at(10, 30)


UNREADABLE = {
    "a name": "dog",
    "cut off": "[1, 2",
    "deeper than Python calls": "-" * 5000 + "1",
    "deeper than its parser": "not " * 9000 + "1",
    "a set of lists": "{[]}",
    "a list as a key": "{[]: 1}",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_text_that_python_cannot_read_is_no_list_and_is_named_with_its_field(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^boxes: '{re.escape(text[:20])}.*' is no list$"):
        placed.listed(text, "boxes")


def test_lists_may_be_written_as_json_or_python_writes_them_and_tables_and_texts_are_none() -> None:
    for value in (["a", "b "], ("a", "b"), '["a", "b"]', "('a', ' b')"):
        assert eligen._texts(value, "words") == ["a", "b"]
    assert eligen._texts(None, "words") == eligen._texts("", "words") == []
    assert list(placed.listed("(1, 'a')", "x")) == [1, "a"]
    for wrong in ("{'a': 1}", "1", 3, {"a": 1}):
        with pytest.raises(ValueError, match="^words: a list is expected, not "):
            placed.listed(wrong, "words")
    for wrong in (["a", " "], ["a", 1], "[1]"):
        with pytest.raises(ValueError, match="^words: a list of texts is expected$"):
            eligen._texts(wrong, "words")


@pytest.mark.parametrize(
    ("side", "is_side"), [(1, True), (9, True), (0, False), (-1, False), (True, False), (1.0, False)]
)
def test_a_side_is_one_pixel_or_more(side: Any, is_side: bool) -> None:
    if is_side:
        assert layoutsam._side(side, "width") == side
    else:
        with pytest.raises(ValueError, match="width: pixels are expected"):
            layoutsam._side(side, "width")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_every_row_of_a_table_is_written_once_in_order_however_many_are_written_together(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layoutsam, "_AT_ONCE", 2)
    samples = [
        Sample(f"k{number}", b"x", "png", 4, 2, Layout(key=f"k{number}", prompt="", instances=()))
        for number in range(count)
    ]
    layoutsam.write(tmp_path, samples, Ledger())
    written = pq.ParquetFile(tmp_path / layoutsam.FILE)
    together = [written.metadata.row_group(place).num_rows for place in range(written.num_row_groups)]
    assert [rows for rows in together if rows] == [2] * (count // 2) + [1] * (count % 2)
    table = written.read()
    assert table["image_id"].to_pylist() == list(range(count))
    assert table["file_name"].to_pylist() == [f"k{number}.png" for number in range(count)]


@pytest.mark.parametrize(
    ("stem", "beside"),
    [
        ("images/a", "labels/a"),
        ("images/b/a", "labels/b/a"),
        ("x/images/a", "x/labels/a"),
        ("images/images/a", "images/labels/a"),
        ("images", "images"),  # the name of the picture
        ("x/images", "x/images"),
        ("a", "a"),
    ],
)
def test_labels_lie_below_labels_where_pictures_lie_below_images(stem: str, beside: str) -> None:
    assert yolo._beside(stem) == beside


NAMES = {0: "dog", 7: "cat"}


@pytest.mark.parametrize(
    ("line", "box", "has_mask"),
    [
        ("7 0.5 0.5 0.25 0.5", (0.375, 0.25, 0.625, 0.75), False),
        ("7 0 0 1 0 0.5 1", (0, 0, 1, 1), True),
        ("7 0.25 0 1 0 1 0.75 0.5 0.5", (0.25, 0, 1, 0.75), True),
    ],
)
def test_four_numbers_are_a_box_and_six_or_more_a_polygon(line: str, box: tuple[float, ...], has_mask: bool) -> None:
    place = yolo._place(line.split(), NAMES, "x")
    assert (place.category, place.box, place.mask is not None) == ("cat", box, has_mask)


@pytest.mark.parametrize(
    "line", ["7", "7 1 2", "7 0 0 1", "7 0 0 1 0 1", "7 0 0 1 0 1 1 0", "1 0.5 0.5 1 1", "-1 0 0 1 1"]
)
def test_a_line_of_another_number_of_numbers_or_of_no_class_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="numbers after the class|is not one of the 2 named classes"):
        yolo._place(line.split(), NAMES, "x")
