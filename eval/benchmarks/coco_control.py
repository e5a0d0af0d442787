"""COCO's validation set as a benchmark of instance control: what each of its pictures asks for.

From the stock annotations and captions, deterministically: ground truth at one square size (the reference's lies on a
private drive), prompts, phrases, attributes by annotation id, strokes from seeds. Splitting into jobs changes no
picture: noise and strokes hang on the key.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from eval.inputs import coco
from eval.inputs.ground_truth import resized
from instdiff.layouts import masks, strokes
from instdiff.layouts.coco import Image, run_lengths
from instdiff.layouts.formats import RELEASED
from instdiff.randomness import generator
from instdiff.schema import Rle

WORDS = {  # in the reference's order: an annotation's id, modulo 8, chooses
    "colour": ("black", "white", "red", "green", "yellow", "blue", "pink", "purple"),
    "texture": ("rubber", "fluffy", "metallic", "wooden", "plastic", "fabric", "leather", "glass"),
}
Compat = Literal["reference", "ours"]
Record = dict[str, Any]


class Request(NamedTuple):
    """What is to be built."""

    size: int
    attributes: tuple[str, ...]
    compat: Compat
    seed: int
    subset: int | None
    job: tuple[int, int]  # this one, of how many


class ControlPicture(NamedTuple):
    """One picture of the benchmark: its record and annotations in COCO's form, at the benchmark's size."""

    image: Record
    annotations: list[Record]
    size: tuple[int, int]  # width and height of the real picture, by its record


def phrase(category: str, number: int, attributes: Sequence[str]) -> tuple[str, dict[str, str]]:
    """An annotation's phrase and the words in it: the texture stands before the colour, as in the reference."""
    words = {attribute: choice[number % len(choice)] for attribute, choice in WORDS.items() if attribute in attributes}
    return " ".join([*reversed(words.values()), category]), words


def prompt(caption: str, phrases: Sequence[str], compat: Compat) -> str:
    """Caption and phrases; the reference puts nothing between them ("...horse.person, horse")."""
    listed = ", ".join(phrases)
    if compat == "reference":
        return caption + listed
    return " ".join(part for part in (caption.strip(), listed) if part)


def part(count: int, job: int, num_jobs: int) -> slice:
    """The pictures of a job, as the reference splits them: the last jobs may have none."""
    each = count // num_jobs + 1
    return slice(job * each, min((job + 1) * each, count))


def subset(instances: coco.Instances, count: int, seed: int) -> list[int]:
    """Image ids of a sample with the whole's shares of pictures with 0, 1, 2, 3-4, 5-9 and more instances."""
    if not 0 < count <= len(instances.images):
        raise ValueError(f"--subset {count}: there are {len(instances.images)} pictures")
    numbers = dict.fromkeys(sorted(image.id for image in instances.images), 0)
    for annotation in instances.annotations.values():
        numbers[annotation.image_id] += 1
    stratum = {image: int(np.searchsorted([1, 2, 3, 5, 10], number, side="right")) for image, number in numbers.items()}
    shuffled = [int(image) for image in generator(seed, "subset").permutation(list(numbers))]
    ordered = sorted(shuffled, key=stratum.__getitem__)  # stable: strata one after the other, shuffled within
    return sorted(ordered[int(place)] for place in np.floor((np.arange(count) + 0.5) * len(ordered) / count))


def built(instances: coco.Instances, captions: Mapping[int, str] | None, request: Request) -> list[ControlPicture]:
    """The pictures of a request, in the order of their ids; ValueError names an image without a caption."""
    names = {category.id: category.name for category in instances.categories}
    of_image: dict[int, list[coco.CocoInstance]] = {}
    for annotation in instances.annotations.values():
        of_image.setdefault(annotation.image_id, []).append(annotation)
    images = sorted(instances.images, key=lambda image: image.id)
    if request.subset is not None:
        chosen = set(subset(instances, request.subset, request.seed))
        images = [image for image in images if image.id in chosen]
    pictures = []
    for image in images[part(len(images), *request.job)]:
        if captions is not None and image.id not in captions:
            raise ValueError(f"image {image.id} has no caption")
        annotations = [_annotation(image, annotation, names, request) for annotation in of_image.get(image.id, [])]
        caption = "" if captions is None else captions[image.id]
        full_prompt = prompt(caption, [annotation["phrase"] for annotation in annotations], request.compat)
        record = {"id": image.id, "file_name": image.file_name, "width": request.size, "height": request.size}
        pictures.append(ControlPicture(record | {"caption": full_prompt}, annotations, (image.width, image.height)))
    return pictures


