"""What the page sends is taken within its bounds, and places are those of the pixels they name."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from instdiff.app import sketch
from instdiff.layouts import masks
from instdiff.schema import Point, Rle

VALUES: dict[str, Any] = {
    "seed": 0,
    "steps": 2,
    "guidance_scale": 3.0,
    "alpha": 0.8,
    "mis": 0.0,
    "strength": 0.5,
    "width": 16,
    "height": 16,
    "formats": ("box", "mask"),
    "masked_attention": False,
}
BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {  # what is taken, and what is not
    "seed": ([0, 2**53 - 1], [-1, 2**53, 1.0, "1", True]),  # JavaScript counts no further
    "steps": ([1, 1000], [0, 1001, 2.0, "2", True]),
    "guidance_scale": ([0, 0.5, 100.0], [-0.001, True]),
    "alpha": ([0, 1], [-0.001, 1.001]),
    "mis": ([0, 1], [-0.001, 1.001]),
    "strength": ([0.001, 1], [0, 1.001]),
    "width": ([1, 4096], [0, 16.0, "16", True]),
    "height": ([1, 4096], [0, 16.0, "16", True]),
    "formats": ([(), ("scribble",)], [("line",), None]),
    "masked_attention": ([True, False, "finest"], ["coarsest", None]),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_each_value_is_taken_up_to_its_bounds_and_no_further(name: str) -> None:
    assert BOUNDS.keys() == VALUES.keys() == sketch.Values.model_fields.keys()
    taken, refused = BOUNDS[name]
    for value in taken:
        assert getattr(sketch.Values.model_validate({**VALUES, name: value}), name) == value
    for value in refused:
        with pytest.raises(ValidationError, match=name):
            sketch.Values.model_validate({**VALUES, name: value})


def test_as_much_is_taken_at_once_as_is_written() -> None:
    assert sketch.MAX_BYTES == 32 * 2**20 and sketch.MAX_PIXELS == 50_000_000  # docs and sentences name both


def png(width: int, height: int) -> str:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_a_picture_to_start_from_is_base64_of_a_picture_of_so_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "MAX_PIXELS", 100)
    largest = png(20, 5)
    assert sketch.start_picture(largest) == base64.b64decode(largest)
    assert sketch.start_picture(f"data:image/png;base64,{largest}") == base64.b64decode(largest)
    with pytest.raises(ValueError, match="has 101x1 pixels, more than 100"):
        sketch.start_picture(png(101, 1))
    for none in (f"{largest}!", largest[:-1], "", base64.b64encode(b"no picture").decode()):
        with pytest.raises(ValueError, match="^the picture to start from: not a readable picture$"):
            sketch.start_picture(none)


@pytest.mark.parametrize(("most", "faults"), [(32, []), (31, ["instances.0.mask: has more than 31 pixels"])])
def test_a_mask_has_as_many_pixels_as_a_picture_may_have(
    most: int, faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketch, "MAX_PIXELS", most)
    moon = sketch.Sketched(phrase="a moon", mask=masks.encode(np.eye(4, 8, dtype=bool)))
    assert sketch.checked(sketch.Sketch(prompt="", instances=(moon,)), (16, 8), 30).faults == faults


some_masks = arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5)))


@given(some_masks, st.integers(-6, 6), st.integers(-6, 6))
def test_a_mask_moves_by_whole_pixels_and_loses_what_leaves_the_picture(
    mask_HW: NDArray[np.bool_], down: int, right: int
) -> None:
    height, width = mask_HW.shape
    expected = np.zeros_like(mask_HW)
    for y, x in zip(*np.nonzero(mask_HW), strict=True):
        if 0 <= y + down < height and 0 <= x + right < width:
            expected[y + down, x + right] = True
    assert np.array_equal(sketch.moved(mask_HW, Point(right / width, down / height)), expected)


@pytest.mark.parametrize(
    ("size", "mask_size"), [((1024, 512), (256, 512)), ((30, 60), (512, 256)), ((9, 9000), (512, 1))]
)
def test_what_was_gone_round_is_a_mask_of_the_pictures_shape(size: tuple[int, int], mask_size: tuple[int, int]) -> None:
    whole = (Point(0, 0), Point(1, 0), Point(1, 1), Point(0, 1))
    around = sketch.Sketched(phrase="a moon", ring=whole)
    written = sketch._written(around, size)
    mask = Rle(**written["mask"])
    assert mask.size == mask_size
    assert masks.decode(mask).all()


@pytest.mark.parametrize(("corners", "is_enough"), [(2, False), (3, True)])
def test_three_corners_enclose_something(corners: int, is_enough: bool) -> None:
    ring = (Point(0, 0), Point(1, 0), Point(1, 1))[:corners]
    if is_enough:
        inside = sketch.enclosed(ring, (8, 8))
        assert inside[0, -1] and not inside[-1, 0]
    else:
        with pytest.raises(ValueError, match="go round the mask"):
            sketch.enclosed(ring, (8, 8))
