"""detect: find instances in the pictures of one row.   pictures -> detections"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydantic import PositiveInt

from eval.finders import choice
from eval.finders.choice import Choice, Vocabulary
from eval.finders.finder import Finder
from eval.inputs import detections, ground_truth
from eval.inputs.pictures import Pictures, find
from instdiff import provenance, stage, tables
from instdiff.layouts import masks
from instdiff.progress import track
from instdiff.tables import ANNOTATED, IMAGES


class Params(Choice):
    """Values of the stage."""

    batch_size: PositiveInt  # pictures
    square: int | None  # pixels a side of what the model draws, where that is not the size of the layout; null: it is


def annotations(
    finder: Finder, pictures: Pictures, vocabulary: Vocabulary, batch_size: int
) -> Iterator[dict[str, object]]:
    """COCO results of every picture, in order; without segmentation where the finder gives no masks."""
    ids = {name: place + 1 for place, name in enumerate(vocabulary.classes)}
    starts = range(0, len(pictures.keys), batch_size)
    for start in track(starts, len(starts), "batches"):
        places = range(start, min(start + batch_size, len(pictures.keys)))
        pixels = [pictures.load(place) for place in places]
        seen = finder.find(pixels, [vocabulary.of_pictures[place] for place in places])
        for place, in_picture in zip(places, seen, strict=True):
            height, width = pictures.sizes[place]
            for one in in_picture:
                yield {
                    "image_id": place + 1,
                    "category_id": ids[one.category],
                    "bbox": ground_truth.xywh(one.box, height, width),
                    "score": float(one.score),
                } | ({} if one.mask is None else {"segmentation": masks.encode(one.mask).model_dump()})


def write(
    path: Path, finder: Finder, pictures: Pictures, vocabulary: Vocabulary, made_by: dict[str, object], batch_size: int
) -> dict[str, int]:
    """Detect, write the file, and count; `made_by` is the file's provenance."""
    results = list(annotations(finder, pictures, vocabulary, batch_size))
    detections.write(path, made_by, vocabulary.classes, results)
    with_some = len({one["image_id"] for one in results})
    num_pictures = len(pictures.keys)
    return {"pictures": num_pictures, "detections": len(results), "pictures_without": num_pictures - with_some}


def made_by(pictures: Pictures, instances: pd.DataFrame, source: str, params: Params) -> dict[str, object]:
    """The provenance of a file of detections: two with the same one hold the same detections.

    `source` is `params.digest(...)`, the hash of everyone who has a say; `instances` have key and category.
    """
    asked = (
        {} if params.finder == "yolo" else {"phrases": choice.vocabulary(None, pictures.keys, instances, params).digest}
    )
    return {
        "pictures": pictures.digest,
        "detector": source,
        "settings": params.used() | params.model_dump(include={"batch_size", "square"}),
        "versions": provenance.versions(),
        **asked,
    }


def detected(path: Path, pictures: Pictures, instances: pd.DataFrame, detector: Path, params: Params) -> dict[str, int]:
    """Load the finder that params choose, detect, write the file and count; `detector` is YOLO's folder."""
    source = made_by(pictures, instances, params.digest(detector), params)
    finder = choice.load(params, detector)
    searched = choice.vocabulary(finder.classes, pictures.keys, instances, params)
    return write(path, finder, pictures, searched, source, params.batch_size)


def run(
    *, pictures: Path, images: Path, annotated: Path, detector: Path, detections: Path, params: Params
) -> dict[str, int]:
    """Pictures -> detections"""
    judged = find(pictures, tables.read(images, IMAGES), params.square)
    return detected(detections, judged, tables.read(annotated, ANNOTATED), detector, params)


if __name__ == "__main__":
    stage.main(run)
