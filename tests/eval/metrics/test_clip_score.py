"""CLIP score: a cosine with one's own text, whatever the lengths and the order."""

from collections.abc import Sequence

import numpy as np
import pytest

from eval.metrics import clip_score


class Judge:
    """Texts are places on the plane; how often it was asked is counted."""

    def __init__(self) -> None:
        self.texts_read: list[str] = []

    def image_features(self, pictures: Sequence[object]) -> np.ndarray:
        raise NotImplementedError

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        self.texts_read += texts
        return np.array([{"right": (2.0, 0.0), "up": (0.0, 1.0)}[text] for text in texts])


def test_each_picture_is_held_against_its_own_text() -> None:
    images = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, -1.0]])
    assert clip_score.cosines(images, ["right", "up", "up"], Judge()) == pytest.approx([0.6, 0.8, -1.0])


def test_a_text_that_stands_several_times_is_read_once() -> None:
    judge = Judge()
    clip_score.cosines(np.ones((3, 2)), ["up", "right", "up"], judge)
    assert judge.texts_read == ["up", "right"]


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_how_many_texts_are_read_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(clip_score, "BATCH", batch)
    rng = np.random.default_rng(0)
    features = {f"text {place}": rng.normal(size=5) for place in range(7)}
    sizes: list[int] = []

    class Reader(Judge):
        def text_features(self, texts: Sequence[str]) -> np.ndarray:
            sizes.append(len(texts))
            return np.array([features[text] for text in texts])

    texts = [*features, *reversed(features)]
    images = rng.normal(size=(14, 5))
    own = np.array([features[text] for text in texts])
    expected = (images * own).sum(1) / np.linalg.norm(images, axis=1) / np.linalg.norm(own, axis=1)
    assert clip_score.cosines(images, texts, Reader()) == pytest.approx(expected)
    assert sizes == [min(batch, 7 - start) for start in range(0, 7, batch)]


def test_of_nothing_it_is_nothing() -> None:
    assert len(clip_score.cosines(np.zeros((0, 2)), [], Judge())) == 0
