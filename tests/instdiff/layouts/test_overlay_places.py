"""The overlay: where an instance begins, how thick its frame is, and that no two near instances look alike."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instdiff.layouts import masks, overlay
from instdiff.schema import Box, Instance, Layout, Point


def mask(rows: slice, columns: slice) -> Any:
    inside = np.zeros((10, 20), dtype=bool)
    inside[rows, columns] = True
    return masks.encode(inside)


TALL = mask(slice(2, 8), slice(5, 9))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({}, (0, 0)),
        ({"scribble": (Point(0.3, 0.4), Point(0.1, 0.1))}, (0.3, 0.4)),
        ({"scribble": ()}, (0, 0)),
        ({"point": Point(0.5, 0.6), "scribble": (Point(0.3, 0.4),)}, (0.5, 0.6)),
        ({"mask": TALL, "point": Point(0.5, 0.6)}, (0.25, 0.2)),
        ({"mask": mask(slice(0, 0), slice(0, 0)), "point": Point(0.5, 0.6)}, (0.5, 0.6)),
        ({"box": Box(0.1, 0.2, 0.3, 0.4), "mask": TALL}, (0.1, 0.2)),
        ({"box": Box(-0.5, -0.25, 0.3, 0.4)}, (0, 0)),
        ({"box": Box(1.5, 0, 2, 1), "point": Point(0.5, 0.6)}, (0.5, 0.6)),
    ],
)
def test_an_instance_begins_at_its_box_or_mask_then_its_point_then_its_scribble(
    place: dict[str, Any], expected: tuple[float, float]
) -> None:
    assert overlay.start(Instance(phrase="a", **place)) == pytest.approx(expected)


@pytest.mark.parametrize(("size", "thick"), [((64, 128), 1), ((300, 511), 1), ((300, 512), 2), ((128, 1024), 4)])
def test_a_frame_is_as_thick_as_the_picture_is_high(size: tuple[int, int], thick: int) -> None:
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="", box=Box(0.25, 0.25, 0.75, 0.75)),))
    drawn = np.asarray(overlay.overlay(Image.new("RGB", size), layout))
    column = drawn[:, size[0] // 2]
    framed = np.flatnonzero((column == overlay.colour(0)).all(1))
    assert len(framed) == 2 * thick
    assert abs(framed[0] - 0.25 * size[1]) <= 1 and abs(framed[-1] - 0.75 * size[1]) <= 2


def test_instances_near_each_other_have_colours_far_apart() -> None:
    colours = np.array([overlay.colour(number) for number in range(30)])
    for one, other in combinations(range(30), 2):
        if abs(one - other) <= 4:
            assert np.abs(colours[one] - colours[other]).max() > 60
    assert (colours.max(1) == 255).all()


def test_a_picture_is_left_as_it_was_and_its_copy_is_in_colour() -> None:
    picture = Image.new("L", (20, 10), 128)
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="a", mask=TALL),))
    drawn = overlay.overlay(picture, layout)
    assert (picture.mode, drawn.mode, drawn.size) == ("L", "RGB", (20, 10))
    assert set(np.asarray(picture).ravel()) == {128}
    inside = np.asarray(drawn)[7, 6]
    expected = [128 + 0.35 * (level - 128) for level in overlay.colour(0)]
    assert np.abs(inside - expected).max() <= 2
