"""SAM as the marker of a finder of boxes: every detection gets a mask."""

from collections.abc import Sequence

from instdiff.networks.device import PLAIN, Place
from instdiff.networks.finders.finder import Detection, Finder, LabelledBox, Marker, Pixels
from instdiff.networks.finders.params import MarkerParams


class MarkedFinder:
    """A finder whose boxes a marker fills."""

    def __init__(self, finder: Finder, marker: Marker) -> None:
        self._finder, self._marker = finder, marker
        self.classes = finder.classes

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """The finder's detections, each with the marker's mask in place of its own."""
        detections = self._finder.find(pictures, phrases)
        marked: list[list[Detection]] = [[] for _ in pictures]
        places = [place for place, own in enumerate(detections) if own]  # SAM takes no picture without a box
        if not places:
            return marked
        boxes = [[detection.box for detection in detections[place]] for place in places]
        for place, filled in zip(
            places, self._marker.fill([pictures[number] for number in places], boxes), strict=True
        ):
            pairs = zip(detections[place], filled, strict=True)
            marked[place] = [
                LabelledBox(detection.category, detection.score, detection.box, mask) for detection, (mask, _) in pairs
            ]
        return marked


def load(params: MarkerParams, where: Place = PLAIN) -> Marker:
    """The marker of these weights."""
    if params.backend == "sam":
        from instdiff.networks.sam_masks import SegmentAnything

        return SegmentAnything(params.weights, params.max_boxes, where)
    from instdiff.networks.sam2 import Sam2

    return Sam2(params.weights, params.max_boxes, where)
