"""Cases and detections in the form that average precision counts, image ids by place."""

from collections.abc import Sequence

from eval.benchmarks.view import View
from instdiff.layouts.geometry import in_pixels
from instdiff.schema import Box


def images(views: Sequence[View]) -> list[dict[str, object]]:
    """COCO's records of the pictures."""
    return [{"id": place, "height": view.size[0], "width": view.size[1]} for place, view in enumerate(views, start=1)]


def annotation(number: int, image: int, category: int, box: Box, size: tuple[int, int]) -> dict[str, object]:
    """COCO's record of a box, in pixels of a picture of this height and width."""
    x0, y0, x1, y1 = in_pixels(box, *size)
    bbox = [x0, y0, x1 - x0, y1 - y0]
    area = bbox[2] * bbox[3]
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "bbox": bbox, "area": area}
