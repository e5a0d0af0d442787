"""A detector of a fixed list of classes, such as YOLO, as a finder."""

from collections.abc import Sequence
from typing import Protocol

from instdiff.networks.finders.finder import Detection, Pixels


class ClosedDetector(Protocol):
    """A network that reports all it knows."""

    @property
    def classes(self) -> Sequence[str]:
        """All it can find, in a fixed order."""

    def detect(self, pictures: Sequence[Pixels], /) -> Sequence[Sequence[Detection]]:
        """What is in each of the (height, width, 3) pictures."""
        ...


class ClosedFinder:
    """Reports the detector's detections of the phrases that are searched for."""

    def __init__(self, detector: ClosedDetector) -> None:
        self._detector = detector
        self.classes = tuple(detector.classes)

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """ValueError names a phrase that is none of the detector's classes."""
        unknown = sorted({phrase for each in phrases for phrase in each} - set(self.classes))
        if unknown:
            raise ValueError(f"the detector does not know {unknown[0]!r}; it knows {', '.join(self.classes)}")
        pairs = zip(self._detector.detect(pictures), phrases, strict=True)
        return [[detection for detection in seen if detection.category in wanted] for seen, wanted in pairs]
