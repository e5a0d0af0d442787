"""The sheet of samples: every picture in its place, every box at its own pixels, every phrase in its box's colour."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from eval.pages import sheet as sheets
from eval.pages.sheet import LABEL, LINE, MARGIN, PANEL, boxes, sheet
from instdiff.layouts import overlay
from instdiff.schema import Box, Instance, Layout

SIDE, STEP = 16, 16 + MARGIN
PLAIN = [np.full((8, 24, 3), level, np.uint8) for level in range(4)]
SINGLE = Layout(key="one", prompt="", instances=(Instance(phrase="a", box=Box(0.25, 0.5, 1.0, 0.75)),))
THREE = Layout(key="three", prompt="", instances=tuple(Instance(phrase=f"number {n}") for n in range(3)))


def _cut(image: Image.Image, across: int, down: int) -> np.ndarray:
    """The picture in a column and a row, of sheets whose longest layout is THREE."""
    left, top = LABEL + across * STEP, MARGIN + 3 * LINE + down * STEP
    return np.asarray(image)[top : top + SIDE, left : left + SIDE]


def test_each_picture_stands_in_the_column_of_its_layout_and_the_line_of_its_row() -> None:
    image = sheet({"real": PLAIN[:2], "box": PLAIN[2:]}, [SINGLE, THREE], SIDE)
    assert image.size == (LABEL + 2 * STEP, MARGIN + 3 * LINE + 3 * STEP)
    levels = [[_cut(image, across, down)[..., 0] for across in (0, 1)] for down in (1, 2)]
    assert [[np.unique(part).tolist() for part in row] for row in levels] == [[[0], [1]], [[2], [3]]]


def test_the_line_above_shows_the_layouts_boxes_and_no_picture() -> None:
    image = sheet({"real": PLAIN[:2]}, [SINGLE, THREE], SIDE)
    assert np.array_equal(_cut(image, 0, 0)[..., :3], np.asarray(boxes(SINGLE, SIDE)))
    assert np.array_equal(_cut(image, 1, 0)[..., :3], np.full((SIDE, SIDE, 3), PANEL))


@pytest.mark.parametrize(("right", "last"), [(1.0, 15), (0.75, 11)])
def test_a_box_stands_at_its_own_pixels_in_the_colour_of_its_phrase(right: float, last: int) -> None:
    placed = Instance(phrase="a", box=Box(0.25, 0.5, right, 0.75))
    panel = np.asarray(boxes(SINGLE.model_copy(update={"instances": (placed,)}), SIDE))
    rows, columns = np.nonzero((panel != PANEL).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 4, last)
    assert panel[8, 4].tolist() == list(overlay.colour(0))
    assert panel[9, 5].tolist() == list(PANEL)


def test_phrases_stand_above_their_layout_the_last_nearest() -> None:
    words = np.asarray(sheet({}, [SINGLE, THREE], SIDE))[: 3 * LINE]
    lines = [
        [tuple(words[line * LINE + LINE // 2, LABEL + across * STEP, :3]) for line in range(3)] for across in (0, 1)
    ]
    assert lines[0] == [(0, 0, 0), (0, 0, 0), overlay.colour(0)]
    assert lines[1] == [overlay.colour(number) for number in range(3)]


def test_a_phrase_too_long_for_its_column_ends_in_an_ellipsis_within_it() -> None:
    wordy = Layout(key="wordy", prompt="", instances=(Instance(phrase="word " * 40),))
    image = np.asarray(sheet({}, [wordy, SINGLE], 64))
    between = image[:LINE, LABEL + 64 : LABEL + 64 + MARGIN]
    assert between[..., 3].max() == 0


def test_words_stand_in_the_middle_of_what_they_name_and_phrases_behind_a_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hand, for pictures of 64 pixels: margins 6, names 92 wide, lines 20 high, so pictures begin at 92, 66."""
    texts: list[tuple[tuple[float, float], str]] = []
    squares: list[tuple[list[float], object]] = []
    widths: set[int] = set()

    class Pen:
        def text(self, place: tuple[float, float], words: str, *, fill: object, font: Any, anchor: str) -> None:
            assert (fill, font.size, anchor) == ((125, 125, 125, 255), 15, "lm")
            texts.append((place, words))

        def rectangle(self, edges: list[float], *, fill: object) -> None:
            squares.append((edges, fill))

    def fitting(_: Pen, words: str, width: int, __: object) -> str:
        widths.add(width)
        return words

    monkeypatch.setattr(sheets, "ImageDraw", SimpleNamespace(Draw=lambda _: Pen(), ImageDraw=ImageDraw.ImageDraw))
    monkeypatch.setattr(sheets, "boxes", lambda layout, side: Image.new("RGB", (side, side)))
    monkeypatch.setattr(sheets, "_fitting", fitting)
    image = sheet({"real": PLAIN[:2], "box": PLAIN[:2]}, [SINGLE, THREE], 64)
    assert image.size == (92 + 2 * 70, 66 + 3 * 70) and image.getpixel((0, 0)) == (0, 0, 0, 0)
    assert texts == [
        ((6, 98), "layout"), ((6, 168), "real"), ((6, 238), "box"),
        ((106, 50), "a"), ((176, 10), "number 0"), ((176, 30), "number 1"), ((176, 50), "number 2"),
    ]  # fmt: skip
    assert squares == [
        ([left, middle - 5, left + 9, middle + 4], overlay.colour(number))
        for left, middle, number in ((92, 50, 0), (162, 10, 0), (162, 30, 1), (162, 50, 2))
    ]
    assert widths == {64 - 14}


@pytest.mark.parametrize(("side", "pixels"), [(16, 1), (64, 1), (127, 1), (128, 2), (192, 3)])
def test_the_line_of_a_box_is_a_sixty_fourth_of_the_side_and_one_pixel_at_least(side: int, pixels: int) -> None:
    column = (np.asarray(boxes(SINGLE, side))[:, side * 5 // 8] != PANEL).any(-1)  # through the middle of the box
    assert column.sum() == 2 * pixels


@pytest.mark.parametrize(
    ("width", "fitted"), [(6, "ab cde"), (5, "ab cd…"), (4, "ab c…"), (3, "ab…"), (2, "ab…"), (1, "a…"), (0, "")]
)
def test_as_many_letters_stand_before_an_ellipsis_as_fit(width: int, fitted: str) -> None:
    pen: Any = SimpleNamespace(textlength=lambda words, font: len(words.removesuffix("…")))
    font: Any = None
    assert sheets._fitting(pen, "ab cde", width, font) == fitted
