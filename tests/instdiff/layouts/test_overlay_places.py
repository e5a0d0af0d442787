"""The overlay: where an instance begins, how thick its frame is, and that no two near instances look alike."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

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


def test_colours_begin_with_red_and_go_on_by_the_golden_section_of_the_circle() -> None:
    assert overlay.colour(0) == (255, 51, 51)
    sixths = 6 * 0.618034  # of the circle: between cyan and blue, whose green falls
    assert overlay.colour(1) == (51, round(255 * (1 - 0.8 * (sixths - 3))), 255)


def inked(size: tuple[int, int], **place: Any) -> Any:
    """Which pixels of a black picture are not black any more, (height, width, 3)."""
    layout = Layout(key="a", prompt="", instances=(Instance(phrase="", **place),))
    return np.asarray(overlay.overlay(Image.new("RGB", size), layout))


def at(size: tuple[int, int], x: int, y: int) -> Point:
    """A place well within a pixel of a picture."""
    return Point((x + 0.25) / (size[0] - 1), (y + 0.25) / (size[1] - 1))


@pytest.mark.parametrize(("size", "thick"), [((512, 512), 2), ((1024, 512), 2), ((600, 1024), 4), ((520, 100), 1)])
def test_lines_and_dots_are_as_thick_as_the_picture_is_high(size: tuple[int, int], thick: int) -> None:
    width, height = size
    left, right, middle = width // 4, width // 2, height // 2
    corners = (*at(size, left, height // 4), *at(size, right, 3 * height // 4))
    frame = np.flatnonzero(inked(size, box=Box(*corners))[middle].any(-1)).tolist()
    assert frame == [*range(left, left + thick), *range(right - thick + 1, right + 1)]
    dots = {"point": at(size, left, middle), "scribble": (at(size, left, middle),)}
    for name, radius in (("point", 3 * thick), ("scribble", thick)):
        dot = np.flatnonzero(inked(size, **{name: dots[name]})[middle].any(-1)).tolist()
        assert dot == list(range(left - radius, left + radius + 1)), name


@pytest.mark.parametrize(("size", "shown"), [((512, 9), (512, 9)), ((511, 9), (1022, 18)), ((100, 170), (400, 680))])
def test_a_picture_below_the_least_side_is_enlarged_by_a_whole_factor(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    larger = overlay.overlay(picture, Layout(key="a", prompt="", instances=()))
    assert larger.size == shown
    factor = shown[0] // size[0]
    assert np.array_equal(np.asarray(larger), np.asarray(picture).repeat(factor, 0).repeat(factor, 1))


def test_a_mask_is_covered_by_a_third_of_its_colour() -> None:
    corner = masks.encode(np.array([[True, False], [False, False]]))
    shown = inked((512, 512), mask=corner)
    assert shown[255, 255].tolist() == pytest.approx([0.35 * 255, 0.35 * 51, 0.35 * 51], abs=1)
    assert not shown[256:].any() and not shown[:, 256:].any()


def frames(*instances: Instance, size: tuple[int, int] = (512, 512)) -> list[overlay.Frame]:
    """Where the phrases stand: left, top, right, bottom."""
    occupied: list[overlay.Frame] = []
    for instance in instances:
        overlay._word(ImageDraw.Draw(Image.new("RGB", size)), size, instance, (255, 0, 0), occupied)
    return occupied


@pytest.mark.parametrize(
    ("place", "corner"),
    [
        ({"box": Box(0.25, 0.25, 1, 1)}, (131, 129)),
        ({"mask": TALL}, (131, 103)),
        ({"point": Point(0.25, 0.25)}, (131, 138)),
        ({}, (3, 10)),
    ],
)
def test_a_phrase_stands_right_below_a_corner_and_farther_below_a_point(
    place: dict[str, Any], corner: tuple[int, int]
) -> None:
    ((left, top, right, bottom),) = frames(Instance(phrase="a", **place))
    assert (left, top) == corner
    assert 0 < right - left < bottom - top < 40


@pytest.mark.parametrize("size", [(512, 512), (512, 64), (1024, 512)])
def test_a_phrase_ends_with_the_picture_and_has_forty_letters_that_can_be_shown(size: tuple[int, int]) -> None:
    ((_, _, right, bottom),) = frames(Instance(phrase="a", point=Point(1, 1)), size=size)
    assert (right, bottom) == size
    assert frames(Instance(phrase="a" * 41), size=size) == frames(Instance(phrase="a" * 40), size=size)
    assert frames(Instance(phrase="\u0436"), size=size) == frames(Instance(phrase="?"), size=size)
    assert frames(Instance(phrase="")) == []
    ((left, *_),) = frames(Instance(phrase="m" * 40, point=Point(0.9, 0)), size=(64, 512))
    assert left == 0


def test_phrases_at_one_place_stand_below_each_other_as_long_as_there_is_room() -> None:
    ((_, top, _, bottom),) = frames(Instance(phrase="a"))
    high = bottom - top
    for rows in (2, 3):
        begin = Box(0.25, (511 - rows * high) / 511, 1, 1)
        tops = [frame[1] for frame in frames(*[Instance(phrase="a", box=begin)] * (rows + 1))]
        assert tops == [512 - (rows - row) * high for row in (*range(rows), rows - 1)]
    beside = [Instance(phrase="a", box=Box(x, 0.5, 1, 1)) for x in (0.25, 0.75)]
    assert len({frame[1] for frame in frames(*beside)}) == 1
