"""CMMD: no distance to itself, the paper's formula, an interval around the value."""

import numpy as np
import pytest

from eval.metrics import bootstrap, cmmd

RNG = np.random.default_rng(0)


def units(count: int, shift: float = 0.0) -> np.ndarray:
    rows = RNG.normal(size=(count, 6)) + shift
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_it_is_the_squared_discrepancy_under_a_gaussian_kernel_of_width_ten_times_a_thousand() -> None:
    first, second = units(3), units(4)

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[np.exp(-((x - y) ** 2).sum() / 200) for y in b] for x in a]))

    expected = 1000 * (mean(first, first) + mean(second, second) - 2 * mean(first, second))
    assert cmmd.distance(first, second) == pytest.approx(expected)
    assert cmmd.distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)
    assert cmmd.distance(units(40, 2.0), units(40)) > cmmd.distance(units(40), units(40))


def test_the_interval_lies_around_the_value_and_its_draws_are_those_of_the_pictures() -> None:
    a, b = units(30, 1.0), units(30)
    draws = bootstrap.draws(30, 50, seed=0)
    metric, resampled = cmmd.metric(a, b, draws)
    assert metric.value == pytest.approx(cmmd.distance(a, b)) and metric.n == 30
    assert metric.low < metric.value < metric.high
    chosen = [np.repeat(np.arange(30), counts) for counts in draws]
    direct = np.array([cmmd.distance(a[rows], b[rows]) for rows in chosen])
    assert resampled == pytest.approx(direct - direct.mean() + metric.value)
    assert cmmd.metric(a, a, draws).metric[2:] == pytest.approx((0, 0), abs=1e-9)


def test_no_picture_has_no_distance() -> None:
    with pytest.raises(ValueError, match="a picture or more"):
        cmmd.distance(np.zeros((0, 3)), units(2)[:, :3])
