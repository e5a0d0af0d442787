"""COCO-Position: each instance in its place, whatever it looks like.

MIGC's paper, whose code is lost; the layouts and rules here are those that ConsistCompose released again (63452ba).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eval.benchmarks import benchmark_files, coco_mig, precision
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.case import SIDE, Case, ExpectedInstance
from eval.benchmarks.coco_mig import MIN_SCORE, MOST_OVERLAP, MigLayout
from eval.benchmarks.view import View
from eval.metrics import average_precision, mig
from eval.metrics.average_precision import CategoryMatches
from instdiff.files.texts import read_json


def read(paths: Sequence[Path]) -> Reading:
    """The layouts of coco_position.jsonl, which is one JSON object."""
    path = benchmark_files.one_file(paths, "COCO-Position's list of layouts")
    content = benchmark_files.named(read_json(path), str(path))
    cases = [_case(number, sample, f"{path}: {number[:20]!r}") for number, sample in content.items()]
    return Reading(benchmark_files.checked(cases, path))


def _case(number: str, sample: object, where: str) -> Case:
    checked = benchmark_files.parsed(MigLayout, sample, where)
    if not number.isascii() or not number.isdecimal():
        raise ValueError(f"{where}: the number of a sample is expected as its name")
    if not checked.segment:
        raise ValueError(f"{where}: segment: holds no instance")
    instances = tuple(
        ExpectedInstance(
            phrase=segment.label.strip(),
            category=benchmark_files.without_article(segment.label),
            box=benchmark_files.box(segment.bbox, f"{where}: segment.{place}.bbox"),
        )
        for place, segment in enumerate(checked.segment)
    )
    prompt = checked.caption.strip()
    return Case(key=benchmark_files.key(number, where), prompt=prompt, instances=instances, height=SIDE, width=SIDE)


def measure(case: Case, view: View) -> Iterable[Value]:
    """Success and overlap of each instance's best box."""
    placed = []
    for index, instance in enumerate(case.instances):
        overlap = coco_mig.place(view, instance.text, instance.place)
        placed.append(overlap >= mig.MIN_IOU)
        yield Value("success", index, float(placed[-1]))
        yield Value("miou", index, overlap)
    yield Value("pictures", -1, float(all(placed)))


def matched(views: Sequence[View]) -> dict[str, list[CategoryMatches]]:
    """The released script's AP: for each instance the box nearest to the given one, with the score of the surest."""
    annotations: list[dict[str, object]] = []
    nearest: list[dict[str, object]] = []
    for image, view in enumerate(views, start=1):
        for instance in view.case.instances:
            annotations.append(precision.annotation(len(annotations) + 1, image, 1, instance.place, view.size))
            detections = view.detections_of(instance.text).above(MIN_SCORE).suppressed(MOST_OVERLAP)
            _, box = detections.best(instance.place)
            if box is not None:
                score = {"score": float(np.max(detections.scores_N))}
                nearest.append(precision.annotation(len(nearest) + 1, image, 1, box, view.size) | score)
    return {
        "nearest_ap": average_precision.matched(
            precision.images(views), [{"id": 1, "name": "any"}], annotations, nearest, "bbox"
        )
    }


_PUBLISHED = {  # instance success, picture success, mIoU, AP
    "InstanceDiffusion": (0.878, 0.655, 0.781, 0.572),
    "ConsistCompose": (0.926, 0.761, 0.853, 0.709),
    "MIGC++": (0.868, 0.634, 0.749, 0.483),
    "GLIGEN": (0.826, 0.521, 0.690, 0.405),
}

BENCHMARK = Benchmark(
    name="coco-position",
    title="COCO-Position",
    source="ConsistCompose 63452ba (eval/coco_position_benchmark.py)",
    licence="Apache-2.0 by the re-release's README",
    files="coco_position.jsonl of the re-release, one JSON object",
    judges='GroundingDINO Swin-T OGC, asked the label without its "a "',
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "success": Measure("instance success", "the best box overlaps the given one by half or more"),
        "pictures": Measure("picture success", "all instances of a picture succeed", of="picture"),
        "miou": Measure("mIoU", "IoU of the best box"),
        "nearest_ap": Measure(
            "AP of the nearest box",
            "the released script's: of each instance the nearest box with the surest one's score; no average precision"
            " of a detector",
            whole=True,
        ),
    },
    measure=measure,
    matched=matched,
    absent="left out",
    comparable="with the re-release's numbers only, whose detector saw red and blue exchanged; give such detections to"
    " compare with it, and never its AP with a box AP",
    named=coco_mig.named,
    left_aside=lambda path: path.name.startswith("anno_"),
    pictures="<number>.png or <anything>_<number>.png",
    published=tuple(
        Published(model, measure, value, "ConsistCompose README 24c9013", "the detector saw red and blue exchanged")
        for model, values in _PUBLISHED.items()
        for measure, value in zip(("success", "pictures", "miou", "nearest_ap"), values, strict=True)
    ),
)
