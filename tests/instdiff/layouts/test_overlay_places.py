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


def test_instances_near_each_other_have_colours_far_apart() -> None:
    colours = np.array([overlay.colour(number) for number in range(30)])
    for number, other in combinations(range(30), 2):
        if abs(number - other) <= 4:
            assert np.abs(colours[number] - colours[other]).max() > 60
    assert (colours.max(1) == 255).all()


def test_a_point_is_a_dot_of_its_colour_with_a_black_rim_of_a_pixel() -> None:
    layout = Layout(key="a", prompt="", instances=(Instance(phrase="", point=Point(0.5, 0.5)),))
    canvas = np.asarray(overlay.overlay(Image.new("RGB", (512, 512), "white"), layout))
    colours, counts = np.unique(canvas.reshape(-1, 3), axis=0, return_counts=True)
    seen = dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))
    assert seen.keys() == {(255, 255, 255), (0, 0, 0), overlay.colour(0)}
    rows = np.flatnonzero((canvas != 255).any((1, 2)))
    inner = np.flatnonzero((canvas == overlay.colour(0)).all(2).any(1))
    assert (rows[0], rows[-1]) == (inner[0] - 1, inner[-1] + 1)
