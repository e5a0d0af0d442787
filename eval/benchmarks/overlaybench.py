"""OverLayBench: instances that overlap, and what they are to each other.

OverLayBench 67073aa, with its page da8d962. A judge lists the boxes that it sees of each category (or a finder does,
by name); they are paired with the given ones by falling overlap, as its code does, and as its page says (Hungarian).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from eval.benchmarks import benchmark_files, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Text
from eval.benchmarks.case import Case, ExpectedInstance, PictureName, Relation
from eval.benchmarks.view import View
from eval.metrics import matching, overlap
from instdiff.files.texts import read_json
from instdiff.schema import Box

SIDE = 1024  # pixels of the square that its boxes are on
SPLITS = {"simple": "simple", "regular": "regular", "medium": "regular", "complex": "complex", "hard": "complex"}
PAIRINGS = ("", "_hungarian")  # by falling overlap as the code has it, and as the page says


class OverlapInstance(FileRecord):
    """An instance."""

    bbox: Edges
    category: Phrase
    local_prompts: Text = ""


class Overlap(FileRecord):
    """Two instances that overlap, by their places."""

    overlap_box: tuple[int, int]


class OverlapLayout(FileRecord):
    """A layout."""

    caption: Text
    annotations: dict[Phrase, OverlapInstance] = Field(min_length=1)
    relations: dict[Text, Text] = Field(default_factory=dict)
    valid_overlap: tuple[Overlap, ...] = ()


class OverlapRow(FileRecord):
    """A row of the table."""

    image_id: str | int
    annotation: Any


def read(paths: Sequence[Path]) -> Reading:
    """The splits, each a Parquet table or a JSON list whose name, or whose folder's, says which it is."""
    cases, remarks = [], []
    for path in paths:
        split = _split(path)
        for where, row in _rows(path):
            cases.append(_case(row, split, where))
        if not split:
            remarks.append(f"{path}: neither its name nor its folder's is a split ({', '.join(SPLITS)})")
    return Reading(benchmark_files.checked(cases, ", ".join(map(str, paths)) or "no file"), tuple(remarks))


def _split(path: Path) -> str:
    """The page's name of a file's split; the code calls the last two medium and hard."""
    for name in (path.stem.lower(), path.parent.name.lower()):
        for word, split in SPLITS.items():
            if word in name:
                return split
    return ""


def _rows(path: Path) -> list[tuple[str, Any]]:
    if path.suffix.lower() == ".parquet":
        return list(benchmark_files.parquet(path, ("image_id", "annotation")))
    listed = benchmark_files.listed(read_json(path), str(path))
    return [(f"{path}: {number}", record) for number, record in enumerate(listed)]


