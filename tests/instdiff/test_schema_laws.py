"""Types that cross stage borders refuse what is none of theirs, and say how large a box is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from instdiff.layouts.formats import BY_NAME, FORMATS, LOCATED, RELEASED, Slots, points_of
from instdiff.schema import Box, Instance, Layout, Point

edge = st.floats(-2, 2, allow_nan=False)


@given(edge, edge, edge, edge)
def test_a_box_turned_inside_out_has_no_area(x0: float, y0: float, x1: float, y1: float) -> None:
    box = Box(x0, y0, x1, y1)
    assert box.area == ((x1 - x0) * (y1 - y0) if x1 > x0 and y1 > y0 else 0)
    assert box.centre == ((x0 + x1) / 2, (y0 + y1) / 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "", "prompt": "p", "instances": []},
        {"key": "k", "instances": []},
        {"key": "k", "prompt": "p"},
        {"key": "k", "prompt": "p", "instances": [], "width": 3},
        {"key": "k", "prompt": "p", "instances": [{"phrase": "a", "size": 1}]},
        {"key": "k", "prompt": "p", "instances": [{}]},
        {"key": "k", "prompt": "p", "instances": [{"phrase": "a", "box": [0, 0, 1]}]},
        {"key": "k", "prompt": "p", "instances": [{"phrase": "a", "box": [0, 0, 1, float("nan")]}]},
        {"key": "k", "prompt": "p", "instances": [{"phrase": "a", "point": [0, float("inf")]}]},
        {"key": "k", "prompt": "p", "instances": [{"phrase": "a", "scribble": [[0, 0, 0]]}]},
    ],
)
def test_what_is_no_layout_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Layout.model_validate(wrong)


def test_a_layout_cannot_be_changed_in_place() -> None:
    layout = Layout(key="k", prompt="p", instances=())
    with pytest.raises(ValidationError):
        layout.prompt = "q"  # type: ignore[misc]


A, B = Point(0.1, 0.2), Point(0.3, 0.4)


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ({}, "point", ()),
        ({"point": A}, "point", (A,)),
        ({"point": Point(0, 0)}, "point", (Point(0, 0),)),
        ({}, "scribble", ()),
        ({"scribble": ()}, "scribble", ()),
        ({"scribble": (A, B)}, "scribble", (A, B)),
        ({"outline": (B,), "scribble": (A,)}, "outline", (B,)),
    ],
)
def test_the_points_of_a_format_are_its_own(place: dict[str, Any], name: str, expected: tuple[Point, ...]) -> None:
    assert points_of(Instance(phrase="a", **place), BY_NAME[name]) == expected  # type: ignore[index]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_shapes_are_those_of_the_slots_and_a_format_without_numbers_has_no_token(
    scribble: int, outline: int, side: int
) -> None:
    slots = Slots(max_instances=1, mask_size=side, num_scribble_points=scribble, num_outline_points=outline)
    shapes = {name: BY_NAME[name].shape(slots) for name in FORMATS}
    assert shapes == {
        "box": (4,),
        "point": (2,),
        "scribble": (2 * scribble,),
        "outline": (2 * outline,),
        "mask": (side, side),
    }
    assert slots.located == tuple(
        name for name in LOCATED if {"scribble": scribble, "outline": outline}.get(name, 1) > 0
    )


def test_the_released_model_has_a_token_of_every_located_format() -> None:
    assert RELEASED.located == ("box", "point", "scribble", "outline")
