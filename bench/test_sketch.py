"""Strokes of 512x512 masks against the plain form of the same algorithm, one pixel at a time."""

import time
from collections.abc import Callable

from plain_strokes import blobs, ours, plainly

from instdiff.layouts.masks import Mask


def rate(draw: Callable[[Mask], object], masks: list[Mask]) -> float:
    """Masks a second of CPU time."""
    began = time.process_time()
    for mask in masks:
        draw(mask)
    return len(masks) / (time.process_time() - began)


def test_sketching_against_the_plain_form() -> None:
    """Print both rates; the strokes themselves are held by tests/instdiff/layouts/test_strokes.py."""
    plain, fast = rate(plainly, blobs(8)), rate(ours, blobs(80))
    print(f"\nsketch, 512x512 masks, one thread: {plain:.1f} masks/s plainly, {fast:.0f} here: {fast / plain:.0f}x")
