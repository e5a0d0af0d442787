"""COCO's instances file beside a folder of pictures, with the captions, phrases and points that files of ours add.

    instances.json    images (with `caption`), annotations (with `phrase`, `point`, `scribble`), categories
    pictures/         the pictures

Everything is in pixels; masks are compressed run lengths, which come back bit for bit.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.exchange.sample import Sample, box_of, category_of
from data_prep.sources import lists, urls
from data_prep.sources.records import Record
from instdiff.layouts import masks
from instdiff.schema import Point
from instdiff.work.ledger import Ledger

FILE, PICTURES = "instances.json", "pictures"


def read(path: str) -> list[Record]:
    """The pictures of a folder that holds instances.json and pictures/."""
    return lists.coco(urls.join(path, PICTURES), urls.join(path, FILE), None)


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures and instances.json; its lists are written as they grow, not held."""
    (folder / PICTURES).mkdir()
    categories: dict[str, int] = {}
    numbered, images = 0, folder / ".images"
    with (folder / FILE).open("w", encoding="utf-8") as to, images.open("w", encoding="utf-8") as aside:
        to.write('{"annotations": [')
        for number, sample in enumerate(samples, start=1):
            (folder / PICTURES / sample.file).write_bytes(sample.encoded)
            aside.write(("," if number > 1 else "") + "\n" + json.dumps(_image(number, sample), ensure_ascii=False))
            for index in range(len(sample.layout.instances)):
                annotation = _annotation(sample, index, failed)
                if annotation is None:
                    continue
                numbered += 1
                category = categories.setdefault(category_of(sample, index, failed), len(categories) + 1)
                whole = {"id": numbered, "image_id": number, "category_id": category, **annotation}
                to.write(("," if numbered > 1 else "") + "\n" + json.dumps(whole, ensure_ascii=False))
        to.write('\n], "images": [')
        aside.close()
        with images.open(encoding="utf-8") as written:
            shutil.copyfileobj(written, to)
        named = [{"id": category, "name": name} for name, category in categories.items()]
        to.write('\n], "categories": ' + json.dumps(named, ensure_ascii=False) + "}\n")
    images.unlink()


def _image(number: int, sample: Sample) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": sample.file,
        "width": sample.width,
        "height": sample.height,
        "caption": sample.layout.prompt,
    }


def _annotation(sample: Sample, index: int, failed: Ledger) -> dict[str, Any] | None:
    instance = sample.layout.instances[index]
    box = box_of(sample, index, failed)
    if box is None:
        return None
    width, height = sample.width, sample.height
    bbox = [box.x0 * width, box.y0 * height, (box.x1 - box.x0) * width, (box.y1 - box.y0) * height]
    annotation: dict[str, Any] = {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0, "phrase": instance.phrase}
    if instance.mask is not None:
        annotation["segmentation"] = {"size": list(instance.mask.size), "counts": instance.mask.counts}
        annotation["area"] = float(masks.checked(instance.mask)[1::2].sum())
    if instance.point is not None:
        annotation["point"] = _pixels([instance.point], sample)
    if instance.scribble:
        annotation["scribble"] = _pixels(instance.scribble, sample)
    return annotation


def _pixels(points: Iterable[Point], sample: Sample) -> list[float]:
    return [edge for point in points for edge in (point.x * sample.width, point.y * sample.height)]
