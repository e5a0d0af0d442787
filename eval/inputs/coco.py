"""COCO's annotation files as ground truth.

Instances keep the file's order; images are in the order of their ids, as the reference sorts them. Here a record that
cannot be taken ends the reading: a benchmark without it would be another one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from eval.inputs.ground_truth import GroundTruth, joined
from instdiff.files import provenance
from instdiff.files.texts import read_json
from instdiff.layouts import coco
from instdiff.layouts.coco import Annotation, Fault, Finite, Image, Page, Region
from instdiff.schema import Box


class CocoInstance(Region, Annotation):
    """An annotation of instances_*.json.

    `point` and `scribble`, in pixels, are what the reference's own file adds; files of ours state the phrase, too.
    """

    area: Annotated[Finite, Field(ge=0)] | None = None
    point: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    scribble: list[Finite] | None = None
    phrase: str | None = None
    colour: str | None = None
    texture: str | None = None


Instances = Page[CocoInstance]


def read_instances(path: Path) -> Instances:
    """Read and check instances_*.json; ValueError names the file, the record and the field."""
    content = coco.read(read_json(path), str(path), CocoInstance)
    _refuse(path, content.faults)
    sizes = {image.id: (image.height, image.width) for image in content.images}
    for place, annotation in content.annotations.items():
        try:
            coco.check(annotation, *sizes[annotation.image_id])
        except ValueError as error:
            raise ValueError(f"{path}: annotations.{place}: {error}") from error
        if annotation.scribble is not None and len(annotation.scribble) % 2:
            raise ValueError(
                f"{path}: annotations.{place}: scribble has {len(annotation.scribble)} numbers:"
                " x, y, x, y, ... is meant"
            )
    used = {annotation.category_id for annotation in content.annotations.values()}
    _refuse_twice(path, "categories", "name", [category.name for category in content.categories if category.id in used])
    return content


def read_captions(path: Path) -> dict[int, str]:
    """The first caption of each image id, in the file's order."""
    records, faults = coco.captions(read_json(path), str(path))
    _refuse(path, faults)
    first: dict[int, str] = {}
    for record in records:
        first.setdefault(record.image_id, record.caption or "")
    return first


def is_coco(path: Path) -> bool:
    """Whether a JSON file holds COCO's annotations rather than layouts."""
    content = read_json(path)
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def is_comparable(path: Path) -> bool:
    """Whether a file of COCO's annotations is a whole benchmark: files of ours say in `info` if they are a part."""
    info = read_json(path).get("info")
    return not isinstance(info, dict) or info.get("comparable", True) is not False


def ground_truth(path: Path) -> GroundTruth:
    """COCO's annotations as ground truth; boxes are kept as they are, beyond the picture, too."""
    content = read_instances(path)
    _refuse_equal_names(path, content.images)
    images = sorted(content.images, key=lambda image: image.id)
    names = {category.id: category.name for category in content.categories}
    of_image: dict[int, list[tuple[int, CocoInstance]]] = {}
    for place, annotation in content.annotations.items():
        of_image.setdefault(annotation.image_id, []).append((place, annotation))
    rows = []
    for image in images:
        for index, (place, annotation) in enumerate(of_image.get(image.id, [])):
            try:
                row = _row(image, annotation, names[annotation.category_id])
            except ValueError as error:
                raise ValueError(f"{path}: annotations.{place}: {error}") from error
            rows.append({"key": image.key, "index": index, **row})
    pictures = [
        {
            "key": image.key,
            "group": "mixed",
            "file": image.file_name,
            "width": image.width,
            "height": image.height,
            "caption": image.caption,
            "sha256": "",
        }
        for image in images
    ]
    if rows and all(row["crowd"] for row in rows):
        raise ValueError(
            f"{path}: all {len(rows)} annotations are crowds (iscrowd 1), which nothing is judged by:"
            " write iscrowd 0 where an instance is meant"
        )
    digests = {"layouts": provenance.of_file(path)}
    return joined(pd.DataFrame(pictures), pd.DataFrame(rows), digests, path, _remarks(content.annotations))


def _remarks(annotations: Mapping[int, CocoInstance]) -> tuple[str, ...]:
    stray = [annotation for annotation in annotations.values() if annotation.stray]
    if not stray:
        return ()
    pieces = sum(annotation.stray for annotation in stray)
    return (
        f"{pieces} pieces of polygons with fewer than three points were left out, in {len(stray)} annotations"
        f" (the first is annotation {stray[0].id})",
    )


def _row(image: Image, annotation: CocoInstance, category: str) -> dict[str, object]:
    x, y, width, height = annotation.bbox
    rle = coco.run_lengths(annotation, image.height, image.width)
    scale = (image.width, image.height)
    box = Box(x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height)
    return {
        "category": category,
        "box": list(box),
        "mask": None if rle is None else rle.counts,
        "caption": category if annotation.phrase is None else annotation.phrase,
        "colour": annotation.colour,
        "texture": annotation.texture,
        "point": list(box.centre)
        if annotation.point is None
        else [a / b for a, b in zip(annotation.point, scale, strict=True)],
        "scribble": None
        if annotation.scribble is None
        else list((np.reshape(annotation.scribble, (-1, 2)) / scale).ravel()),
        "crowd": bool(annotation.iscrowd),
        "area": np.nan if annotation.area is None else annotation.area,
    }


def _refuse(path: Path, faults: Sequence[Fault]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise ValueError(f"{path}: {faults[0].place}: {faults[0].detail}{more}")


def _refuse_twice(path: Path, records: str, field: str, values: Sequence[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: {records}: the {field} {twice[0]!r} stands twice")


def _refuse_equal_names(path: Path, images: Sequence[Image]) -> None:
    names: dict[str, str] = {}
    for image in images:
        if image.key in names:
            raise ValueError(
                f"{path}: images: {names[image.key]!r} and {image.file_name!r} have one name: pictures are matched by"
                " their file's name without folder and suffix, so rename one, in the file and in the folder of pictures"
            )
        names[image.key] = image.file_name
