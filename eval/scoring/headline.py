"""The headline metrics: name, label, meaning and direction of each, in one entry, in the order of the table."""

from collections.abc import Mapping
from typing import Literal, NamedTuple


class HeadlineMetric(NamedTuple):
    """How a metric is shown, and which way it is better."""

    label: str
    meaning: str
    better: Literal["higher", "lower"] = "higher"

    @property
    def arrow(self) -> str:
        """The way up, or down."""
        return "\u2191" if self.better == "higher" else "\u2193"


HEADLINE: Mapping[str, HeadlineMetric] = {
    "box_ap50": HeadlineMetric("box AP50", "average precision of the detector's boxes at IoU .5, by pycocotools"),
    "mask_ap50": HeadlineMetric("mask AP50", "the same with masks"),
    "mask_miou": HeadlineMetric(
        "mask IoU", "overlap with the best mask of the own class, mean over instances, none is 0"
    ),
    "pim": HeadlineMetric("in mask", "share of the given point or scribble inside the detected mask, none is 0"),
    "colour_accuracy": HeadlineMetric("colour", "the judge names the colour asked for in the given box"),
    "texture_accuracy": HeadlineMetric("texture", "the judge names the texture asked for"),
    "shape_accuracy": HeadlineMetric("shape", "the judge names the shape asked for"),
    "colour_leak": HeadlineMetric(
        "leak", "the judge names a neighbour's colour; on layouts where neighbours touch", "lower"
    ),
    "fid": HeadlineMetric(
        "Fr\u00e9chet", "distance to the real pictures in the judge's features, not Inception's", "lower"
    ),
}


def direction(name: str) -> dict[str, str]:
    """What metrics.json says of which way a metric is better; nothing of those that are not in the table."""
    return {"better": HEADLINE[name].better} if name in HEADLINE else {}
