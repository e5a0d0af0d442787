"""Ground truth: what the pictures should show, in the form that the metrics and pycocotools take.

Pictures may have another size than the layouts were drawn for; boxes and strokes are fractions, so only masks
are resized. Image ids are the position in the images table + 1, category ids the position among the detector's
classes + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from instdiff.files import provenance, tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.geometry import in_pixels
from instdiff.schema import Box, Rle


@dataclass(frozen=True)
class GroundTruth:
    """What the pictures should show.

    `images` as IMAGES; `instances` as ANNOTATED, sorted by picture, with `picture`, the place in `images`, `crowd`,
    whether it is a region of many that average precision neither asks for nor counts against (COCO's iscrowd), and
    `area` in pixels where the source states one. Where only some instances have a mask, masks are judged on those.
    """

    images: pd.DataFrame
    instances: pd.DataFrame
    digests: dict[str, str]  # of the files it was read from
    remarks: tuple[str, ...] = ()  # what a reader of the numbers must know of the files

    @property
    def has_masks(self) -> bool:
        """Whether there are masks to judge by."""
        return bool(self.instances["mask"].notna().any())


def load(images: Path, annotated: Path) -> GroundTruth:
    """Join the two tables; ValueError names the instance that has no picture, no box, no mask or no category."""
    digests = {"images": provenance.of_path(images), "annotated": provenance.of_path(annotated)}
    instances = tables.read(annotated, ANNOTATED).assign(crowd=False, area=np.nan)
    truth = joined(tables.read(images, IMAGES), instances, digests, annotated)
    _complete(truth.instances, ("mask",), annotated)
    return truth


def joined(
    pictures: pd.DataFrame,
    instances: pd.DataFrame,
    digests: dict[str, str],
    source: Path,
    remarks: Sequence[str] = (),
) -> GroundTruth:
    """The ground truth of two tables; ValueError names the instance that has no picture, no category or no box."""
    if pictures.empty or instances.empty:
        raise ValueError(f"{source}: nothing to evaluate: {len(pictures)} pictures, {len(instances)} instances")
    places = pd.Series(range(len(pictures)), index=pictures["key"])
    instances = instances.assign(picture=instances["key"].map(places))
    _complete(instances, ("picture", "category", "box"), source)
    instances["picture"] = instances["picture"].astype("int64")
    masked = instances["mask"].astype(object)
    instances["mask"] = masked.where(masked.notna(), None)  # pandas would put NaN, which is truthy, among the strings
    ordered = instances.sort_values(["picture", "index"], kind="stable").reset_index(drop=True)
    with_masks = int(ordered["mask"].notna().sum())
    if 0 < with_masks < len(ordered):
        remarks = [
            *remarks,
            f"{with_masks} of {len(ordered)} instances have a mask: metrics of masks count those alone",
        ]
    return GroundTruth(pictures, ordered, digests, tuple(remarks))


def _complete(instances: pd.DataFrame, columns: Sequence[str], source: Path) -> None:
    for column in columns:
        lacking = instances[instances[column].isna()]
        if len(lacking):
            first = lacking.iloc[0]
            raise ValueError(f"{source}: instance {first['index']} of {first['key']!r} has no {column}")


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
        height, width = size = sizes[row["picture"]]
        bbox = xywh(Box(*row["box"]), height, width)
        annotation = {
            "id": number,
            "image_id": row["picture"] + 1,
            "category_id": ids[row["category"]],
            "iscrowd": int(row["crowd"]),
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
        }
        if row["mask"] is not None:
            try:
                segmentation = _at(Rle(size=own[row["picture"]], counts=row["mask"]), size)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            annotation |= {"segmentation": segmentation, "area": float(coco.area(segmentation))}
        if size == own[row["picture"]] and not np.isnan(row["area"]):
            annotation["area"] = row["area"]
        annotations.append(annotation)
    return annotations


def xywh(box: Box, height: int, width: int) -> list[float]:
    """COCO's bbox: left, top, width and height in pixels, rounded so that pixels made fractions are those pixels."""
    x0, y0, x1, y1 = in_pixels(box, height, width)
    return [round(edge, 6) for edge in (x0, y0, x1 - x0, y1 - y0)]


def _at(rle: Rle, size: tuple[int, int]) -> dict[str, object]:
    """The run lengths, checked, at the size of the picture judged."""
    if rle.size == size:
        masks.checked(rle)
        return rle.model_dump()
    return masks.encode(resized(masks.decode(rle), *size)).model_dump()


def resized(mask_HW: masks.Mask, height: int, width: int) -> masks.Mask:
    """The mask at another size: each pixel takes the one its middle falls on."""
    if mask_HW.shape == (height, width):
        return mask_HW
    rows = ((np.arange(height) + 0.5) * mask_HW.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask_HW.shape[1] / width).astype(np.int64)
    return mask_HW[np.ix_(rows, columns)]
