"""Levels of pictures as numbers of the autoencoder, and back."""

import numpy as np
import pytest
import torch

from instdiff.networks import vae

LEVELS = np.arange(2 * 4 * 9 * 3, dtype=np.uint8).reshape(2, 4, 9, 3)


def test_every_level_comes_back_and_axes_stay_what_they_are() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, axis=3)
    for pictures in (every, LEVELS):
        assert np.array_equal(vae.pictures(vae.pixels(pictures)), pictures)
    assert vae.pixels(LEVELS).shape == (2, 3, 4, 9)
    assert vae.pixels(every).min() == -1 and vae.pixels(every).max() == 1


@pytest.mark.parametrize(("rounded", "expected"), [(True, [0, 0, 1, 254, 255, 255]), (False, [0, 0, 0, 254, 254, 255])])
def test_levels_are_rounded_to_the_nearest_or_down_and_cut_at_the_ends(rounded: bool, expected: list[int]) -> None:
    levels = torch.tensor([-9.0, 0.4, 0.6, 254.4, 254.6, 300.0])
    pixels = vae.pictures((levels / 127.5 - 1).view(1, 1, 1, -1), rounded=rounded)
    assert pixels.ravel().tolist() == expected
