"""PiM and IoU against the plain form of the reference, and a whole row as large as COCO's validation set.

Run with `pytest -s bench/test_evaluation.py`; numbers seen are in bench/README.md.
"""

import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from eval.inputs.detections import DetectionRecord, Detections
from eval.inputs.ground_truth import GroundTruth, joined
from eval.inputs.pictures import Pictures
from eval.metrics import matching, points_in_mask
from eval.metrics.points_in_mask import PictureMasks
from eval.scoring import score_row
from eval.scoring.row import DistanceParams, Inputs, Params
from instdiff.networks.device import PLAIN
from instdiff.schema import Rle
from instdiff.work.parts import Work
from instdiff.work.workers import Workers

SIZE, NUM_PICTURES, NUM_INSTANCES, NUM_DETECTIONS, NUM_CLASSES = 512, 5000, 37_000, 150_000, 80
CLASSES = tuple(f"class {number}" for number in range(NUM_CLASSES))
Record = dict[str, Any]
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "pim.json"


def blob(rng: np.random.Generator, near: tuple[float, ...] | None = None) -> tuple[tuple[float, ...], Record]:
    """A wobbly disc of 2 to 30 % of the picture's side and its run lengths; `near` another, like a detection."""
    if near is None:
        radius = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))) * SIZE
        shape = (*rng.uniform(radius, SIZE - radius, 2), radius, rng.uniform(0, 0.3))
    else:
        shape = tuple(value + rng.normal(0, 0.12 * near[2]) * (place < 2) for place, value in enumerate(near))
    x, y, radius, depth = shape
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    reach = radius * (1 + depth * np.sin(3 * angles))
    corners = np.clip(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1), 0, SIZE)
    rle = coco.frPyObjects([corners.ravel().tolist()], SIZE, SIZE)[0]
    return shape, {"size": [SIZE, SIZE], "counts": rle["counts"].decode()}


def plainly(pictures: Sequence[PictureMasks]) -> tuple[float, list[np.ndarray]]:
    """The reference's form: every mask decoded, every pair compared pixel by pixel, instance by instance."""
    means, overlaps = [], []
    for picture in pictures:
        instances = [coco.decode(rle).astype(bool) for rle in picture.instances]
        detected = [coco.decode(rle).astype(bool) for rle in picture.detected]
        iou_DG = np.zeros((len(detected), len(instances)))
        for d, mask in enumerate(detected):
            for g, other in enumerate(instances):
                union = np.logical_or(mask, other).sum()
                iou_DG[d, g] = np.logical_and(mask, other).sum() / union if union else 0.0
        overlaps.append(iou_DG)
        free, shares = set(range(len(detected))), []
        for g, stroke in enumerate(picture.strokes):
            if not free:
                break
            chosen = max(sorted(free), key=lambda d: iou_DG[d, g])
            free.remove(chosen)
            inside = [
                detected[chosen][min(int(y * SIZE + 1e-3), SIZE - 1), min(int(x * SIZE + 1e-3), SIZE - 1)]
                for x, y in stroke
            ]
            shares.append(sum(map(float, inside)) / len(inside))
        if shares:
            means.append(sum(shares) / len(shares))
    return sum(means) / len(means), overlaps


def ours(pictures: Sequence[PictureMasks]) -> tuple[float, list[np.ndarray]]:
    """The same by run lengths."""
    overlaps = [matching.mask_ious(picture.detected, picture.instances) for picture in pictures]
    return points_in_mask.paper(pictures).value, overlaps


