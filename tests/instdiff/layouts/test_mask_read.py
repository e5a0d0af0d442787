"""What of a mask picture is inside, at exactly the bounds between one reading and another."""

import numpy as np
import pytest
from PIL import Image

from instdiff.layouts import mask_pictures, masks

SHAPE = (5, 20)  # a hundred pixels, not a square


def inside(image: Image.Image) -> tuple[np.ndarray, str | None]:
    mask, remark = mask_pictures.mask_of(image)
    return masks.decode(mask), remark


def greys(count: int, value: int, around: int = 0) -> Image.Image:
    """A picture of which `count` pixels have a value and the others another."""
    return Image.fromarray(np.where(np.arange(100).reshape(SHAPE) < count, value, around).astype(np.uint8))


@pytest.mark.parametrize(
    ("value", "words"), [(255, None), (239, None), (238, "neither black nor white in 10%"), (128, "neither")]
)
def test_white_on_black_needs_no_remark_and_grey_does(value: int, words: str | None) -> None:
    mask, remark = inside(greys(10, value))
    assert mask.sum() == 10
    assert (words in remark) if words and remark else (remark is words)


@pytest.mark.parametrize("value", [1, 2, 127])
def test_where_nothing_is_as_light_as_middle_grey_every_value_but_nothing_is_inside(value: int) -> None:
    mask, remark = inside(greys(10, value))
    assert mask.sum() == 10
    assert remark == f"holds the values 0, {value} of 255: every value but 0 is inside"


@pytest.mark.parametrize(("dark", "is_inside"), [(0, False), (1, False), (127, False), (128, True), (200, True)])
def test_beside_white_only_what_is_lighter_than_middle_grey_is_inside(dark: int, is_inside: bool) -> None:
    assert inside(greys(10, 255, dark))[0].sum() == (100 if is_inside else 10)


@pytest.mark.parametrize(("between", "has_remark"), [(2, False), (3, True)])
def test_other_greys_are_remarked_on_above_a_fiftieth_of_the_pixels(between: int, has_remark: bool) -> None:
    pixels = np.zeros(100, np.uint8)
    pixels[:10], pixels[10 : 10 + between] = 255, 150
    mask, remark = inside(Image.fromarray(pixels.reshape(SHAPE)))
    assert mask.sum() == 10 + between
    assert (remark is not None) == has_remark


def coloured(count: int, opaque: int = 100) -> Image.Image:
    """White of which `count` pixels are red and, after `opaque` pixels, all are transparent."""
    pixels = np.full((100, 4), 255, np.uint8)
    pixels[:count, 1:3] = 0
    pixels[opaque:, 3] = 0
    return Image.fromarray(pixels.reshape(*SHAPE, 4))


@pytest.mark.parametrize(("count", "has_colours"), [(2, False), (3, True), (100, True)])
def test_a_label_map_has_colours_on_more_than_a_fiftieth(count: int, has_colours: bool) -> None:
    mask, remark = inside(coloured(count))
    assert ("label map" in str(remark)) == has_colours
    assert mask.sum() == 100 if has_colours else 98


@pytest.mark.parametrize(("alpha", "is_inside"), [(0, False), (127, False), (128, True), (255, True)])
def test_of_colours_and_transparency_what_is_at_least_half_opaque_is_inside(alpha: int, is_inside: bool) -> None:
    pixels = np.full((100, 4), (255, 0, 0, 255), np.uint8)
    pixels[30:, 3] = alpha
    mask, _ = inside(Image.fromarray(pixels.reshape(*SHAPE, 4)))
    assert mask.sum() == (100 if is_inside else 30)


def test_what_is_transparent_is_outside_whatever_its_shade() -> None:
    pixels = np.full((100, 2), 255, np.uint8)
    pixels[40:, 1] = 0
    assert inside(Image.fromarray(pixels.reshape(*SHAPE, 2), "LA"))[0].sum() == 40


@pytest.mark.parametrize(
    ("value", "around", "expected"),
    [(1, 0, 10), (255, 0, 10), (256, 0, 10), (65535, 0, 10), (65535, 32767, 10), (65535, 32768, 100)],
)
def test_masks_of_sixteen_bits_are_read_at_their_own_depth(value: int, around: int, expected: int) -> None:
    pixels = np.where(np.arange(100).reshape(SHAPE) < 10, value, around).astype(np.uint16)
    assert inside(Image.fromarray(pixels))[0].sum() == expected


@pytest.mark.parametrize(("value", "of"), [(1.0, 255), (300.0, 65535)])
def test_masks_of_numbers_are_of_eight_bits_unless_one_is_larger(value: float, of: int) -> None:
    pixels = np.where(np.arange(100).reshape(SHAPE) < 10, value, 0).astype(np.float32)
    mask, remark = inside(Image.fromarray(pixels))
    assert mask.sum() == 10
    assert f"of {of}:" in str(remark)


def test_an_empty_mask_is_empty() -> None:
    for mode in ("L", "RGB", "I", "F", "1", "P"):
        mask, remark = inside(Image.new(mode, (20, 5)))
        assert not mask.any() and remark is None


@pytest.mark.parametrize(
    ("count", "shown"), [(2, "0, 1"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4, ..."), (9, "0, 1, 2, 3, 4, ...")]
)
def test_the_first_five_values_are_named_and_more_are_hinted_at(count: int, shown: str) -> None:
    values = np.arange(100).reshape(SHAPE) % count
    assert inside(Image.fromarray(values.astype(np.uint8)))[1] == (
        f"holds the values {shown} of 255: every value but 0 is inside"
    )


@pytest.mark.parametrize(
    ("largest", "dark", "expected"), [(255, 128, 100), (255, 127, 10), (256, 128, 100), (65535, 128, 10)]
)
def test_whole_numbers_are_greys_of_eight_bits_up_to_the_largest_of_those(
    largest: int, dark: int, expected: int
) -> None:
    values = np.where(np.arange(100).reshape(SHAPE) < 10, largest, dark).astype(np.int32)
    assert inside(Image.fromarray(values))[0].sum() == expected
