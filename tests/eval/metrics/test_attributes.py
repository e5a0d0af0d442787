"""Judged attributes, colour leak: by hand, with a judge whose features are given."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.metrics import attributes, colour_leak

WORDS = {"colour": ["red", "blue"], "texture": ["glass", "wooden"], "shape": ["ring"]}


class WordJudge:
    """Text features: a unit axis a word, summed and normalised."""

    axes = ("red", "blue", "glass", "wooden", "ring")

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float64]:
        rows = np.array([[float(axis in text.split()) for axis in self.axes] for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def image_features(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        raise NotImplementedError


def test_a_template_is_filled_with_the_word_and_every_word_of_the_other_places() -> None:
    assert attributes.phrases("colour", "red", "a {colour} {texture} {shape}", WORDS) == [
        "a red glass ring",
        "a red wooden ring",
    ]
    assert attributes.phrases("colour", "red", "a {colour} object", WORDS) == ["a red object"]


def test_a_template_without_the_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for 'texture'"):
        attributes.phrases("texture", "glass", "a {colour} object", WORDS)


@pytest.mark.parametrize("words", [{"colour": ["red"]}, {"colour": ["red"], "texture": []}])
def test_a_template_with_a_place_that_no_word_is_known_for_is_refused(words: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="'a {colour} {texture} thing' of 'colour' needs words of 'texture'"):
        attributes.phrases("colour", "red", "a {colour} {texture} thing", words)
    assert attributes.phrases("colour", "red", "a {colour} thing", words) == ["a red thing"]


def test_of_equally_near_words_the_first_is_judged() -> None:
    assert attributes.judged(np.array([[1.0, 1.0]]), np.eye(2), ["red", "blue"]) == ["red"]


def test_directions_are_unit_vectors_that_average_the_phrases() -> None:
    directions_WD = attributes.directions(WordJudge(), "colour", ["{colour} {texture}"], WORDS)
    expected = np.array([[2, 0, 1, 1, 0], [0, 2, 1, 1, 0]]) / np.sqrt(6)
    assert np.allclose(directions_WD, expected)


def test_the_nearest_word_is_judged() -> None:
    directions_WD = np.eye(2)
    assert attributes.judged(np.array([[0.6, 0.8], [0.9, 0.1]]), directions_WD, ["red", "blue"]) == ["blue", "red"]


def test_a_neighbours_colour_on_an_instance_is_a_leak() -> None:
    assert colour_leak.of_picture(["red", "blue"], ["blue", "blue"]) == [True, False]


def test_a_colour_that_nobody_has_is_no_leak() -> None:
    assert colour_leak.of_picture(["red", "blue"], ["green", "blue"]) == [False, False]


def test_an_instance_without_a_neighbour_of_another_colour_cannot_leak() -> None:
    assert colour_leak.of_picture(["red"], ["blue"]) == [None]
    assert colour_leak.of_picture(["red", "red"], ["blue", "red"]) == [None, None]
    assert colour_leak.of_picture(["red", None], ["blue", "red"]) == [None, None]
    assert colour_leak.of_picture(["red", "red", "blue"], ["blue", "red", "red"]) == [True, False, True]
