"""What a source says of an instance, checked and turned into a row: fractions for boxes, run lengths for masks."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from data_prep.sources.records import Annotation
from instdiff.files.texts import first_fault, is_text
from instdiff.layouts import coco, geometry
from instdiff.schema import Box
from instdiff.work.outcomes import Failure

Row = dict[str, Any]


def rows_of(
    annotations: Sequence[Annotation | Failure], key: str, height: int, width: int
) -> tuple[list[Row], list[tuple[int, Failure]]]:
    """Rows of the GIVEN table, numbered 0, 1, ..., and why the others are none, by their place in the source.

    A crowd is a region that nobody counted, not an instance: it is never a row, always a reason. Pieces of polygons
    with fewer than three points are a reason, too, and their instance stays.
    """
    rows: list[Row] = []
    failures: list[tuple[int, Failure]] = []
    for place, annotation in enumerate(annotations):
        if isinstance(annotation, Failure):
            failures.append((place, annotation))
        elif annotation.crowd:
            failures.append((place, Failure("crowd", f"{annotation.name} marks a crowd, not an instance")))
        else:
            try:
                region = _region(annotation, height, width)
                row = _row(annotation, region, height, width)
            except ValueError as error:
                failures.append((place, Failure("bad_annotation", f"{annotation.name}: {error}")))
                continue
            if region.stray:
                detail = f"{annotation.name}: {region.stray} pieces of fewer than three points went, the instance stays"
                failures.append((place, Failure("stray_polygon", detail)))
            rows.append({"key": key, "index": len(rows), **row, "colour": None, "texture": None})
    return rows, failures


def _region(annotation: Annotation, height: int, width: int) -> coco.Region:
    """ValueError names the field that is wrong."""
    try:
        region = coco.Region.model_validate({"bbox": annotation.bbox, "segmentation": annotation.segmentation or None})
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    coco.check(region, height, width)
    return region


def _row(annotation: Annotation, region: coco.Region, height: int, width: int) -> Row:
    for name, text in (("category", annotation.category), ("caption", annotation.caption)):
        if text is not None and not is_text(text):
            raise ValueError(f"{name}: holds half a character (a lone surrogate)")
    rle = coco.run_lengths(region, height, width)
    mask = None if rle is None else rle.counts
    return {
        "category": annotation.category,
        "box": list(_box(region.bbox, height, width)),
        "mask": mask,
        "caption": annotation.caption,
    }


def _box(bbox: Sequence[float], height: int, width: int) -> Box:
    x, y, across, down = bbox
    box = geometry.clamp(geometry.from_pixels(x, y, x + across, y + down, height=height, width=width))
    if across <= 0 or down <= 0 or box.area == 0:
        raise ValueError(f"bbox {x:g}, {y:g}, {across:g}, {down:g} covers nothing of the picture")
    return box
