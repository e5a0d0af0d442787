"""COCO's validation set as a benchmark of instance control: `instdiff coco`.

From the stock instances_val2017.json and captions_val2017.json, deterministically: ground truth at one square size
(the reference's lies on a private drive), prompts, phrases, attributes by annotation id, strokes from seeds. Written
are annotations.json (COCO's format: all instances, what `instdiff evaluate --layouts` reads), layouts.json, and the
tables images.parquet and annotated.parquet that the stage `generate` reads (the first 30 instances of a picture,
which the reference conditions on). Splitting into jobs changes no picture: noise and strokes hang on the key.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image as Pillow

from eval import coco, pictures, provenance
from eval.ground_truth import resized
from instdiff import atomic, layout_files, layouts, masks, strokes, tables
from instdiff.progress import track
from instdiff.randomness import generator
from instdiff.schema import ANNOTATED, IMAGES

SIZE, MAX_INSTANCES = 512, 30
NUM_SCRIBBLE, NUM_OUTLINE = 20, 256
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


class Picture(NamedTuple):
    """One picture of the benchmark: its record and annotations in COCO's form, at the benchmark's size."""

    image: Record
    annotations: list[Record]


def phrase(category: str, number: int, attributes: Sequence[str]) -> tuple[str, dict[str, str]]:
    """An annotation's phrase and the words in it: the texture stands before the colour, as in the reference."""
    words = {one: choice[number % len(choice)] for one, choice in WORDS.items() if one in attributes}
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
    numbers = dict.fromkeys(sorted(one.id for one in instances.images), 0)
    for one in instances.annotations:
        numbers[one.image_id] += 1
    stratum = {image: int(np.searchsorted([1, 2, 3, 5, 10], number, side="right")) for image, number in numbers.items()}
    shuffled = [int(image) for image in generator(seed, "subset").permutation(list(numbers))]
    ordered = sorted(shuffled, key=stratum.__getitem__)  # stable: strata one after the other, shuffled within
    return sorted(ordered[int(place)] for place in np.floor((np.arange(count) + 0.5) * len(ordered) / count))


def built(instances: coco.Instances, captions: Mapping[int, str] | None, request: Request) -> list[Picture]:
    """The pictures of a request, in the order of their ids; ValueError names an image without a caption."""
    names = {one.id: one.name for one in instances.categories}
    of_image: dict[int, list[coco.Instance]] = {}
    for one in instances.annotations:
        of_image.setdefault(one.image_id, []).append(one)
    images = sorted(instances.images, key=lambda one: one.id)
    if request.subset is not None:
        chosen = set(subset(instances, request.subset, request.seed))
        images = [one for one in images if one.id in chosen]
    made = []
    for image in images[part(len(images), *request.job)]:
        if captions is not None and image.id not in captions:
            raise ValueError(f"image {image.id} has no caption")
        annotations = [_annotation(image, one, names, request) for one in of_image.get(image.id, [])]
        told = "" if captions is None else captions[image.id]
        said = prompt(told, [one["phrase"] for one in annotations], request.compat)
        record = {"id": image.id, "file_name": image.file_name, "width": request.size, "height": request.size}
        made.append(Picture(record | {"caption": said}, annotations))
    return made


def rows(made: Picture, names: Mapping[int, str], seed: int) -> tuple[Record, list[Record]]:
    """A picture's row of IMAGES and the rows of ANNOTATED of its first instances, with strokes from (seed, key)."""
    key, size = Path(made.image["file_name"]).stem, made.image["width"]
    image = {
        "key": key,
        "group": "mixed",
        "file": f"{key}.png",
        "width": size,
        "height": size,
        "caption": made.image["caption"],
        "sha256": "",
    }
    first = enumerate(made.annotations[:MAX_INSTANCES])
    return image, [_row(key, place, one, names[one["category_id"]], size, seed) for place, one in first]


def write(out: Path, made: Sequence[Picture], instances: coco.Instances, info: Record, seed: int) -> dict[str, int]:
    """Write the four files, all or none."""
    content: Record = {
        "info": info,
        "images": [one.image for one in made],
        "annotations": [annotation for one in made for annotation in one.annotations],
        "categories": [one.model_dump() for one in instances.categories],
    }
    names = {one.id: one.name for one in instances.categories}
    images, annotated = [], []
    for one in track(made, len(made), "pictures"):
        image, own = rows(one, names, seed)
        images.append(image)
        annotated += own
    with atomic.folder(out) as to:
        (to / "annotations.json").write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")
        tables.write(to / "images.parquet", images, IMAGES)
        tables.write(to / "annotated.parquet", annotated, ANNOTATED)
        kept = tables.read(to / "images.parquet", IMAGES), tables.read(to / "annotated.parquet", ANNOTATED)
        layout_files.write(to / "layouts.json", layouts.from_tables(*kept))
    return {"pictures": len(images), "instances": len(content["annotations"]), "conditioned": len(annotated)}


def warped(folder: Path, made: Sequence[Picture], out: Path) -> None:
    """The real pictures at the benchmark's size, not keeping their shape, as the ground truth is: PNG, bicubic."""
    with atomic.folder(out) as to:
        for one in track(made, len(made), "pictures"):
            picture = Pillow.fromarray(pictures.read(folder / one.image["file_name"]))
            side = (one.image["width"], one.image["height"])
            picture.resize(side, Pillow.Resampling.BICUBIC).save(to / f"{Path(one.image['file_name']).stem}.png")


