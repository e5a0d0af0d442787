"""The sheet of samples: every picture in its place, every box at its own pixels, every phrase in its box's colour."""

import numpy as np
from PIL import Image

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


def test_a_box_stands_at_its_own_pixels_in_the_colour_of_its_phrase() -> None:
    panel = np.asarray(boxes(SINGLE, SIDE))
    rows, columns = np.nonzero((panel != PANEL).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 4, 15)
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
