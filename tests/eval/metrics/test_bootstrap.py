"""Intervals: values by hand, and what resampling by picture must and must not do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import bootstrap


def test_the_mean_is_over_instances_and_counts_them() -> None:
    draws = bootstrap.draws(2, 200, seed=0)
    # picture 0: 1, 1, 1; picture 1: 0
    metric = bootstrap.mean(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1]), draws)
    assert (metric.value, metric.n) == (0.75, 4)
    assert (metric.low, metric.high) == (0.0, 1.0)  # both pictures drawn twice happens in a quarter of the draws each


def test_every_resample_draws_as_many_pictures_as_there_are() -> None:
    draws = bootstrap.draws(7, 50, seed=3)
    assert draws.shape == (50, 7)
    assert (draws.sum(1) == 7).all()


def test_draws_depend_on_the_seed_and_on_nothing_else() -> None:
    assert np.array_equal(bootstrap.draws(9, 20, seed=1), bootstrap.draws(9, 20, seed=1))
    assert not np.array_equal(bootstrap.draws(9, 20, seed=1), bootstrap.draws(9, 20, seed=2))


def test_an_interval_of_a_fair_coin_is_as_wide_as_statistics_say() -> None:
    values = np.tile([0.0, 1.0], 200)
    metric = bootstrap.mean(values, np.arange(400), bootstrap.draws(400, 4000, seed=0))
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.06)


def test_instances_of_one_picture_are_not_taken_for_independent() -> None:
    values = np.tile([0.0, 1.0], 200)
    apart = bootstrap.mean(values, np.arange(400), bootstrap.draws(400, 2000, seed=0))
    together = bootstrap.mean(np.sort(values), np.arange(400) // 20, bootstrap.draws(20, 2000, seed=0))
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_nothing_measured_is_an_error_and_not_zero() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        bootstrap.mean(np.zeros(0), np.zeros(0, np.int64), bootstrap.draws(3, 10, seed=0))
    with pytest.raises(ValueError, match="no picture"):
        bootstrap.draws(0, 10, seed=0)


def test_an_interval_leaves_out_a_fortieth_at_either_end() -> None:
    assert bootstrap.interval(np.arange(1001.0)) == (25.0, 975.0)
    for wrong in (np.zeros(0), np.array([0.0, np.nan]), np.array([0.0, np.inf])):
        with pytest.raises(ValueError, match="finite resampled values"):
            bootstrap.interval(wrong)


@given(st.permutations(range(12)))
def test_the_order_of_the_instances_changes_nothing(order: list[int]) -> None:
    values, pictures = np.arange(12.0) ** 2, np.arange(12) // 3
    draws = bootstrap.draws(4, 60, seed=0)
    turned = bootstrap.mean(values[order], pictures[order], draws)
    assert turned == pytest.approx(bootstrap.mean(values, pictures, draws))


def test_a_resample_without_an_instance_that_counts_is_left_out() -> None:
    draws = np.array([[2, 0], [0, 2], [1, 1]])
    metric = bootstrap.mean(np.array([1.0, 3.0]), np.array([1, 1]), draws)  # the first picture has none
    assert metric == (2.0, 2, 2.0, 2.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_an_interval_lies_within_the_values(values: list[float], seed: int) -> None:
    metric = bootstrap.mean(np.array(values), np.arange(len(values)), bootstrap.draws(len(values), 40, seed))
    assert min(values) - 1e-12 <= metric.low <= metric.high <= max(values) + 1e-12
