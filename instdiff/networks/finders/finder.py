"""What a finder is: pictures and, for each, phrases -> detections, each labelled with one of the phrases.

A closed finder (YOLO) knows a fixed list of classes. An open one (GroundingDINO, OWLv2) looks for whatever it is given.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from instdiff.layouts.masks import Mask
from instdiff.schema import Box

Pixels = NDArray[np.uint8]  # (height, width, 3)


class Detection(Protocol):
    """One thing in a picture, as a finder sees it."""

    @property
    def category(self) -> str:
        """One of the phrases that were looked for."""

    @property
    def score(self) -> float:
        """How sure, 0 to 1."""

    @property
    def box(self) -> Box:
        """Where, in fractions."""

    @property
    def mask(self) -> Mask | None:
        """Where, at the picture's size; None of a finder of boxes."""


class LabelledBox(NamedTuple):
    """A detection of a finder of boxes, or one that a marker has given its mask."""

    category: str
    score: float
    box: Box
    mask: Mask | None = None


class Finder(Protocol):
    """Whoever finds things in pictures."""

    @property
    def classes(self) -> Sequence[str] | None:
        """All that it can find, in a fixed order; None where it looks for any phrase."""

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]], /) -> Sequence[Sequence[Detection]]:
        """What is seen of each picture's phrases, the surest first; pictures are (height, width, 3) RGB."""
        ...


class Marker(Protocol):
    """Whoever fills boxes with masks: SAM, SAM 2."""

    def fill(
        self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]], /
    ) -> Sequence[Sequence[tuple[Mask, float]]]:
        """The likeliest mask of each box of each picture, at the picture's size, and the estimate of its IoU."""
        ...
