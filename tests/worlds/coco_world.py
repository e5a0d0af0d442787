"""Twenty pictures in COCO's format, painted by us, with everything that makes COCO's files hard.

Ids with gaps, images not in the order of their ids, wide, high and square ones, polygons in pieces, a crowd in
uncompressed run lengths, a picture without any instance, one with more than thirty, several captions each.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

NUM_PICTURES, CROWDED, EMPTY = 20, 7, 11  # the places of two odd pictures
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 46, "name": "wine glass"}]
COLOURS = {1: (220, 30, 30), 18: (30, 200, 40), 46: (40, 60, 220)}

Record = dict[str, Any]


def instances() -> Record:
    """What instances_val.json holds."""
    rng = np.random.default_rng(20)
    images, annotations = [], []
    for place in range(NUM_PICTURES):
        width, height = ((48, 48), (64, 48), (40, 56))[place % 3]
        number = 100 + 7 * place
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": width, "height": height})
        count = 0 if place == EMPTY else 34 if place == CROWDED else int(rng.integers(1, 5))
        for _ in range(count):
            annotations.append(_annotation(len(annotations), images[-1], rng))
    annotations.append(_crowd(len(annotations), images[2]))
    order = rng.permutation(len(images))
    return {"info": {}, "images": [images[i] for i in order], "annotations": annotations, "categories": CATEGORIES}


def captions() -> Record:
    """What captions_val.json holds: the second caption of a picture before the first of the next."""
    images = instances()["images"]
    annotations = [
        {
            "id": 2 * number + nth,
            "image_id": image["id"],
            "caption": f"{('A', 'Another')[nth]} view {image['id']}.",
        }
        for number, image in enumerate(images)
        for nth in range(2)
    ]
    return {"images": images, "annotations": annotations}


def write(folder: Path) -> tuple[Path, Path]:
    """The two files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "instances_val.json", folder / "captions_val.json"
    for path, content in zip(paths, (instances(), captions()), strict=True):
        path.write_text(json.dumps(content))
    return paths


def paint(folder: Path, content: Record, background: int) -> None:
    """Pictures of the annotations, as PNG: the boxes in their category's colour, with noise of their own each."""
    folder.mkdir(parents=True)
    for image in content["images"]:
        rng = np.random.default_rng(image["id"] + background)
        pixels = rng.integers(background, background + 30, (image["height"], image["width"], 3)).astype(np.uint8)
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, width, height = (round(edge) for edge in annotation["bbox"])
                pixels[y : y + height, x : x + width] = COLOURS[annotation["category_id"]]
        Image.fromarray(pixels).save(folder / f"{Path(image['file_name']).stem}.png")


def results_of(content: Record, seed: int) -> list[Record]:
    """A detector's list of results: most instances, a little beside their place, and some that are not there."""
    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    results = []
    for annotation in content["annotations"]:
        height, width = sizes[annotation["image_id"]]
        if rng.random() < 0.15 or annotation["iscrowd"]:
            continue
        x, y, w, h = (float(edge) for edge in annotation["bbox"])
        x, y = np.clip(x + rng.integers(-1, 2), 0, width - 4), np.clip(y + rng.integers(-1, 2), 0, height - 4)
        category = annotation["category_id"] if rng.random() < 0.9 else 18
        box = [float(x), float(y), min(w, width - x), min(h, height - y)]
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": category,
                "bbox": box,
                "score": float(round(rng.uniform(0.3, 1), 3)),
                "segmentation": _rle(_rectangle(box, height, width)),
            }
        )
    return results


def _annotation(number: int, image: Record, rng: np.random.Generator) -> Record:
    width, height = image["width"], image["height"]
    w, h = (int(v) for v in rng.integers(5, 20, 2))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    half = w / 2
    pieces = [[x, y, x + half, y, x + half, y + h, x, y + h], [x + half, y, x + w, y, x + w, y + h, x + half, y + h]]
    return {
        "id": 5000 + 3 * number,
        "image_id": image["id"],
        "category_id": CATEGORIES[int(rng.integers(3))]["id"],
        "bbox": [x, y, w, h],
        "segmentation": pieces,
        "area": float(w * h),
        "iscrowd": 0,
    }


def _crowd(number: int, image: Record) -> Record:
    height, width = image["height"], image["width"]
    runs = [0, 10 * height, height * (width - 10)]
    return {
        "id": 5000 + 3 * number,
        "image_id": image["id"],
        "category_id": 1,
        "bbox": [0, 0, 10, height],
        "segmentation": {"size": [height, width], "counts": runs},
        "area": float(10 * height),
        "iscrowd": 1,
    }


def _rectangle(box: list[float], height: int, width: int) -> NDArray[np.uint8]:
    x, y, w, h = (round(edge) for edge in box)
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def _rle(mask: NDArray[np.uint8]) -> Record:
    encoded = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
