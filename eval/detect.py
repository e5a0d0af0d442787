"""detect: find instances in the pictures of one row.   pictures -> detections"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import PositiveInt

from eval.inputs import detections, ground_truth
from eval.inputs.pictures import Pictures, Pixels, find
from instdiff import provenance, stage, tables
from instdiff.device import Place
from instdiff.layouts import masks
from instdiff.progress import track
from instdiff.schema import Box, Strict
from instdiff.tables import IMAGES


class Params(Strict):
    """Values of the stage."""

    batch_size: PositiveInt  # pictures
    square: int | None  # pixels a side of what the model draws, where that is not the size of the layout; null: it is
    device: Place


class Detection(Protocol):
    """One thing found."""

    @property
    def category(self) -> str:
        """One of the detector's classes."""

    @property
    def score(self) -> float:
        """How sure, 0 to 1."""

    @property
    def box(self) -> Box:
        """Where, in fractions."""

    @property
    def mask(self) -> masks.Mask:
        """Where, at the picture's size."""


class Detector(Protocol):
    """What this stage asks of a detector."""

    @property
    def classes(self) -> Sequence[str]:
        """All it can find, in a fixed order."""

    def detect(self, pictures: Sequence[Pixels], /) -> Sequence[Sequence[Detection]]:
        """What is in each of the (height, width, 3) pictures."""
        ...


def annotations(detector: Detector, pictures: Pictures, batch_size: int) -> Iterator[dict[str, object]]:
    """COCO results of every picture, in order."""
    ids = {name: place + 1 for place, name in enumerate(detector.classes)}
    starts = range(0, len(pictures.keys), batch_size)
    for start in track(starts, len(starts), "batches"):
        places = range(start, min(start + batch_size, len(pictures.keys)))
        found = detector.detect([pictures.load(place) for place in places])
        for place, ones in zip(places, found, strict=True):
            height, width = pictures.sizes[place]
            for one in ones:
                yield {
                    "image_id": place + 1,
                    "category_id": ids[one.category],
                    "bbox": ground_truth.xywh(one.box, height, width),
                    "score": float(one.score),
                    "segmentation": masks.encode(one.mask).model_dump(),
                }


def write(path: Path, detector: Detector, source: str, pictures: Pictures, params: Params) -> dict[str, int]:
    """Detect, write the file, and count; `source` is the hash of the detector's files."""
    found = list(annotations(detector, pictures, params.batch_size))
    detections.write(path, made_by(pictures, source, params), detector.classes, found)
    with_some = len({one["image_id"] for one in found})
    num_pictures = len(pictures.keys)
    return {"pictures": num_pictures, "detections": len(found), "pictures_without": num_pictures - with_some}


def made_by(pictures: Pictures, source: str, params: Params) -> dict[str, object]:
    """The provenance of a file of detections: two with the same one hold the same detections."""
    return {
        "pictures": pictures.digest,
        "detector": source,
        "settings": params.model_dump(),
        "versions": provenance.versions(),
    }


def run(*, pictures: Path, images: Path, detector: Path, detections: Path, params: Params) -> dict[str, int]:
    """Pictures -> detections"""
    from instdiff.networks import detector as detectors

    found = find(pictures, tables.read(images, IMAGES), params.square)
    return write(detections, detectors.load(detector, params.device), provenance.of_folder(detector), found, params)


if __name__ == "__main__":
    stage.main(run)
