import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instdiff.layouts import geometry
from instdiff.schema import Box

edge = st.floats(0, 1)
boxes = st.builds(lambda x, y: Box(min(x), min(y), max(x), max(y)), st.tuples(edge, edge), st.tuples(edge, edge))
size = st.integers(1, 4000)


@given(size, st.data())
def test_a_pixel_divided_by_the_size_is_found_again_even_as_float32(width: int, data: st.DataObject) -> None:
    column = data.draw(st.integers(0, width - 1))
    fraction = np.array([[column / width, 0.0]], dtype=np.float32).astype(np.float64)
    assert geometry.pixel(fraction, 1, width)[1].tolist() == [column]


def test_rows_are_y_and_columns_are_x() -> None:
    rows, columns = geometry.pixel(np.array([[0.0, 1.0], [0.75, 0.25]]), height=4, width=8)
    assert rows.tolist() == [3, 1]
    assert columns.tolist() == [0, 6]
    box = Box(0.25, 0.5, 0.5, 1.0)
    assert (geometry.rows(box, 4), geometry.columns(box, 8)) == (slice(2, 4), slice(2, 4))


def kept(*edges: float) -> Box:
    """As tables and tensors of float32 keep it."""
    return Box(*(float(np.float32(edge)) for edge in edges))


@pytest.mark.parametrize("width", [33, 100, 512, 640])
def test_a_box_of_whole_pixels_touches_exactly_those_in_every_usual_width(width: int) -> None:
    for first in range(width):
        for last in (first, (first + width) // 2, width - 1):
            box = kept(first / width, 0, (last + 1) / width, 1)
            assert geometry.columns(box, width) == slice(first, last + 1)
            assert geometry.rows(Box(box.y0, box.x0, box.y1, box.x1), width) == slice(first, last + 1)


@given(size, size, st.data())
@example(33, 100, None)
def test_a_box_of_whole_pixels_touches_exactly_those(height: int, width: int, data: st.DataObject | None) -> None:
    def pixels(length: int) -> tuple[int, int]:
        if data is None:
            return length // 3, length // 2
        first = data.draw(st.integers(0, length - 1))
        return first, data.draw(st.integers(first + 1, length))

    (top, bottom), (left, right) = pixels(height), pixels(width)
    box = kept(left / width, top / height, right / width, bottom / height)
    assert (geometry.rows(box, height), geometry.columns(box, width)) == (slice(top, bottom), slice(left, right))


@pytest.mark.parametrize(
    ("beyond", "touched"),  # of a pixel, on either side of pixels 3 and 4
    [(-0.99, slice(3, 5)), (-0.002, slice(3, 5)), (-0.0005, slice(3, 5)), (0, slice(3, 5)), (0.0005, slice(3, 5)),
     (0.002, slice(2, 6)), (0.999, slice(2, 6)), (1.0005, slice(2, 6)), (1.002, slice(1, 7))],
)  # fmt: skip
def test_a_part_of_a_pixel_is_touched_unless_rounding_made_it(beyond: float, touched: slice) -> None:
    edges = (3 - beyond) / 10, (5 + beyond) / 10
    assert geometry.columns(Box(edges[0], 0, edges[1], 1), 10) == touched
    assert geometry.rows(Box(0, edges[0], 1, edges[1]), 10) == touched


@given(st.floats(-2, 3), st.floats(-2, 3), size)
def test_what_a_box_touches_begins_at_its_first_edge_and_ends_at_its_last(
    end: float, other_end: float, width: int
) -> None:
    start, stop = min(end, other_end), max(end, other_end)
    touched = geometry.columns(Box(start, 0, stop, 1), width)
    assert 0 <= touched.start < touched.stop <= width
    if 0 <= start < 1:
        assert touched.start <= start * width + 1e-3 < touched.start + 1
    if 0 < stop <= 1 and stop * width > touched.start + 1:
        assert touched.stop - 1 < stop * width - 1e-3 + 1e-9 and stop * width - 1e-3 <= touched.stop
    assert touched.stop - touched.start <= max(1, math.ceil((stop - start) * width) + 1)


@given(boxes, size, size)
def test_a_box_touches_at_least_one_pixel_of_the_picture(box: Box, height: int, width: int) -> None:
    for touched, length in ((geometry.rows(box, height), height), (geometry.columns(box, width), width)):
        assert 0 <= touched.start < touched.stop <= length


@given(size, size, st.data())
def test_a_box_of_whole_pixels_has_their_number_even_as_float32_and_half_a_pixel_more_none_more(
    height: int, width: int, data: st.DataObject
) -> None:
    (left, right), (top, bottom) = (sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in (width, height))
    edges = np.float32([left / width, top / height, right / width, bottom / height])
    for box in (geometry.from_pixels(left, top, right, bottom, height=height, width=width), Box(*map(float, edges))):
        assert geometry.sides(box, height, width) == (bottom - top, right - left)
    half = geometry.from_pixels(left, top, right + 0.5, bottom + 0.5, height=height, width=width)
    assert geometry.sides(half, height, width) == (bottom - top, right - left)


@given(boxes, size, size)
def test_pixels_and_back(box: Box, height: int, width: int) -> None:
    back = geometry.from_pixels(*geometry.in_pixels(box, height, width), height=height, width=width)
    assert np.allclose(back, box, atol=1e-12)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_at_most_one(box: Box, other: Box) -> None:
    assert 0 <= geometry.iou(box, other) == geometry.iou(other, box) <= 1 + 1e-9


def test_overlap_by_hand() -> None:
    assert geometry.iou(Box(0, 0, 0.5, 1), Box(0.25, 0, 0.75, 1)) == 1 / 3
    assert geometry.iou(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)) == 0
    assert geometry.iou(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    assert geometry.clamp(Box(-0.5, 0.25, 1.5, 0.75)) == Box(0, 0.25, 1, 0.75)
    assert geometry.clamp(Box(1.2, 0, 1.5, 1)).area == 0


@given(boxes, boxes)
def test_what_two_boxes_share_lies_in_both(box: Box, other: Box) -> None:
    shared = geometry.intersection(box, other)
    assert shared == geometry.intersection(other, box)
    assert shared.area <= min(box.area, other.area)
    if shared.area > 0:
        assert max(box.x0, other.x0) == shared.x0 < shared.x1 == min(box.x1, other.x1)
        assert max(box.y0, other.y0) == shared.y0 < shared.y1 == min(box.y1, other.y1)


def test_pixels_of_a_wide_picture_are_left_top_right_bottom() -> None:
    assert geometry.in_pixels(Box(0.25, 0.5, 0.5, 1.0), height=4, width=8) == (2, 2, 4, 4)
    assert geometry.from_pixels(2, 2, 4, 4, height=4, width=8) == Box(0.25, 0.5, 0.5, 1.0)
    assert Box(0.25, 0.5, 0.75, 0.75).centre == (0.5, 0.625)
    assert Box(0.25, 0.5, 0.75, 0.75).area == 0.125


@given(size, size, st.data())
def test_a_crop_is_the_pixels_of_a_whole_box_even_as_float32(height: int, width: int, data: st.DataObject) -> None:
    height, width = min(height, 200), min(width, 200)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    edges = np.array([left / width, top / height, right / width, bottom / height], dtype=np.float32)
    picture = np.arange(height * width, dtype=np.int64).reshape(height, width, 1)
    cut = geometry.crop(picture, Box(*map(float, edges)))
    assert np.array_equal(cut, picture[top:bottom, left:right])
