"""Folders of pictures as a person would bring them: painted scenes with COCO's annotations, or with captions alone.

python tests/worlds/own_folder.py FOLDER COUNT writes the first kind.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instdiff.layouts import masks
from instdiff.world import scenes

SEED = 7


def coco(folder: Path, count: int, **changes: Any) -> None:
    """`pictures` and `instances.json`; `changes` are fields of every annotation."""
    (folder / "pictures").mkdir(parents=True)
    names: list[str] = []
    images, annotations = [], []
    for number in range(count):
        scene = scenes.scene(SEED, number, "mixed")
        Image.fromarray(scene.picture).save(folder / "pictures" / f"{number}.png")
        height, width = scene.picture.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for instance in scene.instances:
            names += [instance.category] if instance.category not in names else []
            rle = masks.encode(np.asarray(instance.mask))
            rows, columns = np.nonzero(instance.mask)
            box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
            annotation = {
                "id": len(annotations),
                "image_id": number,
                "category_id": names.index(instance.category),
                "bbox": [int(side) for side in box],
                "area": int(np.asarray(instance.mask).sum()),
                "segmentation": rle.model_dump(mode="json"),
                "iscrowd": 0,
            }
            annotations.append(annotation | changes)
    categories = [{"id": place, "name": name} for place, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


def captioned(folder: Path, count: int) -> list[str]:
    """Pictures, and beside each a .txt with its caption; the captions."""
    folder.mkdir(parents=True)
    captions = []
    for number in range(count):
        scene = scenes.scene(SEED, number, "mixed")
        Image.fromarray(scene.picture).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(scene.caption)
        captions.append(scene.caption)
    return captions


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    coco(options.folder, options.count)
