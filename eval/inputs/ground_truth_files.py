"""Ground truth from any file people have: layouts (JSON), COCO's annotations (JSON) or our tables (Parquet)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eval.inputs import coco, ground_truth
from eval.inputs.ground_truth import GroundTruth, joined
from instdiff.files import provenance, tables
from instdiff.layouts import files, masks
from instdiff.schema import Box, Instance, Layout


def read(path: Path, images: Path | None, size: int | None) -> GroundTruth:
    """The ground truth of a file of any of the three kinds.

    Args:
        path: layouts, COCO's annotations, or the annotated table.
        images: the images table, which an annotated table needs and the others have no use for.
        size: side in pixels of the pictures of layouts that have no mask to state a size.

    Raises:
        ValueError: names the file, the record and the field that is missing or wrong.
    """
    if tables.is_table(path):
        if images is None:
            raise ValueError(f"{path}: an annotated table needs the table of its images, too: --images")
        return ground_truth.load(images, path)
    if images is not None:
        raise ValueError(f"{path}: --images belongs to a Parquet table; this file states its pictures itself")
    return coco.ground_truth(path) if coco.is_coco(path) else written(path, size)


def written(path: Path, size: int | None) -> GroundTruth:
    """Layouts as ground truth; an instance needs a category, and a box or a mask to take it from."""
    wanted = files.read(path, max_instances=None)
    pictures, rows = [], []
    for number, layout in enumerate(wanted):
        where = f"{path}: record {number}"
        height, width = _size(layout, size, where)
        pictures.append(
            {
                "key": layout.key,
                "group": "mixed",
                "file": f"{layout.key}.png",
                "width": width,
                "height": height,
                "caption": layout.prompt,
                "sha256": "",
            }
        )
        for index, instance in enumerate(layout.instances):
            rows.append({"key": layout.key, "index": index, **_row(instance, f"{where}: instances.{index}")})
    return joined(pd.DataFrame(pictures), pd.DataFrame(rows), {"layouts": provenance.of_file(path)}, path)


def _size(layout: Layout, size: int | None, where: str) -> tuple[int, int]:
    """Height and width: what all masks say, or the side given."""
    stated = {instance.mask.size for instance in layout.instances if instance.mask is not None}
    if len(stated) > 1:
        raise ValueError(f"{where}: its masks are of different sizes: {', '.join(map(str, sorted(stated)))}")
    if stated:
        return stated.pop()
    if size is None:
        raise ValueError(f"{where}: no mask states the picture's size: give its side with --size")
    return size, size


def _row(instance: Instance, where: str) -> dict[str, object]:
    try:
        box = (
            instance.box
            if instance.box is not None or instance.mask is None
            else masks.box_of(masks.decode(instance.mask))
        )
    except ValueError as error:
        raise ValueError(f"{where}.mask: {error}") from error
    if instance.category is None:
        raise ValueError(f"{where}.category: needed to judge the picture")
    if box is None:
        raise ValueError(f"{where}.box: needed, or a mask, to judge the picture")
    return {
        "category": instance.category,
        "box": list(box),
        "mask": None if instance.mask is None else instance.mask.counts,
        "caption": instance.phrase,
        "point": list(instance.point or Box(*box).centre),
        "scribble": _flat(instance.scribble),
        "colour": None,
        "texture": None,
        "crowd": False,
        "area": np.nan,
    }


def _flat(points: Sequence[Sequence[float]] | None) -> list[float] | None:
    return None if points is None else [edge for point in points for edge in point]
