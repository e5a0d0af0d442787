"""Frechet distance: closed forms, and its interval."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from eval.metrics import bootstrap, fid

RNG = np.random.default_rng(0)


def test_in_one_dimension_it_is_the_textbook_formula() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])  # means 1, 7; variances 2, 8
    assert fid.distance(a, b) == pytest.approx(36 + (8**0.5 - 2**0.5) ** 2)


@pytest.mark.parametrize("count", [5, 40])  # fewer pictures than features, and more
def test_it_equals_the_formula_with_a_matrix_square_root(count: int) -> None:
    a, b = RNG.normal(size=(count, 8)), RNG.normal(0.3, 2.0, size=(count + 3, 8))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert fid.distance(a, b) == pytest.approx(expected, abs=1e-5)


def test_a_set_is_at_no_distance_from_itself_in_any_order() -> None:
    for seed in range(20):
        features = np.random.default_rng(seed).normal(size=(20, 4))
        assert 0 <= fid.distance(features, features[::-1]) < 1e-9


def test_the_interval_is_around_the_value_although_resampling_adds_bias() -> None:
    a, b = RNG.normal(size=(60, 16)), RNG.normal(size=(60, 16))
    metric = fid.metric(a, b, bootstrap.draws(60, 100, seed=0)).metric
    assert metric.n == 60
    assert 0 <= metric.low < metric.value < metric.high


def test_both_sets_are_drawn_again_together_layout_by_layout() -> None:
    features = RNG.normal(size=(30, 4))
    draws = bootstrap.draws(30, 50, seed=0)
    shifted = fid.metric(features, features + np.array([3, 0, 0, 0]), draws).metric  # in every draw
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((9, 9, 9))


def test_the_interval_is_moved_back_by_what_resampling_adds() -> None:
    a, b = RNG.normal(0.0, 0.5, size=(25, 6)), RNG.normal(0.15, 0.25, size=(25, 6))
    draws = bootstrap.draws(25, 80, seed=0)
    resamples = [np.repeat(np.arange(25), counts) for counts in draws]
    distances = np.array([fid.distance(a[rows], b[rows]) for rows in resamples])
    metric = fid.metric(a, b, draws).metric
    low, high = np.percentile(distances, [2.5, 97.5]) - distances.mean() + metric.value
    assert 0 < low < 1
    assert (metric.low, metric.high) == pytest.approx((low, high))


def test_two_pictures_a_side_are_enough() -> None:
    assert fid.distance(np.array([[0.0], [2.0]]), np.array([[0.0], [2.0]])) == pytest.approx(0)


def test_one_picture_has_no_distance() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        fid.distance(np.zeros((1, 3)), np.zeros((5, 3)))
