"""Run lengths, and the contours that outlines are drawn from, are those of the released code."""

import base64
import json
import zlib
from itertools import pairwise
from typing import Any

import golden_cases as golden
import numpy as np
import pytest

from instdiff.layouts import masks, strokes
from instdiff.schema import Rle

CASES = {case["name"]: case for case in json.loads((golden.FOLDER / "mask_contours.json").read_text())}
each_mask = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_mask
def test_run_lengths_are_the_released_bitmap(case: dict[str, Any]) -> None:
    height, width = case["shape"][:2]
    packed = np.frombuffer(zlib.decompress(base64.b64decode(case["mask_packbits_zlib_b64"])), np.uint8)
    expected = np.unpackbits(packed)[: height * width].reshape(height, width) > 0
    mask = masks.decode(Rle(**case["rle"]))
    assert np.array_equal(mask, expected)
    assert masks.encode(expected) == Rle(**case["rle"])
    assert np.count_nonzero(mask) == case["area"]


@each_mask
def test_contours_are_the_released_ones(case: dict[str, Any]) -> None:
    edge = strokes._edge(masks.decode(Rle(**case["rle"])))
    assert len(edge) == sum(case["contour_lengths"])
    head = np.reshape(case["first_contour_head"], (-1, 2))
    assert np.array_equal(edge[: len(head)], head)
    starts = np.cumsum([0, *case["contour_lengths"]])
    assert len(starts) == case["n_contours"] + 1
    for start, stop in pairwise(starts):
        assert np.array_equal(edge[start], edge[stop - 1])