def main(arguments: Sequence[str]) -> None:
    """Build COCO's benchmark of instance control from its stock files."""
    given = parser().parse_args(arguments)
    job, num_jobs = given.job
    request = Request(given.size, tuple(given.attributes), given.compat, given.seed, given.subset, (job, num_jobs))
    instances = coco.read_instances(given.instances)
    captions = None if given.captions is None else coco.read_captions(given.captions)
    try:
        made = built(instances, captions, request)
    except ValueError as error:
        raise ValueError(f"{given.captions or given.instances}: {error}") from error
    if not made:
        raise ValueError(f"--job {job}/{num_jobs}: no picture falls to this job")
    sources = {path.name: provenance.of_file(path) for path in (given.instances, given.captions) if path is not None}
    info = {"sources": sources, "request": request._asdict(), "comparable": given.subset is None}
    counts = write(given.out, made, instances, info, given.seed)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"written to {given.out}")
    print(f"annotations.json: sha256 {provenance.of_file(given.out / 'annotations.json')}")
    if given.pictures is not None:
        warped(given.pictures, made, given.out.with_name(f"{given.out.name}-real"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="instdiff coco", description=main.__doc__)
    add = options.add_argument
    add("--instances", type=Path, required=True, help="the stock instances_val2017.json")
    add("--captions", type=Path, help="the stock captions_val2017.json; without it prompts are phrases alone")
    add("--out", type=Path, required=True, help="the folder to write; the real pictures go beside it, to <out>-real")
    add("--pictures", type=Path, help="the stock val2017 folder, to be warped to the benchmark's size")
    add("--size", type=int, default=SIZE, help="pixels a side")
    add("--attributes", nargs="*", choices=tuple(WORDS), default=[], help="put into every phrase, by annotation id")
    add("--compat", choices=("ours", "reference"), default="ours", help="reference: no space after the caption")
    add("--seed", type=int, default=0, help="of scribbles, outlines and subsets")
    add("--subset", type=int, help="that many pictures, stratified: not comparable to the table")
    add("--job", type=_job, default=(0, 1), metavar="I/N", help="the pictures of job I (from 0) of N")
    return options


def _job(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(number), int(of)


def _annotation(image: coco.Image, one: coco.Instance, names: Mapping[int, str], request: Request) -> Record:
    """An annotation at the benchmark's size, with its phrase; polygons and boxes are scaled, run lengths resampled."""
    across, down = request.size / image.width, request.size / image.height
    said, words = phrase(names[one.category_id], one.id, request.attributes)
    x, y, width, height = one.bbox
    scaled: Record = {
        "id": one.id,
        "image_id": one.image_id,
        "category_id": one.category_id,
        "iscrowd": one.iscrowd,
        "bbox": _rounded([x * across, y * down, width * across, height * down]),
        "segmentation": _scaled(image, one, request.size),
        "phrase": said,
        **words,
    }
    if one.area is not None:
        scaled["area"] = round(one.area * across * down, 4)
    if one.point is not None:
        scaled["point"] = _rounded([one.point[0] * across, one.point[1] * down])
    return scaled


def _scaled(image: coco.Image, one: coco.Instance, size: int) -> object:
    if isinstance(one.segmentation, list):
        factors = size / image.width, size / image.height
        return [_rounded(np.reshape(polygon, (-1, 2)) * factors) for polygon in one.segmentation]
    try:
        rle = coco.run_lengths(one, image.height, image.width)
    except ValueError as error:
        raise ValueError(f"annotation {one.id}: {error}") from error
    return None if rle is None else masks.encode(resized(masks.decode(rle), size, size)).model_dump()


def _row(key: str, place: int, one: Record, category: str, size: int, seed: int) -> Record:
    annotation = coco.Instance.model_validate(one)
    rle = coco.run_lengths(annotation, size, size)
    x, y, width, height = annotation.bbox
    point = annotation.point or [x + width / 2, y + height / 2]
    drawn: dict[str, object] = {"scribble": None, "outline": None}
    if rle is not None:
        mask_HW = masks.decode(rle)
        drawn = {
            "scribble": _flat(strokes.scribble(mask_HW, NUM_SCRIBBLE, generator(seed, "scribble", key, place))),
            "outline": _flat(strokes.outline(mask_HW, NUM_OUTLINE, generator(seed, "outline", key, place))),
        }
    return {
        "key": key,
        "index": place,
        "category": category,
        "box": [x / size, y / size, (x + width) / size, (y + height) / size],
        "score": 1.0,
        "mask": None if rle is None else rle.counts,
        "caption": one["phrase"],
        "backend": "coco",
        "point": [edge / size for edge in point],
        **drawn,
        "colour": one.get("colour"),
        "texture": one.get("texture"),
    }


def _flat(points: strokes.Points | None) -> list[float] | None:
    return None if points is None else [float(edge) for edge in points.ravel()]


def _rounded(values: Any) -> list[float]:
    """To a ten-thousandth of a pixel: the same text whatever the machine."""
    return [round(float(value), 4) for value in np.ravel(values)]
