"""detect: find instances in the pictures of one row.   pictures -> detections

Each batch is kept once it is done, whoever does it: a kill costs the batches in flight.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from pydantic import PositiveInt

from eval.inputs import detections, ground_truth
from eval.inputs.pictures import Pictures, Pixels, Size, find, read
from instdiff import provenance, stage, tables
from instdiff.device import Place
from instdiff.layouts import masks
from instdiff.schema import Box, Strict
from instdiff.tables import IMAGES
from instdiff.work import parts, resume
from instdiff.work.parts import Answer, Work

FOUND = pa.schema(  # COCO's fields of a detection
    {
        "category_id": pa.int32(),
        "bbox": pa.list_(pa.float64()),
        "score": pa.float64(),
        "counts": pa.string(),
        "key": pa.string(),
    }
)


class Params(Strict):
    """Values of the stage."""

    batch_size: PositiveInt  # pictures
    square: int | None  # pixels a side of what the model draws, where that is not the size of the layout; null: it is
    device: Place
    work: Work


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


class Shown(NamedTuple):
    """A picture to look at."""

    key: str
    path: Path
    stated: Size  # by the images table

    def pixels(self) -> Pixels:
        """Its pixels, RGB."""
        return read(self.path, self.stated)


@dataclass(frozen=True)
class DetectorOfFolder:
    """The detector of a folder, which a process loads when it first looks; it can be sent to other processes."""

    digest: str
    folder: Path = field(compare=False)
    where: Place

    @property
    def classes(self) -> Sequence[str]:
        """All it can find."""
        return _loaded(self).classes

    def detect(self, pictures: Sequence[Pixels]) -> Sequence[Sequence[Detection]]:
        """What is in each of the pictures."""
        return _loaded(self).detect(pictures)


@lru_cache(maxsize=1)
def _loaded(detector: DetectorOfFolder) -> Detector:
    from instdiff.networks import detector as detectors

    return detectors.load(detector.folder, detector.where)


@dataclass(frozen=True)
class Search:
    """Finds what is in the pictures of a batch."""

    detector: Detector

    def __call__(self, batch: Sequence[Shown]) -> Iterator[Answer]:
        """A row a detection."""
        ids = {name: place + 1 for place, name in enumerate(self.detector.classes)}
        pixels = [shown.pixels() for shown in batch]
        for shown, picture, detections_D in zip(batch, pixels, self.detector.detect(pixels), strict=True):
            height, width = picture.shape[:2]
            rows = [
                {
                    "key": shown.key,
                    "category_id": ids[each.category],
                    "bbox": list(ground_truth.xywh(each.box, height, width)),
                    "score": float(each.score),
                    "counts": masks.encode(each.mask).counts,
                }
                for each in detections_D
            ]
            yield Answer(shown.key, rows, [])


def annotations(
    detector: Detector, pictures: Pictures, batch_size: int, work: Work, scratch: Path
) -> list[dict[str, Any]]:
    """COCO results of every picture, in order; finished batches lie in `scratch`."""
    places = range(len(pictures.keys))
    shown = [Shown(pictures.keys[place], pictures.paths[place], pictures.stated[place]) for place in places]
    batches = [shown[start : start + batch_size] for start in range(0, len(shown), batch_size)]
    done = parts.cut_into(batches, Search(detector), scratch, FOUND, work)
    parts.make_all(done, work)
    place_of = {key: place for place, key in enumerate(pictures.keys)}
    found: list[dict[str, Any]] = []
    for row in parts.joined([part.rows() for part in done], FOUND).to_pylist():
        place, counts = place_of[row.pop("key")], row.pop("counts")
        segmentation = {"size": pictures.sizes[place], "counts": counts}
        found.append({"image_id": place + 1, **row, "segmentation": segmentation})
    return found


def write(path: Path, detector: Detector, source: str, pictures: Pictures, params: Params) -> dict[str, int]:
    """Detect, write the file, and count; `source` is the hash of the detector's files."""
    scratch = resume.folder(resume.digest(__name__, params, pictures.digest, source))
    found = annotations(detector, pictures, params.batch_size, params.work, scratch)
    detections.write(path, made_by(pictures, source, params), detector.classes, found)
    resume.clear(scratch)
    with_some = len({each["image_id"] for each in found})
    num_pictures = len(pictures.keys)
    return {"pictures": num_pictures, "detections": len(found), "pictures_without": num_pictures - with_some}


def made_by(pictures: Pictures, source: str, params: Params) -> dict[str, object]:
    """The provenance of a file of detections: two with the same one hold the same detections."""
    return {
        "pictures": pictures.digest,
        "detector": source,
        "settings": params.model_dump(exclude={"work"}),
        "versions": provenance.versions(),
    }


def run(*, pictures: Path, images: Path, detector: Path, detections: Path, params: Params) -> dict[str, int]:
    """Pictures -> detections"""
    found = find(pictures, tables.read(images, IMAGES), params.square)
    source = provenance.of_folder(detector)
    return write(detections, DetectorOfFolder(source, detector, params.device), source, found, params)


if __name__ == "__main__":
    stage.main(run)
