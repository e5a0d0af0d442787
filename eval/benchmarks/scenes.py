"""A benchmark of our own on the miniature's scenes: coloured, textured shapes whose places and masks are known.

In the shape of the others, so that every protocol runs here on pictures that need no download.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks import benchmark_files, coco_mig, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Reading, Value
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.view import View
from eval.metrics import mig, overlap
from instdiff.files import tables
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED, IMAGES

YES = ("yes", "Yes")


def read(paths: Sequence[Path]) -> Reading:
    """The two tables that the pipeline evaluates on: images.parquet and annotated.parquet."""
    if len(paths) != 2:
        raise ValueError(f"{len(paths)} files: the table of images and the annotated table are expected, in this order")
    images, annotated = tables.read(paths[0], IMAGES), tables.read(paths[1], ANNOTATED)
    rows = tables.rows_of(annotated)
    cases = [_case(image, rows.get(image["key"], []), paths[1]) for image in images.to_dict("records")]
    return Reading(benchmark_files.checked(cases, paths[0]))


def _case(image: Mapping[Any, Any], rows: Sequence[Mapping[str, Any]], path: Path) -> Case:
    instances = []
    for row in sorted(rows, key=lambda row: int(row["index"])):
        placed = from_tables.instance(row, image["height"], image["width"])
        if placed.box is None or placed.category is None:
            raise ValueError(f"{path}: instance {row['index']} of {image['key']!r} has no box or no category")
        benchmark_files.box(placed.box, f"{path}: instance {row['index']} of {image['key']!r}")
        instances.append(
            ExpectedInstance(**dict(placed), short=placed.category, detail=placed.phrase, colour=row["colour"])
        )
    return Case(
        key=benchmark_files.key(image["key"], str(path)),
        prompt=image["caption"],
        instances=tuple(instances),
        height=image["height"],
        width=image["width"],
        parts=(f"group/{image['group']}",),
        pairs=tuple(overlap.pairs([instance.place for instance in instances])),
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Overlap and success of the best box, the overlap of overlapping pairs, and whether it is as described."""
    seen = []
    for index, instance in enumerate(case.instances):
        best, box = view.detections_of(instance.text).above(coco_mig.MIN_SCORE).best(instance.place)
        seen.append(box)
        yield Value("miou", index, best)
        right = best >= mig.MIN_IOU
        if view.has("answers"):
            fits = replies.yes(view, view.ask("fits", instance.box, description=instance.detail), YES)
            right &= fits
            yield Value("fits", index, float(fits))
        yield Value("success", index, float(right))
    for index, (a, b) in enumerate(case.pairs):
        boxes = case.instances[a].place, case.instances[b].place
        yield Value("o_miou", index, overlap.pair_iou(boxes, (seen[a], seen[b])))


BENCHMARK = Benchmark(
    name="scenes",
    title="Scenes of the miniature",
    source="this repository",
    licence="Apache-2.0",
    files="images.parquet and annotated.parquet of the pipeline",
    judges="any finder that knows the eight shapes; any answerer",
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "success": Measure("success", "in its place and, where somebody answers, as described"),
        "miou": Measure("mIoU", "IoU of the best box of its category"),
        "fits": Measure("fits", "the answerer sees in the given box what is described"),
        "o_miou": Measure("O-mIoU", "IoU of the overlap of two boxes with that of their detections", of="pair"),
    },
    measure=measure,
    absent="left out",
    comparable="among results of one finder and one answerer",
    questions={"fits": "Is this {description}? Answer with one word, yes or no."},
)