def _case(record: Any, split: str, where: str) -> Case:
    row = benchmark_files.parsed(OverlapRow, record, where)
    annotation = benchmark_files.literal(row.annotation, f"{where}: annotation")
    checked = benchmark_files.parsed(OverlapLayout, annotation, f"{where}: annotation")
    count = len(checked.annotations)
    pairs = []
    for place, pair in enumerate(checked.valid_overlap):
        a, b = pair.overlap_box
        if not (0 <= a < count and 0 <= b < count and a != b):
            raise ValueError(
                f"{where}: annotation: valid_overlap.{place}: {a} and {b} are not two of {count} instances"
            )
        pairs.append((a, b))
    return Case(
        key=benchmark_files.key(f"{split}-{row.image_id}" if split else str(row.image_id), where),
        prompt=checked.caption,
        instances=tuple(
            ExpectedInstance(
                phrase=instance.local_prompts if instance.local_prompts.strip() else instance.category,
                category=instance.category,
                short=name,
                detail=instance.local_prompts,
                box=benchmark_files.box(
                    instance.bbox, f"{where}: annotation: annotations.{name[:40]}.bbox", SIDE, SIDE
                ),
            )
            for name, instance in checked.annotations.items()
        ),
        height=SIDE,
        width=SIDE,
        parts=(f"split/{split}",) if split else (),
        pairs=tuple(pairs),
        relations=tuple(Relation(name=name, text=text) for name, text in checked.relations.items()),
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Boxes, by either pairing; where somebody answers, entities and relations too."""
    seen = _boxes(case, view)
    for suffix in PAIRINGS:
        matched = _paired(case, seen, hungarian=bool(suffix))
        for index, (instance, box) in enumerate(zip(case.instances, matched, strict=True)):
            yield Value(f"miou{suffix}", index, 0.0 if box is None else _iou(instance.place, box))
        for index, (a, b) in enumerate(case.pairs):
            boxes = case.instances[a].place, case.instances[b].place
            yield Value(f"o_miou{suffix}", index, overlap.pair_iou(boxes, (matched[a], matched[b])))
    if view.has("answers"):
        entities = replies.by_name(view, view.ask("entities", entities=_entities(case)))
        for index, instance in enumerate(case.instances):
            yield Value("sr_e", index, _share(view, entities, instance.short))
        if case.relations:
            listed = json.dumps({relation.name: relation.text for relation in case.relations}, ensure_ascii=False)
            verdicts = replies.by_name(view, view.ask("relations", relations=listed, entities=_entities(case)))
            for index, relation in enumerate(case.relations):
                yield Value("sr_r", index, _share(view, verdicts, relation.name))


def _boxes(case: Case, view: View) -> dict[str, list[Box]]:
    """What is seen of each category: by a finder where there is one, else by the answerer."""
    categories = sorted({instance.text for instance in case.instances})
    if view.has("detections"):
        return {name: [Box(*box) for box in view.detections_of(name).boxes_N4.tolist()] for name in categories}
    listed = replies.by_name(view, view.ask("boxes", categories=", ".join(categories)))
    return {name: replies.boxes(view, listed[name]) if name in listed else [] for name in categories}


def _paired(case: Case, seen: Mapping[str, Sequence[Box]], *, hungarian: bool) -> list[Box | None]:
    """The box of each instance, within its category; extra ones cost nothing."""
    paired: list[Box | None] = [None] * len(case.instances)
    for category, boxes in seen.items():
        members = [place for place, instance in enumerate(case.instances) if instance.category == category]
        instances_G4 = matching.corners([case.instances[place].place for place in members])
        iou_DG = matching.corner_ious(matching.corners(boxes), instances_G4)
        pairing = matching.hungarian(iou_DG) if hungarian else matching.one_to_one(iou_DG, iou_DG >= 0)
        for place, detection in zip(members, pairing, strict=True):
            paired[place] = boxes[detection] if detection >= 0 else None
    return paired


def _iou(a: Box, b: Box) -> float:
    return float(matching.corner_ious(matching.corners([a]), matching.corners([b]))[0, 0])


def _entities(case: Case) -> str:
    """Name, box on the square, and description of each instance, as JSON."""
    listed = {
        instance.short: {"box": [round(edge * SIDE) for edge in instance.place], "description": instance.detail}
        for instance in case.instances
    }
    return json.dumps(listed, ensure_ascii=False)


def _share(view: View, verdicts: Mapping[str, Any], name: str) -> float:
    """1 for yes; what the answer does not name is a no, and counted."""
    if name not in verdicts:
        view.fault()
    return float(replies.is_yes(verdicts.get(name)))


def named(path: PurePath) -> PictureName | None:
    """`<split>/<seed>/<image_id>.png`, or one folder of pictures by key."""
    match path.parts:
        case (split, seed, _) if split in SPLITS:
            return PictureName(f"{SPLITS[split]}-{path.stem}", seed)
        case (_,):
            return PictureName(path.stem, "")
    return None


_SCALE = ("miou", "o_miou", "sr_e", "sr_r")
_PAGE = "OverLayBench's page da8d962, leaderboard.json"
_PUBLISHED = {  # in %: mIoU, O-mIoU, SR_E, SR_R
    ("InstanceDiffusion", "simple"): (71.2, 50.0, 77.7, 87.5),
    ("InstanceDiffusion", "regular"): (60.1, 34.2, 72.5, 83.4),
    ("InstanceDiffusion", "complex"): (53.7, 25.6, 66.0, 80.3),
    ("Laytrol", "complex"): (61.5, 37.8, 72.8, 86.1),
    ("InstanceAssemble", "complex"): (61.2, 34.0, 60.2, 84.0),
    ("CreatiLayout-FLUX", "complex"): (54.5, 29.0, 69.7, 86.5),
}

BENCHMARK = Benchmark(
    name="overlaybench",
    title="OverLayBench",
    source="OverLayBench 67073aa (overlaybenchpytools), its page da8d962; card of cywang143/OverLayBench_Eval",
    licence="data CC-BY-NC-4.0, code MIT",
    files="one file a split, Parquet or JSON, with image_id and annotation; its name or folder says which split",
    judges="Qwen2.5-VL-32B: boxes of all categories, entities, relations",
    needs=frozenset(),
    read=read,
    measures={
        "miou": Measure(
            "mIoU", "pairs by falling IoU within a category, none is 0; means of pictures", over="pictures"
        ),
        "o_miou": Measure(
            "O-mIoU", "IoU of the overlap of two given boxes with that of their pairs", of="pair", over="pictures"
        ),
        "sr_e": Measure("SR_E", "the judge sees the entity with its key attributes"),
        "sr_r": Measure("SR_R", "the judge sees the relation hold", of="relation"),
        "miou_hungarian": Measure(
            "mIoU, Hungarian", "the same, paired as its page says", over="pictures", headline=False
        ),
        "o_miou_hungarian": Measure(
            "O-mIoU, Hungarian", "the same, paired as its page says", of="pair", over="pictures", headline=False
        ),
    },
    measure=measure,
    absent="refused",
    comparable="with the benchmark's judge and questions (--questions), within the judge's noise. Its meter takes"
    " the judge's pixels for the picture's, which moves boxes by 1.2 % (1024) or 1.6 % (512); so does `--compat`",
    named=named,
    pictures="<split>/<seed>/<image_id>.png, or <split>-<image_id>.png",
    questions={
        "boxes": "Find every single instance of these categories in the picture: {categories}. Answer with a JSON"
        " object that has, for each category, a list of boxes [x1, y1, x2, y2] in pixels, and nothing else.",
        "entities": "These instances are meant to be in the picture, each with its box on a square of 1024 pixels and"
        " its description: {entities}. For each, is it clearly drawn with its key attributes? Answer with a JSON object"
        ' that has "Yes" or "No" under the name of each, and nothing else.',
        "relations": "These instances are meant to be in the picture: {entities}. For each pair, does this relation"
        ' hold: {relations}? Answer with a JSON object that has "Yes" or "No" under each pair, and nothing else.',
    },
    published=tuple(
        Published(model, f"{measure}/split/{split}", round(value / 100, 4), _PAGE, "three pictures a layout")
        for (model, split), values in _PUBLISHED.items()
        for measure, value in zip(_SCALE, values, strict=True)
    ),
)
