"""self_test: whether the evaluator measures on COCO's own pictures what its detector is known to reach on them.

It runs before anything is drawn. A result beyond the band means that the pictures, the annotations or the detector are
others than they should be, and that no number of the table could be trusted.
"""

import json
from pathlib import Path

from eval import detect
from eval.inputs import coco, detections, ground_truth
from eval.inputs.pictures import find
from eval.metrics import average_precision
from instdiff import stage
from instdiff.files import atomic, provenance
from instdiff.schema import Share, Strict

KINDS: dict[str, average_precision.Kind] = {"box_ap": "bbox", "mask_ap": "segm"}


class Params(Strict):
    """What is expected of which detector."""

    expected: dict[str, Share]  # box_ap and mask_ap, as its authors publish them
    within: Share  # of the published value, above and below
    detect: detect.Params


def measured(truth: ground_truth.GroundTruth, detected: detections.Detections) -> dict[str, float]:
    """Average precision of boxes and masks, without intervals."""
    sizes = [(int(row["height"]), int(row["width"])) for row in truth.images.to_dict("records")]
    annotations = ground_truth.coco_annotations(truth, sizes, detected.classes)
    images, categories = ground_truth.coco_images(sizes), ground_truth.coco_categories(detected.classes)
    values = {}
    for name, kind in KINDS.items():
        matched = average_precision.matched(images, categories, annotations, detected.in_coco, kind)
        values[name] = average_precision.summary(matched).ap
    return values


def verdict(values: dict[str, float], params: Params) -> str | None:
    """What is wrong, in one sentence; None where all are within the band."""
    wrong = [
        f"{name} {100 * values[name]:.1f}, not {100 * expected:.1f} within {100 * params.within:g}"
        for name, expected in params.expected.items()
        if abs(values[name] - expected) > params.within
    ]
    return "; ".join(wrong) or None


def run(*, pictures: Path, annotations: Path, detector: Path, result: Path, params: Params) -> dict[str, float]:
    """COCO's own pictures -> average precision of the detector, or a sentence"""
    truth = coco.ground_truth(annotations)
    real_pictures = find(pictures, truth.images, None)
    scratch = result.with_name("self-test-detections.json")
    detect.detected(scratch, real_pictures, truth.instances, detector, params.detect)
    values = measured(truth, detections.read(scratch, real_pictures.sizes))
    scratch.unlink()
    fault = verdict(values, params)
    if fault is not None:
        raise ValueError(
            f"{pictures}: the detector of {detector} finds {fault}: the pictures, the annotations or the detector are"
            " others than they should be, and nothing it judges could be trusted"
        )
    with atomic.file(result) as part:
        record = {"measured": values, "expected": params.expected, "detector": provenance.of_folder(detector)}
        part.write_text(json.dumps(record) + "\n")
    return {"pictures": len(real_pictures.keys), **values}


if __name__ == "__main__":
    stage.main(run)
