"""COCO's annotation files, checked at the door, and as ground truth.

What COCO tools write is taken as it stands: polygons, run lengths compressed or not, crowds, areas, category ids
with gaps. Instances keep the file's order; images are in the order of their ids, as the reference sorts them.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from eval.inputs.ground_truth import GroundTruth, joined
from instdiff import provenance
from instdiff.layouts import masks
from instdiff.schema import Box, Rle, Strict

Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=100_000)]
Bbox = Annotated[list[Finite], Field(min_length=4, max_length=4)]
Polygon = Annotated[list[Finite], Field(min_length=6)]


class _Foreign(Strict):
    """A record of another tool's: fields not named here are let be."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Image(_Foreign):
    """A picture. `caption` is its prompt, which files of ours state."""

    id: int
    file_name: str
    width: Side
    height: Side
    caption: str = ""


class Category(_Foreign):
    """A class."""

    id: int
    name: str


class RunLengths(_Foreign):
    """A mask, compressed (a string) or not (numbers)."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, Field(ge=0)]]


class Instance(_Foreign):
    """An annotation of instances_*.json.

    `point` and `scribble`, in pixels, are what the reference's own file adds; files of ours state the phrase, too.
    """

    id: int
    image_id: int
    category_id: int
    bbox: Bbox
    segmentation: list[Polygon] | RunLengths | None = None
    area: Annotated[Finite, Field(ge=0)] | None = None
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0
    point: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    scribble: list[Finite] | None = None
    phrase: str | None = None
    colour: str | None = None
    texture: str | None = None


class Caption(_Foreign):
    """An annotation of captions_*.json."""

    id: int
    image_id: int
    caption: str


class Info(_Foreign):
    """What files of ours say of themselves: whether all of the benchmark's pictures are there."""

    comparable: bool = True


class Instances(_Foreign):
    """instances_*.json."""

    info: Info = Info()
    images: list[Image]
    annotations: list[Instance]
    categories: list[Category]


class Captions(_Foreign):
    """captions_*.json."""

    annotations: list[Caption]


def read_instances(path: Path) -> Instances:
    """Read and check instances_*.json; ValueError names the file, the record and the field."""
    content: Instances = _read(path, Instances)
    _once(path, "images", [one.id for one in content.images])
    _once(path, "images", [key(one) for one in content.images])
    _once(path, "annotations", [one.id for one in content.annotations])
    _once(path, "categories", [one.id for one in content.categories])
    _once(path, "categories", [one.name for one in content.categories])
    sizes = {one.id: (one.height, one.width) for one in content.images}
    known = {one.id for one in content.categories}
    for place, image in enumerate(content.images):
        if image.height * image.width > masks.MAX_PIXELS:
            raise ValueError(f"{path}: images.{place}: {image.width}x{image.height} pixels are no picture's")
    for place, one in enumerate(content.annotations):
        where = f"{path}: annotations.{place}"
        if one.image_id not in sizes:
            raise ValueError(f"{where}: image_id {one.image_id} is not among the images")
        if one.category_id not in known:
            raise ValueError(f"{where}: category_id {one.category_id} is not among the categories")
        if one.bbox[2] < 0 or one.bbox[3] < 0:
            raise ValueError(f"{where}: bbox has a negative width or height")
        if one.scribble is not None and len(one.scribble) % 2:
            raise ValueError(f"{where}: scribble has {len(one.scribble)} numbers: x, y, x, y, ... is meant")
        if isinstance(one.segmentation, RunLengths) and one.segmentation.size != sizes[one.image_id]:
            raise ValueError(f"{where}: segmentation.size {one.segmentation.size} is not the image's")
        if isinstance(one.segmentation, list):
            _check_polygons(one.segmentation, sizes[one.image_id], where)
    return content


