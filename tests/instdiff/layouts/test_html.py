"""What a page shows of a layout: shapes at fractions of the picture, pictures as they are or made smaller."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from instdiff.layouts import html, masks
from instdiff.schema import Box, Instance, Point

MASK = np.zeros((4, 8), dtype=bool)
MASK[1:2, 2:6] = True
WHOLE = Instance(
    phrase="a",
    box=Box(0.25, 0.125, 0.75, 0.25),
    point=Point(0.5, 0.12345),
    scribble=(Point(0.1, 0.2), Point(1, 0)),
    mask=masks.encode(MASK),
)


def test_each_format_of_an_instance_is_drawn_in_its_group_at_its_fractions() -> None:
    groups = dict(re.findall(r'<g class="(\w+)">(.*?)</g>', html.overlay([Instance(phrase="b"), WHOLE])))
    assert list(groups) == ["boxes", "masks", "points", "scribbles"]
    assert groups["boxes"] == '<rect x="0.25" y="0.125" width="0.5" height="0.125"/>'
    assert groups["points"] == '<circle cx="0.5" cy="0.1235" r="0.02"/>'
    assert groups["scribbles"] == '<circle cx="0.1" cy="0.2" r="0.009"/><circle cx="1" cy="0" r="0.009"/>'


def test_the_outline_of_a_mask_runs_along_the_edges_of_its_pixels() -> None:
    (path,) = re.findall(r'<path d="M(.*?)Z"/>', html.overlay([WHOLE]))
    knots = np.array([knot.split(",") for knot in path.split()], dtype=float)
    assert np.allclose([knots.min(0), knots.max(0)], [(2 / 8, 1 / 4), (6 / 8, 2 / 4)])


def test_a_mask_to_the_border_in_two_pieces_has_two_closed_outlines() -> None:
    pieces = np.zeros((4, 8), dtype=bool)
    pieces[:, :2] = pieces[:2, 6:] = True
    (path,) = re.findall(r'<path d="(.*?)"/>', html.overlay([Instance(phrase="a", mask=masks.encode(pieces))]))
    outlines = [np.array([knot.split(",") for knot in each.split()], float) for each in re.findall("M(.*?)Z", path)]
    assert sorted([*each.min(0), *each.max(0)] for each in outlines) == [[0, 0, 0.25, 1], [0.75, 0, 1, 0.5]]


@pytest.mark.parametrize(
    ("size", "side", "shown"), [((12, 6), 12, (12, 6)), ((6, 12), 11, (6, 11)), ((24, 12), 12, (12, 6))]
)
def test_a_picture_is_shown_to_the_pixel_up_to_a_side_and_made_smaller_beyond(
    size: tuple[int, int], side: int, shown: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    head, _, content = html.data_uri(pixels, side).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert (picture.format, picture.size) == ("WEBP", shown)
        assert np.array_equal(picture, pixels) == (max(size) <= side)


def test_a_page_says_what_it_is_given_as_text_and_nothing_that_it_is_not_given(tmp_path: Path) -> None:
    template = tmp_path / "page.html.j2"
    template.write_text("{% if true %}\n  {{ name }}\n{% endif %}\n")
    assert html.page(template, {"name": "<b>"}) == "  &lt;b&gt;\n"
    with pytest.raises(UndefinedError):
        html.page(template, {})
