import json
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as some
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instdiff.layouts import geometry, masks, strokes
from instdiff.layouts.masks import Mask
from instdiff.randomness import generator
from instdiff.schema import Rle

GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLED = {case["name"]: case for case in json.loads((GOLDEN / "mask_sampling.json").read_text())}
REORDERED = json.loads((GOLDEN / "scribble_reorder.json").read_text())

filled_mask = some.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))).filter(np.any)


def released(flat: list[float], mask: Mask) -> strokes.Points:
    """Points as the released code gives them, in pixels, as it reads them again: clamped to the picture."""
    height, width = mask.shape
    return np.clip(np.reshape(flat, (-1, 2)) / (width, height), 0, 1)


@pytest.mark.parametrize("name", sorted(SAMPLED))
def test_outlines_are_those_of_the_released_training_data(name: str) -> None:
    case = SAMPLED[name]
    mask = masks.decode(Rle(**case["rle"]))
    outline = strokes.outline(mask, 256, generator(0))
    if case["sparse_points_256"] is None:
        assert outline is None
    else:
        assert np.allclose(outline, released(case["sparse_points_256"], mask), atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(SAMPLED.keys() - {"empty"}))
def test_scribbles_are_those_of_the_released_training_data_given_its_draws(name: str, seed: int) -> None:
    case = SAMPLED[name]
    mask = masks.decode(Rle(**case["rle"]))
    scribble = strokes.scribble(mask, 20, np.random.RandomState(seed))
    assert np.allclose(scribble, released(case[f"random20_np_seed{seed}"], mask), atol=1e-12)


@pytest.mark.parametrize("case", REORDERED, ids=lambda case: f"{len(case['points'])} points")
def test_drawn_scribbles_come_in_the_released_order(case: dict[str, Any]) -> None:
    assert np.allclose(strokes.reorder(np.array(case["points"]), 20), case["reordered"])


def test_absent_is_none() -> None:
    empty = np.zeros((5, 5), dtype=bool)
    assert strokes.box_centre(empty) is None
    assert strokes.inner_centre(empty) is None
    assert strokes.scribble(empty, 20, generator(0)) is None
    assert strokes.outline(empty, 256, generator(0)) is None


def test_a_scribble_of_no_points_cannot_be_ordered() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        strokes.reorder(np.zeros((0, 2)), 20)


@given(filled_mask, st.integers(1, 40))
def test_a_scribble_lies_in_the_mask_and_repeats_only_when_it_must(mask: Mask, num_points: int) -> None:
    scribble = strokes.scribble(mask, num_points, generator(0))
    assert scribble.shape == (num_points, 2)
    assert mask[geometry.pixel(scribble, *mask.shape)].all()
    if mask.sum() >= num_points:
        assert len(np.unique(scribble, axis=0)) == num_points


@given(filled_mask, st.integers(2, 64))
def test_an_outline_has_its_number_of_points_half_of_them_inside(mask: Mask, num_points: int) -> None:
    outline = strokes.outline(mask, num_points, generator(0))
    assert outline.shape == (num_points, 2)
    assert (outline >= 0).all()
    assert (outline <= 1).all()
    assert mask[geometry.pixel(outline, *mask.shape)].sum() >= num_points - num_points // 2


@given(filled_mask)
def test_strokes_ascend_from_the_origin(mask: Mask) -> None:
    height, width = mask.shape
    distance = np.hypot(*(strokes.scribble(mask, 20, generator(0)) * (width, height)).T)
    assert (np.diff(distance) >= -1e-9).all()


@given(filled_mask)
def test_the_inner_point_lies_in_the_mask_and_no_pixel_is_nearer_to_the_box_centre(mask: Mask) -> None:
    height, width = mask.shape
    (inner,) = strokes.inner_centre(mask) * (width, height)
    (centre,) = strokes.box_centre(mask) * (width, height)
    box = masks.box_of(mask).centre
    assert np.allclose(centre, (box.x * width, box.y * height))
    pixels = np.argwhere(mask)[:, ::-1] + 0.5
    assert np.isclose(np.hypot(*(inner - centre)), np.hypot(*(pixels - centre).T).min())
    assert mask[geometry.pixel(inner[None] / (width, height), height, width)].all()


def test_only_too_small_a_mask_makes_an_outline_random() -> None:
    large, small = np.ones((12, 12), dtype=bool), np.zeros((12, 12), dtype=bool)
    small[2:6, 3:9] = True
    outlines = [[strokes.outline(mask, 256, generator(seed)) for seed in (0, 1)] for mask in (large, small)]
    assert np.array_equal(*outlines[0])
    assert not np.array_equal(*outlines[1])


def test_what_is_outside_the_box_of_a_mask_does_not_move_its_strokes() -> None:
    """The same mask in the corner of a picture twice as large has the same strokes in pixels."""
    mask = np.zeros((20, 20), dtype=bool)
    mask[3:15, 4:18] = True
    larger = np.zeros((40, 40), dtype=bool)
    larger[:20, :20] = mask
    for draw in (strokes.outline, strokes.scribble):
        assert np.allclose(draw(mask, 64, generator(5)) * 20, draw(larger, 64, generator(5)) * 40)


@given(st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-12, 2.5, 900.0]), min_size=1, max_size=60), st.data())
def test_elements_at_ranks_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    ranks = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, unique=True)))
    elements = strokes._at_ranks(np.array(values), ranks)
    assert elements.tolist() == np.argsort(values, kind="stable")[ranks].tolist()
