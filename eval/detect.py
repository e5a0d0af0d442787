"""detect: find instances in the pictures of one row.   pictures -> detections

Each batch is stored as soon as it is done, by whichever executor: a kill costs the batches in flight.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from pydantic import PositiveInt

from eval.inputs import detections, ground_truth
from eval.inputs import vocabulary as vocabularies
from eval.inputs.pictures import Pictures, Pixels, Size, find, read
from eval.inputs.vocabulary import DetectionVocabulary
from instdiff import stage
from instdiff.files import provenance, tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.networks.device import Place
from instdiff.networks.finders import choice
from instdiff.networks.finders.choice import Choice
from instdiff.networks.finders.finder import Detection, Finder
from instdiff.work import parts, resume
from instdiff.work.parts import Answer, Work

DETECTIONS = pa.schema(  # COCO's fields of a detection; counts are null where the finder gives no mask
    {
        "category_id": pa.int32(),
        "bbox": pa.list_(pa.float64()),
        "score": pa.float64(),
        "counts": pa.string(),
        "key": pa.string(),
    }
)


class Params(Choice):
    """Values of the stage."""

    batch_size: PositiveInt  # pictures
    square: int | None  # pixels a side of what the model draws, where that is not the size of the layout; null: it is
    device: Place
    work: Work


class PictureQuery(NamedTuple):
    """A picture, and the phrases to search for in it."""

    key: str
    path: Path
    stated: Size  # by the images table
    phrases: tuple[str, ...]

    def pixels(self) -> Pixels:
        """Its pixels, RGB."""
        return read(self.path, self.stated)


@dataclass(frozen=True)
class ChosenFinder:
    """The finder that params choose, loaded by each process that needs it, so that it can be sent to others."""

    digest: str  # of all weights and settings
    params: Params = field(compare=False)
    detector: Path = field(compare=False)

    @property
    def classes(self) -> Sequence[str] | None:
        """All it can find, where that is a fixed list."""
        return choice.classes(self.params, self.detector)

    def find(self, pictures: Sequence[Pixels], phrases: Sequence[Sequence[str]]) -> Sequence[Sequence[Detection]]:
        """The detections of each picture's phrases."""
        return _loaded(self).find(pictures, phrases)


@lru_cache(maxsize=1)
def _loaded(finder: ChosenFinder) -> Finder:
    return choice.load(finder.params, finder.detector, finder.params.device.settled())


@dataclass(frozen=True)
class Search:
    """Finds what is in the pictures of a batch."""

    finder: Finder
    classes: tuple[str, ...]

    def __call__(self, batch: Sequence[PictureQuery]) -> Iterator[Answer]:
        """A row a detection."""
        ids = {name: place + 1 for place, name in enumerate(self.classes)}
        pixels = [query.pixels() for query in batch]
        seen = self.finder.find(pixels, [query.phrases for query in batch])
        for query, picture, detections_D in zip(batch, pixels, seen, strict=True):
            height, width = picture.shape[:2]
            rows = [
                {
                    "key": query.key,
                    "category_id": ids[each.category],
                    "bbox": list(ground_truth.xywh(each.box, height, width)),
                    "score": float(each.score),
                    "counts": None if each.mask is None else masks.encode(each.mask).counts,
                }
                for each in detections_D
            ]
            yield Answer(query.key, rows, [])


def annotations(
    finder: Finder, pictures: Pictures, vocabulary: DetectionVocabulary, params: Params, scratch: Path
) -> list[dict[str, Any]]:
    """COCO results of every picture, in order; finished batches lie in `scratch`."""
    queries = [
        PictureQuery(*each)
        for each in zip(pictures.keys, pictures.paths, pictures.stated, vocabulary.of_pictures, strict=True)
    ]
    batches = [queries[start : start + params.batch_size] for start in range(0, len(queries), params.batch_size)]
    done = parts.cut_into(batches, Search(finder, vocabulary.classes), scratch, DETECTIONS, params.work)
    parts.make_all(done, params.work)
    place_of = {key: place for place, key in enumerate(pictures.keys)}
    results: list[dict[str, Any]] = []
    for row in parts.joined([part.rows() for part in done], DETECTIONS).to_pylist():
        place, counts = place_of[row.pop("key")], row.pop("counts")
        mask = {} if counts is None else {"segmentation": {"size": pictures.sizes[place], "counts": counts}}
        results.append({"image_id": place + 1, **row, **mask})
    return results


def write(
    path: Path,
    finder: Finder,
    pictures: Pictures,
    vocabulary: DetectionVocabulary,
    made_by: dict[str, object],
    params: Params,
) -> dict[str, int]:
    """Detect, write the file, and count; `made_by` is the file's provenance."""
    scratch = resume.folder(resume.digest(__name__, params, repr(made_by), vocabulary.digest))
    results = annotations(finder, pictures, vocabulary, params, scratch)
    detections.write(path, made_by, vocabulary.classes, results)
    resume.clear(scratch)
    with_some = len({each["image_id"] for each in results})
    num_pictures = len(pictures.keys)
    return {"pictures": num_pictures, "detections": len(results), "pictures_without": num_pictures - with_some}


def made_by(pictures: Pictures, instances: pd.DataFrame, source: str, params: Params) -> dict[str, object]:
    """The provenance of a file of detections: two with the same one hold the same detections.

    `source` is `params.digest(...)`, the hash of everyone who has a say; `instances` have key and category.
    """
    phrases: dict[str, object] = {}
    if params.finder != "yolo":
        phrases = {"phrases": vocabularies.vocabulary(None, pictures.keys, instances, params).digest}
    return {
        "pictures": pictures.digest,
        "detector": source,
        "settings": params.used() | params.model_dump(include={"batch_size", "square", "device"}),
        "versions": provenance.versions(),
        **phrases,
    }


def detected(path: Path, pictures: Pictures, instances: pd.DataFrame, detector: Path, params: Params) -> dict[str, int]:
    """Let the finder that params choose detect, write the file and count; `detector` is YOLO's folder."""
    digest = params.digest(detector)
    finder = ChosenFinder(digest, params, detector)
    vocabulary = vocabularies.vocabulary(finder.classes, pictures.keys, instances, params)
    return write(path, finder, pictures, vocabulary, made_by(pictures, instances, digest, params), params)


def run(
    *, pictures: Path, images: Path, annotated: Path, detector: Path, detections: Path, params: Params
) -> dict[str, int]:
    """Pictures -> detections"""
    judged = find(pictures, tables.read(images, IMAGES), params.square)
    return detected(detections, judged, tables.read(annotated, ANNOTATED), detector, params)


if __name__ == "__main__":
    stage.main(run)
