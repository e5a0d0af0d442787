"""What a layout is completed to: formats that follow from others, arrays of the model's sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instdiff.layouts import masks
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import Slots
from instdiff.schema import Box, Instance, Layout, Point, Rle

SLOTS = Slots(max_instances=3, mask_size=8, num_scribble_points=4, num_outline_points=6)
fraction = st.floats(-0.5, 1.5, allow_nan=False)


def numbers(instance: Instance, slots: Slots = SLOTS) -> dict[str, np.ndarray]:
    (only,) = complete(Layout(key="k", prompt="", instances=(instance,)), slots).instances
    return dict(only.numbers)


def rectangle(rows: slice, columns: slice, size: tuple[int, int] = (12, 20)) -> Rle:
    mask = np.zeros(size, dtype=bool)
    mask[rows, columns] = True
    return masks.encode(mask)


@given(fraction, fraction, fraction, fraction)
def test_a_box_is_given_exactly_when_some_of_it_can_be_seen(x0: float, y0: float, x1: float, y1: float) -> None:
    across, down = min(x1, 1) - max(x0, 0), min(y1, 1) - max(y0, 0)
    by_format = numbers(Instance(phrase="a", box=Box(x0, y0, x1, y1)))
    assert ("box" in by_format) == (across > 0 and down > 0 and across * down > 0)
    assert ("point" in by_format) == ("box" in by_format)


@pytest.mark.parametrize("side", [1e-3, 1e-6])
def test_a_box_however_small_is_given(side: float) -> None:
    by_format = numbers(Instance(phrase="a", box=Box(0.5, 0.25, 0.5 + side, 0.25 + side)))
    assert np.allclose(by_format["box"], [0.5, 0.25, 0.5 + side, 0.25 + side], atol=1e-7)


def test_an_outline_of_no_points_is_that_of_the_mask() -> None:
    mask = rectangle(slice(2, 9), slice(3, 15))
    bare, empty = (Instance(phrase="a", mask=mask, outline=outline) for outline in (None, ()))
    assert np.array_equal(numbers(bare)["outline"], numbers(empty)["outline"])


def test_formats_without_points_are_not_given() -> None:
    assert numbers(Instance(phrase="a", scribble=(), outline=())) == {}


def test_a_stated_box_and_point_stand_whatever_the_mask_is() -> None:
    mask = rectangle(slice(2, 9), slice(3, 15))
    by_format = numbers(Instance(phrase="a", mask=mask, box=Box(0, 0, 0.5, 0.25), point=Point(0.75, 1)))
    assert by_format["box"].tolist() == [0, 0, 0.5, 0.25]
    assert by_format["point"].tolist() == [0.75, 1]


def test_a_box_taken_from_a_mask_that_is_not_square_is_in_fractions_of_its_sides() -> None:
    by_format = numbers(Instance(phrase="a", mask=rectangle(slice(3, 9), slice(5, 15))))
    assert np.allclose(by_format["box"], [5 / 20, 3 / 12, 15 / 20, 9 / 12])
    assert np.allclose(by_format["point"], [0.5, 0.5])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_scribble_has_as_many_points_as_the_model_reads(count: int) -> None:
    points = tuple(Point(0.1 * number, 0.05 * number) for number in range(count))
    assert numbers(Instance(phrase="a", scribble=points))["scribble"].shape == (2 * SLOTS.num_scribble_points,)


def test_a_scribble_of_exactly_the_models_points_keeps_their_order() -> None:
    points = tuple(Point(x, 0.5) for x in (0.9, 0.1, 0.7, 0.3))
    assert np.allclose(numbers(Instance(phrase="a", scribble=points))["scribble"], np.ravel(points))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_as_many_instances_as_slots_and_no_more(count: int) -> None:
    layout = Layout(key="many", prompt="", instances=(Instance(phrase="a"),) * count)
    if count > SLOTS.max_instances:
        with pytest.raises(ValueError, match="many: 4 instances, but the model has slots for 3"):
            complete(layout, SLOTS)
    else:
        assert len(complete(layout, SLOTS).instances) == count


def test_a_format_without_numbers_in_the_model_is_left_out() -> None:
    bare = SLOTS.model_copy(update={"num_scribble_points": 0, "num_outline_points": 0})
    by_format = numbers(Instance(phrase="a", scribble=(Point(0, 0),), mask=rectangle(slice(2, 9), slice(3, 15))), bare)
    assert by_format.keys() == {"box", "point", "mask"}


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3))
def test_each_pixel_of_the_models_square_is_that_at_its_upper_left_corner(height: int, width: int, times: int) -> None:
    mask = np.random.default_rng(height * 21 + width).random((height, width)) < 0.5
    mask[0, 0] = True  # an empty mask is none
    side = 8 * times
    slots = SLOTS.model_copy(update={"mask_size": side})
    square = numbers(Instance(phrase="a", mask=masks.encode(mask)), slots)["mask"]
    for row, column in np.ndindex(side, side):
        assert square[row, column] == mask[row * height // side, column * width // side]


def test_equal_masks_too_small_for_an_outline_are_drawn_by_layout_and_slot() -> None:
    tiny = Instance(phrase="a", mask=rectangle(slice(2, 4), slice(3, 5)))

    def outlines(key: str) -> list[list[float]]:
        whole = complete(Layout(key=key, prompt="", instances=(tiny,) * 3), SLOTS.model_copy(update=MANY))
        return [instance.numbers["outline"].tolist() for instance in whole.instances]

    all_outlines = [*outlines("k"), *outlines("l")]
    assert len({tuple(outline) for outline in all_outlines}) == 6
    assert outlines("k") == all_outlines[:3]


MANY = {"num_outline_points": 32}
