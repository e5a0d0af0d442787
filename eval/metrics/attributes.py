"""Attributes in place: the crop of an instance's given box, judged among the words of an attribute.

A word's direction is the mean of the judge's text features over phrases that contain it; the judged word is the
one whose direction is nearest to the crop. The judge never shares weights with the generator.
Legend: N instances, W words of an attribute, D feature size.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain, product, zip_longest
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]  # (height, width, 3)
Floats = NDArray[np.float64]

PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Judge(Protocol):
    """Pictures and phrases into one space; rows of unit length."""

    def image_features(self, pictures: Sequence[Pixels], /) -> ArrayLike:
        """(N, D)."""
        ...

    def text_features(self, texts: Sequence[str], /) -> ArrayLike:
        """(M, D)."""
        ...


def phrases(attribute: str, word: str, template: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Every phrase the template makes with `word` for its `{attribute}`, over all words of its other placeholders."""
    names = PLACEHOLDER.findall(template)
    if attribute not in names:
        raise ValueError(f"template {template!r} has no place for {attribute!r}")
    lacking = [name for name in names if not words.get(name)]
    if lacking:
        raise ValueError(f"template {template!r} of {attribute!r} needs words of {lacking[0]!r}, and there are none")
    choices = [[word] if name == attribute else words[name] for name in names]
    pieces = PLACEHOLDER.sub("\0", template).split("\0")
    return ["".join(chain(*zip_longest(pieces, chosen, fillvalue=""))) for chosen in product(*choices)]


def directions(judge: Judge, attribute: str, templates: Sequence[str], words: Mapping[str, Sequence[str]]) -> Floats:
    """(W, D): a unit vector a word of the attribute."""
    means = []
    for word in words[attribute]:
        wordings = [phrase for template in templates for phrase in phrases(attribute, word, template, words)]
        means.append(np.asarray(judge.text_features(wordings), np.float64).mean(0))
    return _unit(np.stack(means))


def judged(features_ND: Floats, directions_WD: Floats, words: Sequence[str]) -> list[str]:
    """The word nearest to each crop, the first of equals."""
    return [words[chosen] for chosen in (features_ND @ directions_WD.T).argmax(1)]


def _unit(vectors: Floats) -> Floats:
    directed: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return directed