def _check_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int], where: str) -> None:
    """Corners may lie a little outside; far outside, pycocotools would draw the whole way there."""
    height, width = size
    for polygon in polygons:
        if len(polygon) % 2:
            raise ValueError(f"{where}: segmentation: a polygon has {len(polygon)} numbers: x, y, x, y, ... is meant")
        xs, ys = polygon[::2], polygon[1::2]
        if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
            raise ValueError(f"{where}: segmentation: a polygon lies far outside the {width}x{height} picture")


def read_captions(path: Path) -> dict[int, str]:
    """The first caption of each image id, in the file's order."""
    content: Captions = _read(path, Captions)
    first: dict[int, str] = {}
    for one in content.annotations:
        first.setdefault(one.image_id, one.caption)
    return first


def is_coco(path: Path) -> bool:
    """Whether a JSON file holds COCO's annotations rather than layouts."""
    content = _json(path)
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def key(image: Image) -> str:
    """The name that a picture of this image goes by: its file's, without folder and suffix."""
    return PurePath(image.file_name).stem


def run_lengths(one: Instance, height: int, width: int) -> Rle | None:
    """The mask of an annotation at its image's size, pieces joined; None where it has none."""
    if one.segmentation is None or one.segmentation == []:
        return None
    if isinstance(one.segmentation, list):
        joined_up = coco.merge(coco.frPyObjects(one.segmentation, height, width))
    elif isinstance(one.segmentation.counts, list):
        if sum(one.segmentation.counts) != height * width:
            raise ValueError(f"segmentation.counts cover {sum(one.segmentation.counts)} of {height * width} pixels")
        joined_up = coco.frPyObjects(one.segmentation.model_dump(), height, width)
    else:
        rle = Rle(size=one.segmentation.size, counts=one.segmentation.counts)
        masks.checked(rle)
        return rle
    return Rle(size=(height, width), counts=joined_up["counts"].decode("ascii"))


def ground_truth(path: Path) -> GroundTruth:
    """COCO's annotations as ground truth; boxes are kept as they are, beyond the picture, too."""
    content = read_instances(path)
    images = sorted(content.images, key=lambda one: one.id)
    names = {one.id: one.name for one in content.categories}
    of_image: dict[int, list[tuple[int, Instance]]] = {}
    for place, one in enumerate(content.annotations):
        of_image.setdefault(one.image_id, []).append((place, one))
    rows = []
    for image in images:
        for index, (place, one) in enumerate(of_image.get(image.id, [])):
            try:
                row = _row(image, one, names[one.category_id])
            except ValueError as error:
                raise ValueError(f"{path}: annotations.{place}: {error}") from error
            rows.append({"key": key(image), "index": index, **row})
    pictures = [
        {
            "key": key(one),
            "group": "mixed",
            "file": one.file_name,
            "width": one.width,
            "height": one.height,
            "caption": one.caption,
            "sha256": "",
        }
        for one in images
    ]
    return joined(pd.DataFrame(pictures), pd.DataFrame(rows), {"layouts": provenance.of_file(path)}, path)


def _row(image: Image, one: Instance, category: str) -> dict[str, object]:
    x, y, width, height = one.bbox
    rle = run_lengths(one, image.height, image.width)
    scale = (image.width, image.height)
    box = Box(x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height)
    return {
        "category": category,
        "box": list(box),
        "mask": None if rle is None else rle.counts,
        "caption": category if one.phrase is None else one.phrase,
        "colour": one.colour,
        "texture": one.texture,
        "point": list(box.centre) if one.point is None else [a / b for a, b in zip(one.point, scale, strict=True)],
        "scribble": None if one.scribble is None else list((np.reshape(one.scribble, (-1, 2)) / scale).ravel()),
        "crowd": bool(one.iscrowd),
        "area": np.nan if one.area is None else one.area,
    }


def _read(path: Path, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{path}: {place}: {first['msg']}") from error


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    return content


def _once(path: Path, field: str, names: Sequence[object]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {field}: {twice[0]!r} stands twice")
