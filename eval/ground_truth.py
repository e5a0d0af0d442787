"""What the pictures were asked to show, in the form the metrics and pycocotools want.

Pictures may have another size than the layouts were drawn for; boxes and strokes are fractions, so only masks
are resized. Image ids are the position in the images table + 1, category ids the position among the detector's
classes + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval import provenance
from instdiff import masks, tables
from instdiff.geometry import in_pixels
from instdiff.schema import ANNOTATED, IMAGES, Box, Rle


@dataclass(frozen=True)
class GroundTruth:
    """`images` as IMAGES; `instances` as ANNOTATED, sorted by picture, with `picture`, the place in `images`."""

    images: pd.DataFrame
    instances: pd.DataFrame
    digests: dict[str, str]  # of the two tables' files


def load(images: Path, annotated: Path) -> GroundTruth:
    """Join the two tables; ValueError names the instance that has no picture, no box, no mask or no category."""
    pictures = tables.read(images, IMAGES)
    instances = tables.read(annotated, ANNOTATED)
    if pictures.empty or instances.empty:
        raise ValueError(f"{annotated}: nothing to evaluate: {len(pictures)} pictures, {len(instances)} instances")
    places = pd.Series(range(len(pictures)), index=pictures["key"])
    instances["picture"] = instances["key"].map(places)
    for column in ("picture", "category", "box", "mask"):
        lacking = instances[instances[column].isna()]
        if len(lacking):
            first = lacking.iloc[0]
            raise ValueError(f"{annotated}: instance {first['index']} of {first['key']!r} has no {column}")
    instances["picture"] = instances["picture"].astype("int64")
    ordered = instances.sort_values(["picture", "index"], kind="stable").reset_index(drop=True)
    digests = {"images": provenance.of_file(images), "annotated": provenance.of_file(annotated)}
    return GroundTruth(pictures, ordered, digests)


def coco_images(sizes: Sequence[tuple[int, int]]) -> list[dict[str, object]]:
    """COCO's image records for pictures of these heights and widths."""
    return [{"id": place + 1, "height": height, "width": width} for place, (height, width) in enumerate(sizes)]


def coco_categories(classes: Sequence[str]) -> list[dict[str, object]]:
    """COCO's category records."""
    return [{"id": place + 1, "name": name} for place, name in enumerate(classes)]


def coco_annotations(
    truth: GroundTruth, sizes: Sequence[tuple[int, int]], classes: Sequence[str]
) -> list[dict[str, object]]:
    """COCO's annotations of the instances, at the size of the pictures judged; in the order of `instances`."""
    ids = {name: place + 1 for place, name in enumerate(classes)}
    own = list(zip(truth.images["height"], truth.images["width"], strict=True))
    annotations = []
    for number, row in enumerate(truth.instances.to_dict("records"), start=1):
        where = f"instance {row['index']} of {row['key']!r}"
        if row["category"] not in ids:
            raise ValueError(f"{where} is a {row['category']!r}; the detector knows {', '.join(classes)}")
        try:
            mask_HW = masks.decode(Rle(size=own[row["picture"]], counts=row["mask"]))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        height, width = sizes[row["picture"]]
        mask_HW = resized(mask_HW, height, width)
        annotations.append(
            {
                "id": number,
                "image_id": row["picture"] + 1,
                "category_id": ids[row["category"]],
                "iscrowd": 0,
                "bbox": xywh(Box(*row["box"]), height, width),
                "area": float(np.count_nonzero(mask_HW)),
                "segmentation": masks.encode(mask_HW).model_dump(),
            }
        )
    return annotations


def xywh(box: Box, height: int, width: int) -> list[float]:
    """COCO's bbox: left, top, width and height in pixels."""
    x0, y0, x1, y1 = in_pixels(box, height, width)
    return [x0, y0, x1 - x0, y1 - y0]


def resized(mask_HW: masks.Mask, height: int, width: int) -> masks.Mask:
    """The mask at another size: each pixel takes the one its middle falls on."""
    if mask_HW.shape == (height, width):
        return mask_HW
    rows = ((np.arange(height) + 0.5) * mask_HW.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask_HW.shape[1] / width).astype(np.int64)
    return mask_HW[np.ix_(rows, columns)]
