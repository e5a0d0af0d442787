from contextlib import suppress

import hypothesis.extra.numpy as some
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from instdiff.layouts import geometry, masks
from instdiff.layouts.masks import Mask
from instdiff.schema import Box, Rle

any_mask = some.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(any_mask)
def test_a_mask_survives_its_run_lengths(mask: Mask) -> None:
    assert np.array_equal(masks.decode(masks.encode(mask)), mask)


@given(any_mask)
def test_run_lengths_mean_what_coco_means_by_them(mask: Mask) -> None:
    rle = masks.encode(mask)
    theirs = coco.decode({"size": list(rle.size), "counts": rle.counts.encode()})
    assert np.array_equal(masks.decode(rle), theirs.astype(bool))


def test_long_runs_survive() -> None:
    mask = np.zeros((1200, 900), dtype=bool)
    mask[700:, 300:] = True
    assert np.array_equal(masks.decode(masks.encode(mask)), mask)


def test_three_pixels_of_a_known_string() -> None:
    """Columns first: outside 1, inside 2, outside 1 of a 2x2 picture."""
    assert masks.decode(Rle(size=(2, 2), counts="121")).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ((2, 2), "12"),  # too few pixels
        ((2, 2), "1211"),  # too many
        ((2, 2), ""),
        ((2, 2), "1ä"),
        ((2, 2), "1 3"),  # not one of COCO's 64 characters
        ((2, 2), "12Q"),  # ends inside a number
        ((2, 2), "5O"),  # a negative run
        ((2, 2), "``````````0"),  # a number of 55 bits
        ((0, 4), "0"),
        ((1_000_000, 1_000_000), "1"),  # a bomb
    ],
)
def test_malformed_run_lengths_are_one_sentence(size: tuple[int, int], counts: str) -> None:
    with pytest.raises(ValueError, match=r"pixels|counts") as error:
        masks.decode(Rle(size=size, counts=counts))
    assert "\n" not in str(error.value)


def test_as_many_pixels_as_a_picture_may_have_are_a_mask_and_no_more() -> None:
    def counts(pixels: int) -> str:
        return str(coco.frPyObjects({"size": [pixels, 1], "counts": [pixels]}, pixels, 1)["counts"].decode())

    assert masks.checked(Rle(size=(masks.MAX_PIXELS, 1), counts=counts(masks.MAX_PIXELS))).tolist() == [
        masks.MAX_PIXELS
    ]
    for size in ((masks.MAX_PIXELS + 1, 1), (1, masks.MAX_PIXELS + 1)):
        with pytest.raises(ValueError, match="a mask cannot have"):
            masks.checked(Rle(size=size, counts=counts(masks.MAX_PIXELS + 1)))


@given(st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_no_string_breaks_the_decoder(counts: str, height: int, width: int) -> None:
    with suppress(ValueError):
        assert masks.decode(Rle(size=(height, width), counts=counts)).shape == (height, width)


def test_the_box_of_a_mask_is_tight() -> None:
    mask = np.zeros((4, 8), dtype=bool)
    mask[1, 2:5] = mask[2, 3] = True
    assert masks.box_of(mask) == Box(2 / 8, 1 / 4, 5 / 8, 3 / 4)


@given(any_mask.filter(np.any))
def test_the_box_of_a_mask_holds_it_and_touches_it_on_all_sides(mask: Mask) -> None:
    box = masks.box_of(mask)
    cut = mask[geometry.rows(box, mask.shape[0]), geometry.columns(box, mask.shape[1])]
    assert cut.sum() == mask.sum()
    assert cut[0].any()
    assert cut[-1].any()
    assert cut[:, 0].any()
    assert cut[:, -1].any()


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(ValueError, match="empty"):
        masks.box_of(np.zeros((3, 3), dtype=bool))


@given(any_mask)
def test_the_run_lengths_hold_what_the_array_holds(mask: Mask) -> None:
    rows, columns = (place.ravel() for place in np.indices(mask.shape))
    assert (masks.holds(masks.encode(mask), rows, columns) == mask.ravel()).all()


@given(any_mask)
def test_what_is_visible_of_a_mask_is_the_share_of_its_pixels(mask: Mask) -> None:
    assert masks.visible(masks.encode(mask)) == pytest.approx(mask.mean())


def run_of(height: int, width: int) -> Rle:
    """One run that covers every pixel."""
    counts = coco.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width)["counts"]
    return Rle(size=(height, width), counts=counts.decode())


@pytest.mark.parametrize(("pixels", "allowed"), [(-1, True), (0, True), (1, False)])
def test_a_mask_may_have_as_many_pixels_as_a_picture_and_no_more(pixels: int, allowed: bool) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 2 * Image.MAX_IMAGE_PIXELS == masks.MAX_PIXELS  # beyond which Pillow opens no picture
    rle = run_of(1, masks.MAX_PIXELS + pixels)
    if allowed:
        assert masks.checked(rle).tolist() == [masks.MAX_PIXELS + pixels]
    else:
        with pytest.raises(ValueError, match="cannot have"):
            masks.checked(rle)


def test_a_run_may_take_seven_characters_and_no_more() -> None:
    """A zero padded with groups of zeros: what is said is the same, how long it takes is not."""
    for groups, allowed in ((5, True), (6, True), (7, False)):
        rle = Rle(size=(2, 2), counts="P" * groups + "04")  # no pixel outside, four inside
        if allowed:
            assert masks.checked(rle).tolist() == [0, 4]
        else:
            with pytest.raises(ValueError, match="too long to be real"):
                masks.checked(rle)


@given(any_mask, st.integers(-3, 3).filter(bool))
def test_runs_that_cover_more_or_less_than_the_picture_are_refused(mask: Mask, rows: int) -> None:
    rle, height = masks.encode(mask), mask.shape[0] + rows
    with pytest.raises(ValueError, match="pixels"):
        masks.checked(rle.model_copy(update={"size": (height, mask.shape[1])}))
