"""COCO's plain list of results, as any detector's tool writes it.

[{"image_id", "category_id", "bbox": [x, y, width, height] in pixels, "score", "segmentation": RLE}, ...]

image_id is the id of a COCO image or the name of its file, each as a number or a string; a number also names the file
that is it padded with zeros (10 for 0010.png). A string that is one picture's name and another's id is refused, and so
is a `file_name` that is not the picture's. category_id is the id in the ground truth's categories. The list does not
say which pictures it was made on, so nothing can hold it to them but the sizes of its masks: `provenance` says so.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from eval.inputs import coco, detections
from eval.inputs.detections import DetectionRecord, Detections
from eval.inputs.pictures import Pictures
from instdiff.files import tables
from instdiff.files.texts import first_fault, read_json

UNKNOWN = "unknown: a plain list of results does not say"


class ResultRecord(DetectionRecord):
    """One line of the list."""

    image_id: int | str  # type: ignore[assignment]
    file_name: str | None = None
    score: Annotated[float, Field(ge=0.0, le=1.0)]


def read(path: Path, pictures: Pictures, classes: Mapping[int, str] | None, image_ids: Mapping[int, str]) -> Detections:
    """Read detections of either form.

    `classes` are the names by category id and `image_ids` the keys by image id that the ground truth states: COCO's
    does, others do not, and then only our own form can be read.
    """
    content = read_json(path)
    if not isinstance(content, list):
        return detections.read(path, pictures.sizes)
    if classes is None:
        raise ValueError(f"{path}: a plain list of results needs COCO's ground truth, which names its category ids")
    try:
        results = TypeAdapter(list[ResultRecord]).validate_python(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_fault(error)}") from error
    numbers = {number: place for place, number in enumerate(sorted(classes), start=1)}
    places = {name: place for place, name in enumerate(pictures.keys, start=1)}
    annotations = [_placed(path, at, record, numbers, places, image_ids) for at, record in enumerate(results)]
    names = tuple(classes[number] for number in sorted(classes))
    return detections.checked(path, {"pictures": None, "detector": UNKNOWN}, names, annotations, pictures.sizes)


def _placed(
    path: Path,
    at: int,
    record: ResultRecord,
    numbers: Mapping[int, int],
    places: Mapping[str, int],
    image_ids: Mapping[int, str],
) -> DetectionRecord:
    """The record with our own numbers for its picture and its class."""
    try:
        name = _name(record.image_id, places, image_ids)
    except ValueError as error:
        raise ValueError(f"{path}: {at}: {error}") from error
    if record.file_name is not None and PurePosixPath(record.file_name.replace("\\", "/")).stem != name:
        raise ValueError(
            f"{path}: {at}: file_name {record.file_name!r} is not that of image_id {record.image_id!r}, {name!r}"
        )
    if record.category_id not in numbers:
        raise ValueError(
            f"{path}: {at}: category_id {record.category_id} is not among the ground truth's categories"
            f" ({min(numbers)} to {max(numbers)}, {len(numbers)} of them): are these positions instead of ids?"
        )
    fields: dict[str, Any] = record.model_dump(exclude={"image_id", "category_id", "file_name"})
    return DetectionRecord(image_id=places[name], category_id=numbers[record.category_id], **fields)


def _name(image_id: int | str, places: Mapping[str, int], image_ids: Mapping[int, str]) -> str:
    """The name of the picture that is meant; ValueError where there is none, or two."""
    number = int(image_id) if str(image_id).strip().isdecimal() else None
    by_id = None if number is None else image_ids.get(number)
    if isinstance(image_id, str) and image_id in places:
        if by_id not in (None, image_id):
            raise ValueError(f"image_id {image_id!r} is the name of one picture and the id of another, {by_id!r}")
        return image_id
    padded = [name for name in places if number is not None and name.isdecimal() and int(name) == number]
    candidates = [by_id] if by_id is not None else padded
    if len(candidates) != 1 or candidates[0] not in places:
        raise ValueError(f"image_id {image_id!r} is not one of the {len(places)} pictures")
    return candidates[0]


def has_ids(path: Path) -> bool:
    """Whether the ground truth of this file names the ids of its categories and images."""
    return not tables.is_table(path) and coco.is_coco(path)


def of_coco(content: coco.Instances) -> tuple[dict[int, str], dict[int, str]]:
    """Names by category id and keys by image id, as COCO's ground truth states them."""
    return {category.id: category.name for category in content.categories}, {
        image.id: image.key for image in content.images
    }


def subset(path: Path) -> bool:
    """Whether the ground truth of this file says that it is a part of a benchmark."""
    return has_ids(path) and not coco.is_comparable(path)
