"""KID, by hand and by its definition."""

from typing import Any

import numpy as np
import pytest

from eval.metrics import kid


def test_two_pictures_a_side_by_hand() -> None:
    # features of size 1: kernel (xy + 1)^3; within (0, 1): (0 + 1)^3 = 1; within (1, 2): 27; across: 1, 1, 8, 27
    a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert kid.distance(a, b) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_it_is_the_sum_over_pairs_of_different_pictures() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = np.mean([k(a, b) for i, a in enumerate(first) for j, b in enumerate(first) if i != j])
    beyond = np.mean([k(a, b) for i, a in enumerate(second) for j, b in enumerate(second) if i != j])
    across = np.mean([k(a, b) for a in first for b in second])
    assert kid.distance(first, second) == pytest.approx(within + beyond - 2 * across)


def test_sets_of_one_kind_are_near_zero_and_of_two_kinds_are_not() -> None:
    rng = np.random.default_rng(1)
    draw = [kid.metric(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + s, 20, 40, rng).metric for s in (0.0, 1.0)]
    assert draw[0].low < 0 < draw[0].high
    assert draw[1].low > 0.5
    assert draw[1].n == 60


@pytest.mark.parametrize(("count", "size"), [(60, 100), (60, 12), (300, 8)])
def test_the_interval_covers_the_true_distance_about_as_often_as_it_says(count: int, size: int) -> None:
    # features are +1 or -1; the kernel (xy + 1)^3 is 8 for equals and else 0; so the distance is 16 (0.2 - 0.8)^2
    true = 16 * (0.2 - 0.8) ** 2
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(120):
        a, b = (np.where(rng.random((count, 1)) < share, 1.0, -1.0) for share in (0.2, 0.8))
        metric = kid.metric(a, b, 50, size, rng).metric
        covered.append(metric.low <= true <= metric.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_a_subset_is_half_of_all_pictures_at_most_and_drawn_from_each_side_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[tuple[int, int]] = []
    whole = kid.distance
    monkeypatch.setattr(kid, "distance", lambda a, b: sizes.append((len(a), len(b))) or whole(a, b))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(21, 4))
    for size, expected in ((9, 9), (10, 10), (11, 10), (100, 10), (1, 2)):
        sizes.clear()
        metric = kid.metric(features, features, 7, size, rng).metric
        assert sizes == [(expected, expected)] * 7
        assert metric.low < metric.value < metric.high  # the same rows on both sides would be at no distance


@pytest.mark.parametrize(("num", "size", "rest"), [(8, 3, 5), (3, 9, 1), (2, 2, 1)])
def test_the_spread_of_subsets_of_different_pictures_tells_that_of_all(num: int, size: int, rest: int) -> None:
    class Drawing:
        """Remembers the subsets that it draws."""

        def __init__(self) -> None:
            self.rng, self.subsets = np.random.default_rng(0), list[np.ndarray]()

        def choice(self, count: int, size: int, replace: bool) -> np.ndarray:
            self.subsets.append(self.rng.choice(count, size, replace=replace))
            return self.subsets[-1]

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(num, 4)), rng.normal(0.5, 1, size=(num, 4))
    drawing: Any = Drawing()
    resampled = kid.metric(a, b, 5, size, drawing)
    pairs = list(zip(drawing.subsets[::2], drawing.subsets[1::2], strict=True))
    assert len(pairs) == 5
    assert all(len(set(subset.tolist())) == len(subset) for pair in pairs for subset in pair)
    values = np.array([kid.distance(a[first], b[second]) for first, second in pairs])
    scale = (len(pairs[0][0]) / rest + 1 / 5) ** 0.5
    assert resampled.metric.value == pytest.approx(values.mean())
    assert resampled.values_R == pytest.approx(values.mean() + (values - values.mean()) * scale)
    ends = np.percentile(resampled.values_R, [2.5, 97.5])
    assert (resampled.metric.low, resampled.metric.high) == pytest.approx(tuple(ends))


def test_two_pictures_a_side_are_enough() -> None:
    assert np.isfinite(kid.distance(np.ones((2, 2)), np.zeros((2, 2))))


def test_one_picture_has_no_distance() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        kid.distance(np.ones((1, 2)), np.ones((3, 2)))
