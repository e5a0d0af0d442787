"""LayoutBench-COCO: layouts with unusual numbers, places, sizes and combinations of things, by average precision.

LayoutBench-COCO 77f504c. Its evaluator wants COCO files of the same names that are published nowhere: the ground truth
is built again from the lists of layouts.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from pydantic import Field

from eval.benchmarks import benchmark_files, precision
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Text
from eval.benchmarks.case import SIDE, Case, ExpectedInstance
from eval.benchmarks.view import View
from eval.metrics import average_precision
from eval.metrics.average_precision import CategoryMatches
from instdiff.files.texts import read_json
from instdiff.schema import Box

SKILLS = ("number", "position", "size", "combination")
WORDS = {"count": "number", "number": "number", "position": "position", "size": "size", "combination": "combination"}


class Item(FileRecord):
    """A layout of a list."""

    caption: Text
    file_name: Phrase | None = None
    id: str | int | None = None
    boxes_normalized: tuple[Edges, ...] = Field(min_length=1)
    box_captions: tuple[Phrase, ...]


def read(paths: Sequence[Path]) -> Reading:
    """The lists of layouts; a file's name says the skill, where it is not that of all."""
    cases: dict[str, Case] = {}
    for path in paths:
        skill = next((name for word, name in WORDS.items() if word in path.stem.lower()), None)
        for number, record in enumerate(benchmark_files.listed(read_json(path), str(path))):
            where = f"{path}: {number}"
            case = _case(record, skill, where)
            before = cases.get(case.key)
            if before is not None and before.instances != case.instances:
                raise ValueError(f"{where}: the picture {case.key!r} stands twice, with other boxes")
            if before is None or not before.parts:
                cases[case.key] = case
    return Reading(benchmark_files.checked(list(cases.values()), ", ".join(map(str, paths)) or "no file"))


def _case(record: object, skill: str | None, where: str) -> Case:
    item = benchmark_files.parsed(Item, record, where)
    name = item.file_name if item.file_name is not None else item.id
    if name is None:
        raise ValueError(f"{where}: file_name: it or id is needed")
    if len(item.boxes_normalized) != len(item.box_captions):
        counts = f"{len(item.boxes_normalized)} boxes and {len(item.box_captions)} captions"
        raise ValueError(f"{where}: box_captions: there are {counts}")
    return Case(
        key=benchmark_files.key(PurePath(str(name)).stem if item.file_name is not None else str(name), where),
        prompt=item.caption,
        instances=tuple(
            ExpectedInstance(
                phrase=caption,
                category=benchmark_files.without_article(caption),
                box=benchmark_files.box(edges, f"{where}: boxes_normalized.{place}"),
            )
            for place, (edges, caption) in enumerate(zip(item.boxes_normalized, item.box_captions, strict=True))
        ),
        height=SIDE,
        width=SIDE,
        parts=(f"skill/{skill}",) if skill is not None else (),
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Beside average precision: the overlap of each instance's best detection of its category."""
    for index, instance in enumerate(case.instances):
        yield Value("miou", index, view.detections_of(instance.text).best(instance.place)[0])


def matched(views: Sequence[View]) -> dict[str, list[CategoryMatches]]:
    """What COCO's average precision counts, over the categories that the layouts have."""
    names = sorted({instance.text for view in views for instance in view.case.instances})
    ids = {name: place for place, name in enumerate(names, start=1)}
    annotations: list[dict[str, object]] = []
    detected: list[dict[str, object]] = []
    for image, view in enumerate(views, start=1):
        for instance in view.case.instances:
            annotations.append(
                precision.annotation(len(annotations) + 1, image, ids[instance.text], instance.place, view.size)
            )
        for name in sorted({instance.text for instance in view.case.instances} | set(view.texts)):
            if name in ids:
                detections = view.detections_of(name)
                for box, score in zip(detections.boxes_N4.tolist(), detections.scores_N.tolist(), strict=True):
                    record = precision.annotation(len(detected) + 1, image, ids[name], Box(*box), view.size)
                    detected.append(record | {"score": score})
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"ap": average_precision.matched(precision.images(views), categories, annotations, detected, "bbox")}


_PUBLISHED = {  # AP in % by skill
    "IterInpaint": (31.4, 39.1, 33.5, 44.1),
    "GLIGEN": (30.7, 36.4, 33.3, 36.3),
    "ReCo": (30.9, 38.9, 24.1, 18.7),
    "ControlNet": (9.2, 15.3, 10.8, 6.4),
}

BENCHMARK = Benchmark(
    name="layoutbench-coco",
    title="LayoutBench-COCO",
    source="LayoutBench-COCO 77f504c; j-min/layoutbench-coco",
    licence="MIT",
    files="combination_, count_, position_ and size_layouts_*.json, or all_layouts.json",
    judges="YOLOv7 at 640, score .001, NMS .65 (give its results as --detections)",
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "ap": Measure("AP", "COCO's average precision of boxes, by skill", whole=True),
        "miou": Measure("mIoU", "IoU with the best detection of the category", headline=False),
    },
    measure=measure,
    matched=matched,
    absent="refused",
    comparable="with YOLOv7 at these settings; the ground truth is built again from the lists, since the COCO files of"
    " its evaluator are not published",
    pictures="<stem of file_name>.png, 512x512",
    published=tuple(
        Published(model, f"ap/skill/{skill}", round(value / 100, 4), "LayoutBench-COCO 77f504c, table in its README")
        for model, values in _PUBLISHED.items()
        for skill, value in zip(SKILLS, values, strict=True)
    ),
)
