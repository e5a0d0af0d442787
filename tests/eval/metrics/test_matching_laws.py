"""Matching, success and leaks against the plainest way to compute them, on any numbers."""

import hypothesis.extra.numpy as some
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import clip_score, colour_leak, instance_iou, matching, mig

overlap = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])  # few values, so that equals occur


@st.composite
def overlaps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps of detections with instances, and which of them are allowed."""
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 5)))
    return draw(some.arrays(np.float64, shape, elements=overlap)), draw(some.arrays(np.bool_, shape))


@given(overlaps())
def test_the_best_is_the_first_of_the_largest_allowed_that_overlap(case: tuple[np.ndarray, np.ndarray]) -> None:
    iou_DG, allowed_DG = case
    pairs = matching.best(iou_DG, allowed_DG)
    values = instance_iou.of_instances(iou_DG, allowed_DG)
    for instance in range(iou_DG.shape[1]):
        counted = [float(o) if a else 0.0 for o, a in zip(iou_DG[:, instance], allowed_DG[:, instance], strict=True)]
        largest = max(counted, default=0.0)
        assert pairs[instance] == (counted.index(largest) if largest > 0 else -1)
        assert values[instance] == largest


@given(overlaps())
def test_one_to_one_takes_each_once_and_leaves_no_pair_that_both_would_rather_have(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    iou_DG, allowed_DG = case
    counted_DG = np.where(allowed_DG, iou_DG, 0.0)
    pairs = matching.one_to_one(iou_DG, allowed_DG)
    taken = [detection for detection in pairs if detection >= 0]
    assert len(set(taken)) == len(taken)
    own_G = [counted_DG[d, g] if d >= 0 else 0.0 for g, d in enumerate(pairs)]
    assert all(own > 0 for own, d in zip(own_G, pairs, strict=True) if d >= 0)
    own_D = {d: own_G[g] for g, d in enumerate(pairs)}
    for detection, instance in np.ndindex(counted_DG.shape):
        assert counted_DG[detection, instance] <= max(own_G[instance], own_D.get(detection, 0.0))


@given(overlaps())
def test_the_reference_serves_instance_by_instance_while_detections_are_left(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    iou_DG = case[0]
    free = list(range(len(iou_DG)))
    for instance, detection in enumerate(matching.in_order(iou_DG)):
        if not free:
            assert detection == -1
            continue
        assert detection == max(free, key=lambda candidate: (iou_DG[candidate, instance], -candidate))
        free.remove(detection)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.49, 0.5, 0.51, 1.0]), st.booleans(), st.integers(0, 3)), min_size=1))
def test_success_and_overlap_by_place_and_colour(cases: list[tuple[float, bool, int]]) -> None:
    iou_N, right_N, picture_N = (np.array(column) for column in zip(*cases, strict=True))
    placed_N = iou_N >= 0.5
    succeeded_N = mig.of_instances(iou_N, right_N)
    assert succeeded_N.tolist() == (placed_N & right_N).tolist()
    assert mig.ious(iou_N, right_N).tolist() == [
        0.0 if placed and not right else iou for iou, placed, right in zip(iou_N, placed_N, right_N, strict=True)
    ]
    for picture, value in enumerate(mig.of_pictures(succeeded_N, picture_N, 5)):
        own = succeeded_N[picture_N == picture]
        assert np.isnan(value) if not len(own) else value == own.all()


colour = st.sampled_from(["red", "blue", "green"])


@given(st.lists(st.tuples(st.none() | colour, colour), min_size=1, max_size=5))
def test_a_leak_is_a_neighbours_colour_that_is_not_the_own(cases: list[tuple[str | None, str]]) -> None:
    own, judged = [colour for colour, _ in cases], [seen for _, seen in cases]
    for place, leaked in enumerate(colour_leak.of_picture(own, judged)):
        others = {colour for other, colour in enumerate(own) if other != place and colour not in (None, own[place])}
        if own[place] is None or not others:
            assert leaked is None
        else:
            assert leaked == (judged[place] in others)


class Words:
    """Features of any length for a text."""

    def text_features(self, texts: list[str]) -> np.ndarray:
        return np.array([[float(len(text)), 2.0, -1.0 * ("a" in text)] for text in texts])

    def image_features(self, pictures: object) -> np.ndarray:
        raise NotImplementedError


@given(st.floats(0.01, 100), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_cosine_hangs_on_directions_alone(factor: float, texts: list[str]) -> None:
    images = np.random.default_rng(len(texts)).standard_normal((len(texts), 3))
    expected = [
        float(image @ text / (np.linalg.norm(image) * np.linalg.norm(text)))
        for image, text in zip(images, Words().text_features(texts), strict=True)
    ]
    assert clip_score.cosines(factor * images, texts, Words()) == pytest.approx(expected)
