import numpy as np
from hypothesis import given
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


@given(boxes, size, size)
def test_a_box_touches_at_least_one_pixel_of_the_picture(box: Box, height: int, width: int) -> None:
    for touched, length in ((geometry.rows(box, height), height), (geometry.columns(box, width), width)):
        assert 0 <= touched.start < touched.stop <= length


@given(boxes, size, size)
def test_pixels_and_back(box: Box, height: int, width: int) -> None:
    back = geometry.from_pixels(*geometry.in_pixels(box, height, width), height=height, width=width)
    assert np.allclose(back, box, atol=1e-12)


@given(boxes)
def test_a_mirror_image_of_a_mirror_image_is_the_box(box: Box) -> None:
    mirrored = geometry.mirror(box)
    assert np.allclose(geometry.mirror(mirrored), box)
    assert np.isclose(mirrored.area, box.area)
    corners = geometry.mirror_points(np.array([[box.x0, box.y0], [box.x1, box.y1]]))
    assert corners[:, 0].tolist() == [mirrored.x1, mirrored.x0]


@given(boxes, boxes)
def test_overlap_is_symmetric_and_at_most_one(one: Box, other: Box) -> None:
    assert 0 <= geometry.iou(one, other) == geometry.iou(other, one) <= 1 + 1e-9


def test_overlap_by_hand() -> None:
    assert geometry.iou(Box(0, 0, 0.5, 1), Box(0.25, 0, 0.75, 1)) == 1 / 3
    assert geometry.iou(Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)) == 0
    assert geometry.iou(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    assert geometry.clamp(Box(-0.5, 0.25, 1.5, 0.75)) == Box(0, 0.25, 1, 0.75)
    assert geometry.clamp(Box(1.2, 0, 1.5, 1)).area == 0


@given(size, size, st.data())
def test_a_crop_is_the_pixels_of_a_whole_box_even_as_float32(height: int, width: int, data: st.DataObject) -> None:
    height, width = min(height, 200), min(width, 200)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    edges = np.array([left / width, top / height, right / width, bottom / height], dtype=np.float32)
    picture = np.arange(height * width, dtype=np.int64).reshape(height, width, 1)
    cut = geometry.crop(picture, Box(*map(float, edges)))
    assert np.array_equal(cut, picture[top:bottom, left:right])
