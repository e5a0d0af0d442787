"""Instances and detections near some of them, at random, in COCO's annotations."""

from typing import Any

import numpy as np

from instdiff.layouts import masks

SIZE = 32


CATEGORIES = [{"id": 1, "name": "square"}, {"id": 2, "name": "bar"}, {"id": 3, "name": "never"}]


Annotations = list[dict[str, Any]]


def sized(count: int) -> Annotations:
    return [{"id": place + 1, "height": SIZE, "width": SIZE} for place in range(count)]


def _annotation(number: int, image: int, category: int, box: list[int], **more: object) -> dict[str, Any]:
    x, y, w, h = box
    mask_HW = np.zeros((SIZE, SIZE), bool)
    mask_HW[y : y + h, x : x + w] = True
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [float(v) for v in box],
        "area": float(w * h),
        "iscrowd": 0,
        "segmentation": masks.encode(mask_HW).model_dump(),
    } | more


def random_case(seed: int, num_images: int) -> tuple[Annotations, Annotations]:
    """Instances, and detections near some of them with wrong categories, misses, extras and equal scores."""
    rng = np.random.default_rng(seed)
    annotations: Annotations = []
    detections: Annotations = []
    for image in range(1, num_images + 1):
        for _ in range(rng.integers(0, 5)):
            box = [int(v) for v in (*rng.integers(0, 16, 2), *rng.integers(5, 16, 2))]
            category = int(rng.integers(1, 3))
            annotations.append(_annotation(len(annotations) + 1, image, category, box))
            for _ in range(rng.integers(0, 3)):
                moved = [max(0, v + int(rng.integers(-1, 2))) for v in box]
                label = category if rng.random() < 0.8 else int(rng.integers(1, 4))
                score = float(rng.integers(1, 9)) / 10
                detections.append(_annotation(len(detections) + 1, image, label, moved, score=score))
    return annotations, detections