def rows(picture: ControlPicture, names: Mapping[int, str], seed: int, compat: Compat) -> tuple[Record, list[Record]]:
    """A picture's row of IMAGES and the rows of ANNOTATED of its first instances, with strokes from (seed, key).

    The reference shows the model a picture's only mask as its uppermost row, repeated in every row.
    """
    key, size = Path(picture.image["file_name"]).stem, picture.image["width"]
    image = {
        "key": key,
        "group": "mixed",
        "file": f"{key}.png",
        "width": size,
        "height": size,
        "caption": picture.image["caption"],
        "sha256": "",
    }
    first = enumerate(picture.annotations[: RELEASED.max_instances])
    instances = [
        _row(key, place, annotation, names[annotation["category_id"]], size, seed) for place, annotation in first
    ]
    if compat == "reference" and len(instances) == 1 and instances[0]["mask"] is not None:
        mask_HW = masks.decode(Rle(size=(size, size), counts=instances[0]["mask"]))
        instances[0]["mask"] = masks.encode(np.broadcast_to(mask_HW[:1], mask_HW.shape)).counts
    return image, instances


def _annotation(image: Image, annotation: coco.CocoInstance, names: Mapping[int, str], request: Request) -> Record:
    """An annotation at the benchmark's size, with its phrase; polygons and boxes are scaled, run lengths resampled."""
    across, down = request.size / image.width, request.size / image.height
    text, words = phrase(names[annotation.category_id], annotation.id, request.attributes)
    x, y, width, height = annotation.bbox
    scaled: Record = {
        "id": annotation.id,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "iscrowd": annotation.iscrowd,
        "bbox": _rounded([x * across, y * down, width * across, height * down]),
        "segmentation": _scaled(image, annotation, request.size),
        "phrase": text,
        **words,
    }
    if annotation.area is not None:
        scaled["area"] = round(annotation.area * across * down, 4)
    if annotation.point is not None:
        scaled["point"] = _rounded([annotation.point[0] * across, annotation.point[1] * down])
    return scaled


def _scaled(image: Image, annotation: coco.CocoInstance, size: int) -> object:
    if isinstance(annotation.segmentation, list):
        factors = size / image.width, size / image.height
        return [_rounded(np.reshape(polygon, (-1, 2)) * factors) for polygon in annotation.segmentation]
    try:
        rle = run_lengths(annotation, image.height, image.width)
    except ValueError as error:
        raise ValueError(f"annotation {annotation.id}: {error}") from error
    return None if rle is None else masks.encode(resized(masks.decode(rle), size, size)).model_dump()


def _row(key: str, place: int, record: Record, category: str, size: int, seed: int) -> Record:
    annotation = coco.CocoInstance.model_validate(record)
    rle = run_lengths(annotation, size, size)
    x, y, width, height = annotation.bbox
    point = annotation.point or [x + width / 2, y + height / 2]
    stroke_columns: dict[str, object] = {"scribble": None, "outline": None}
    num_scribble, num_outline = RELEASED.num_scribble_points, RELEASED.num_outline_points
    if rle is not None:
        mask_HW = masks.decode(rle)
        stroke_columns = {
            "scribble": _flat(strokes.scribble(mask_HW, num_scribble, generator(seed, "scribble", key, place))),
            "outline": _flat(strokes.outline(mask_HW, num_outline, generator(seed, "outline", key, place))),
        }
    return {
        "key": key,
        "index": place,
        "category": category,
        "box": [x / size, y / size, (x + width) / size, (y + height) / size],
        "score": 1.0,
        "mask": None if rle is None else rle.counts,
        "caption": record["phrase"],
        "backend": "coco",
        "point": [edge / size for edge in point],
        **stroke_columns,
        "colour": record.get("colour"),
        "texture": record.get("texture"),
    }


def _flat(points: strokes.Points | None) -> list[float] | None:
    return None if points is None else [float(edge) for edge in points.ravel()]


def _rounded(values: Any) -> list[float]:
    """To a ten-thousandth of a pixel: the same text whatever the machine."""
    return [round(float(value), 4) for value in np.ravel(values)]