def crowded(count: int) -> list[PictureMasks]:
    """Pictures of 7 instances and 30 detections each, with scribbles of 20 points."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        blobs = [blob(rng) for _ in range(7)]
        detected = [blob(rng, blobs[place % 7][0])[1] for place in range(30)]
        strokes = [np.clip(rng.normal((x, y), r / 2, (20, 2)) / SIZE, 0, 1) for (x, y, r, _), _ in blobs]
        pictures.append(PictureMasks([rle for _, rle in blobs], detected, strokes))
    return pictures


def golden() -> list[PictureMasks]:
    """The golden predictions of tests/, with the points of the reference."""
    content = json.loads(GOLDEN.read_text())
    pictures = []
    for image in dict.fromkeys(instance["image_id"] for instance in content["instances"]):
        boxes = [instance["bbox"] for instance in content["instances"] if instance["image_id"] == image]
        corners = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in boxes]
        instances = [coco.merge(coco.frPyObjects([polygon], SIZE, SIZE)) for polygon in corners]
        detected = [
            prediction["segmentation"] for prediction in content["predictions"] if prediction["image_id"] == image
        ]
        pictures.append(
            PictureMasks(
                instances, detected, [points_in_mask.paper_point(matching.run_lengths(rle)) for rle in instances]
            )
        )
    return pictures


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def test_pim_and_iou_against_the_plain_form() -> None:
    """Print both rates; both must give the same numbers, on golden, too."""
    for pictures in (golden(), crowded(4)):
        (plain, theirs), (fast, overlaps) = plainly(pictures), ours(pictures)
        assert fast == pytest.approx(plain, abs=1e-12)
        assert all(np.allclose(ious, other, rtol=0, atol=1e-12) for ious, other in zip(theirs, overlaps, strict=True))
    few, many = crowded(4), crowded(100)
    slow = len(few) / seconds(lambda: plainly(few))
    rates = sorted(len(many) / seconds(lambda: ours(many)) for _ in range(3))
    print(f"\nPiM and IoU, 512x512, 7 instances x 30 detections: {slow:.2f} pictures/s plainly, {rates[1]:.0f} here:")
    print(f"{rates[1] / slow:.0f}x")


def row() -> Inputs:
    """As many layouts, instances and detections as COCO's validation set asks for."""
    rng = np.random.default_rng(1)
    instances: list[Record] = []
    detections: list[DetectionRecord] = []
    shapes = []
    for number in range(NUM_INSTANCES):
        place, category = int(rng.integers(NUM_PICTURES)), int(rng.integers(NUM_CLASSES))
        shape, rle = blob(rng)
        shapes.append((place, category, shape))
        x, y, r, _ = shape
        box = [max(0.0, x - r) / SIZE, max(0.0, y - r) / SIZE, min(SIZE, x + r) / SIZE, min(SIZE, y + r) / SIZE]
        scribble = np.clip(rng.normal((x, y), r / 2, (20, 2)) / SIZE, 0, 1).ravel().tolist()
        attributes = {"caption": CLASSES[category], "colour": None, "texture": None, "crowd": False, "area": np.nan}
        where = {"box": box, "mask": rle["counts"], "point": [x / SIZE, y / SIZE], "scribble": scribble}
        instances.append({"key": f"{place:06d}", "index": number, "category": CLASSES[category], **where, **attributes})
    for number in range(NUM_DETECTIONS):
        place, category, shape = shapes[number % NUM_INSTANCES]
        (x, y, r, _), rle = blob(rng, shape)
        detections.append(
            DetectionRecord(
                image_id=place + 1,
                category_id=category + 1 if rng.random() < 0.6 else int(rng.integers(1, NUM_CLASSES + 1)),
                bbox=[x - r, y - r, 2 * r, 2 * r],
                score=float(rng.random()),
                segmentation=Rle(size=(SIZE, SIZE), counts=rle["counts"]),
            )
        )
    keys = [f"{place:06d}" for place in range(NUM_PICTURES)]
    images = pd.DataFrame({"key": keys, "group": "mixed", "file": keys, "width": SIZE, "height": SIZE, "caption": ""})
    truth: GroundTruth = joined(images, pd.DataFrame(instances), {}, Path("bench"))
    sizes = ((SIZE, SIZE),) * NUM_PICTURES
    blank = (np.zeros((1, 1), np.uint8),) * NUM_PICTURES
    pictures = Pictures(tuple(keys), (Path(),) * NUM_PICTURES, sizes, tuple(keys), blank, sizes)
    ordered = tuple(sorted(detections, key=lambda detection: (detection.image_id, -detection.score)))
    return Inputs(truth, pictures, None, Detections({"pictures": pictures.digest}, CLASSES, ordered, ""))


def test_a_row_as_large_as_coco() -> None:
    """Print the time of each part and the greatest memory."""
    inputs = row()
    params = Params(
        seed=0,
        square=None,
        min_score=0.25,
        num_resamples=1000,
        num_resamples_parts=200,
        sizes={"small": (0, 1024), "medium": (1024, 9216), "large": (9216, 1e10)},
        leak_groups=(),
        words={},
        templates={},
        batch_size=1,
        sets=DistanceParams(features="judge", beside=(), num_resamples=1, kid_subsets=1, kid_subset_size=2),
        preferences=(),
        device=PLAIN,
        work=Work(part_size=1, retry=(), workers=Workers(executor="here", processes=1, slurm=None, dask=None)),
    )
    began = time.perf_counter(), time.process_time()
    scores, metrics, *_ = score_row.score("box", inputs, None, params)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{len(scores)} instances, {len(inputs.detections.annotations)} detections, {len(metrics)} metrics:")
    print(f"{wall:.0f} s, {cpu:.0f} s of CPU, {memory:.1f} GB")
    assert len(scores) == NUM_INSTANCES
