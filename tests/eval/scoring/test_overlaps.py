"""What is said of overlaps does not hang on the size of a picture, and a detection serves one instance."""

import numpy as np
import pytest

from eval.scoring import overlaps

SQUARE, WIDE = (100, 100), (50, 200)


def _record(image: int, box: tuple[float, ...], size: tuple[int, int], **more: object) -> dict[str, object]:
    height, width = size
    x0, y0, x1, y1 = box
    bbox = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
    return {"image_id": image, "category_id": 1, "bbox": bbox, **more}


def test_overlaps_are_kept_or_lost_in_pictures_of_any_size() -> None:
    first, second, apart = (0, 0, 0.6, 0.6), (0.3, 0.3, 0.9, 0.9), (0.9, 0, 1, 0.1)
    annotations = [_record(n, box, size) for n, size in ((1, SQUARE), (2, WIDE)) for box in (first, second, apart)]
    detections = [
        _record(1, first, SQUARE, score=0.5),  # just sure enough
        _record(1, second, SQUARE, score=0.9),
        _record(2, first, WIDE, score=0.9),
        _record(2, second, WIDE, score=0.2),  # too unsure
    ]
    table = overlaps.of_instances(annotations, detections, [SQUARE, WIDE], 0.5)
    assert table["overlap"].tolist() == ["touching", "touching", "apart"] * 2
    assert table["overlap_iou"].to_numpy(np.float64) == pytest.approx([1, 1, np.nan, 0, 0, np.nan], nan_ok=True)


@pytest.mark.parametrize("size", [SQUARE, WIDE])
def test_more_than_a_hundredth_of_the_picture_must_be_shared_for_an_overlap_to_be_lost(size: tuple[int, int]) -> None:
    larger = [(0, 0, 0.22, 0.22), (0.11, 0.11, 0.33, 0.33)]  # share 0.0121
    smaller = [(0.5, 0.5, 0.68, 0.68), (0.59, 0.59, 0.77, 0.77)]  # share 0.0081
    annotations = [_record(1, box, size) for box in (*larger, *smaller)]
    table = overlaps.of_instances(annotations, [], [size], 0.5)
    assert table["overlap_iou"].to_numpy(np.float64) == pytest.approx([0, 0, np.nan, np.nan], nan_ok=True)
