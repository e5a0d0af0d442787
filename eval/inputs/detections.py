"""The file of detections: COCO's results with, in the same file, the pictures and the detector they come from.

{"provenance": {"pictures": hash, "detector": hash, ...}, "categories": [{"id", "name"}],
 "annotations": [{"image_id", "category_id", "bbox": [x, y, width, height] in pixels, "score", "segmentation": RLE}]}

image_id is the position of the picture's key in the images table + 1. What comes from outside is checked here,
record by record, before a number is computed from it.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pycocotools import mask as coco
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from instdiff.files import atomic, provenance
from instdiff.files.texts import first_fault, read_json
from instdiff.layouts import masks
from instdiff.layouts.coco import Finite, Whole
from instdiff.schema import Rle, Strict


class DetectorClass(Strict):
    """A class of the detector."""

    id: Whole
    name: str


class DetectionRecord(Strict):
    """One detection. Other fields that COCO's tools add are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image_id: Whole
    category_id: Whole
    bbox: Annotated[list[Finite], Field(min_length=4, max_length=4)]
    score: Annotated[Finite, Field(ge=0.0, le=1.0)]
    segmentation: Rle | None = None


@dataclass(frozen=True)
class Detections:
    """All detections of a set of pictures, by picture, each picture's by falling score, equals by their content."""

    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    annotations: tuple[DetectionRecord, ...]
    digest: str  # of the file

    @property
    def has_masks(self) -> bool:
        """Whether every detection has a mask; true where there is no detection."""
        return all(annotation.segmentation is not None for annotation in self.annotations)

    @functools.cached_property
    def in_coco(self) -> list[dict[str, object]]:
        """COCO's annotations, numbered from 1, area that of the mask or, where there is none, of the box."""
        return [_coco(number, annotation) for number, annotation in enumerate(self.annotations, start=1)]


def write(path: Path, made_by: Mapping[str, object], classes: Sequence[str], annotations: Sequence[object]) -> None:
    """Write the file, one detection a line; `made_by` is its provenance."""
    lines = ",\n".join(json.dumps(annotation, separators=(",", ":")) for annotation in annotations)
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(classes)]
    with atomic.file(path) as part:
        part.write_text(
            f'{{"provenance": {json.dumps(made_by, sort_keys=True)},\n'
            f'"categories": {json.dumps(categories)},\n"annotations": [\n{lines}\n]}}\n'
        )


def read(path: Path, sizes: Sequence[tuple[int, int]]) -> Detections:
    """Read and check a file of detections on pictures of these heights and widths.

    ValueError names the file, the record and the field that is wrong.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"provenance", "categories", "annotations"} <= content.keys():
        raise ValueError(f"{path}: must be an object with provenance, categories and annotations")
    if not isinstance(content["provenance"], dict):
        raise ValueError(f"{path}: provenance must be an object")
    classes = _classes(path, _validated(path, "categories", list[DetectorClass], content["categories"]))
    annotations = _validated(path, "annotations", list[DetectionRecord], content["annotations"])
    return checked(path, content["provenance"], classes, annotations, sizes)


def checked(
    path: Path,
    made_by: Mapping[str, Any],
    classes: tuple[str, ...],
    annotations: Sequence[DetectionRecord],
    sizes: Sequence[tuple[int, int]],
) -> Detections:
    """The detections of a file whose records have been read; ValueError names the record that is wrong."""
    for place, annotation in enumerate(annotations):
        try:
            _check(annotation, len(classes), sizes)
        except ValueError as error:
            raise ValueError(f"{path}: annotations.{place}: {error}") from error
    without = sum(annotation.segmentation is None for annotation in annotations)
    if 0 < without < len(annotations):
        raise ValueError(f"{path}: {without} of {len(annotations)} detections have no segmentation: all or none")
    return Detections(made_by, classes, tuple(sorted(annotations, key=_order)), provenance.of_file(path))


def _order(annotation: DetectionRecord) -> tuple[object, ...]:
    """What detections are sorted by: all they say, so that the order of a file's records changes no number."""
    counts = "" if annotation.segmentation is None else annotation.segmentation.counts
    return annotation.image_id, -annotation.score, annotation.category_id, annotation.bbox, counts


def _validated(path: Path, field: str, kind: Any, value: object) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{path}: {field}.{first_fault(error)}") from error


def _classes(path: Path, categories: Sequence[DetectorClass]) -> tuple[str, ...]:
    """The names by id; the ids must be 1, 2, ... and the names distinct."""
    names = tuple(category.name for category in sorted(categories, key=lambda category: category.id))
    if [category.id for category in sorted(categories, key=lambda category: category.id)] != list(
        range(1, len(names) + 1)
    ):
        raise ValueError(f"{path}: categories: ids must be 1 to {len(names)}, each once")
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: categories: a name stands twice")
    return names


def _check(annotation: DetectionRecord, num_classes: int, sizes: Sequence[tuple[int, int]]) -> None:
    if not 1 <= annotation.image_id <= len(sizes):
        raise ValueError(f"image_id {annotation.image_id} is not one of the {len(sizes)} pictures")
    if not 1 <= annotation.category_id <= num_classes:
        raise ValueError(f"category_id {annotation.category_id} is not one of the {num_classes} categories")
    if annotation.bbox[2] < 0 or annotation.bbox[3] < 0 or not math.isfinite(sum(annotation.bbox)):
        raise ValueError("bbox has a negative width or height")
    if annotation.segmentation is None:
        return
    if annotation.segmentation.size != sizes[annotation.image_id - 1]:
        raise ValueError(
            f"segmentation.size {annotation.segmentation.size} is not the picture's {sizes[annotation.image_id - 1]}"
        )
    masks.checked(annotation.segmentation)  # refuses run lengths that do not add up


def _coco(number: int, annotation: DetectionRecord) -> dict[str, object]:
    record = {
        "id": number,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "bbox": annotation.bbox,
        "score": annotation.score,
        "iscrowd": 0,
        "area": annotation.bbox[2] * annotation.bbox[3],
    }
    if annotation.segmentation is None:
        return record
    segmentation = annotation.segmentation.model_dump()
    return record | {"segmentation": segmentation, "area": float(coco.area(segmentation))}
