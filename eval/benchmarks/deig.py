"""DEIG-Bench: persons in one to three colours, objects with colour, material and texture, each in its place.

DEIG d98a76a. Right is what is in its place and, by an answerer that sees the crop of the given box, fits the
description.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Literal

from pydantic import Field

from eval.benchmarks import benchmark_files, coco_mig, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Text
from eval.benchmarks.case import SIDE, Case, ExpectedInstance
from eval.benchmarks.view import View
from eval.metrics import mig
from instdiff.files.texts import read_json

FITS = "fits"


class Colour(FileRecord):
    """How many colours a person has."""

    num_colors: int = Field(default=1, ge=0)


class Material(FileRecord):
    """Whether an object has a material."""

    has_material: bool = False


class Texture(FileRecord):
    """Whether an object has a texture."""

    has_texture: bool = False


class JudgedAttributes(FileRecord):
    """What of an instance is judged."""

    color: Colour | None = None
    material: Material | None = None
    texture: Texture | None = None


class Info(FileRecord):
    """Whether it is a person, and what of it is judged."""

    type: Literal["person", "object"]
    eval_metrics: JudgedAttributes


class DeigInstance(FileRecord):
    """An instance of the file."""

    category: Phrase
    bbox: Edges
    description: Phrase
    eval_info: Info

    @property
    def level(self) -> str:
        """C1 to C3 for a person's colours; L1 to L4 for an object's colour, material, texture, or both."""
        metrics = self.eval_info.eval_metrics
        if self.eval_info.type == "person":
            return f"C{metrics.color.num_colors if metrics.color is not None else 0}"
        material = metrics.material is not None and metrics.material.has_material
        texture = metrics.texture is not None and metrics.texture.has_texture
        return f"L{1 + material + 2 * texture}"


class DeigLayout(FileRecord):
    """A layout of the file."""

    image_id: int
    file_name: Text
    caption: Text
    instances: tuple[DeigInstance, ...] = Field(min_length=1)


def read(paths: Sequence[Path]) -> Reading:
    """The layouts of deig_bench_coco.json."""
    path = benchmark_files.one_file(paths, "DEIG-Bench's list of layouts")
    content = benchmark_files.named(read_json(path), str(path))
    results = benchmark_files.listed(content.get("results"), f"{path}: results")
    cases = [_case(record, f"{path}: results.{number}") for number, record in enumerate(results)]
    return Reading(benchmark_files.checked(cases, path))


def _case(record: object, where: str) -> Case:
    checked = benchmark_files.parsed(DeigLayout, record, where)
    instances = tuple(
        ExpectedInstance(
            phrase=instance.description,
            category=instance.category,
            box=benchmark_files.box(instance.bbox, f"{where}: instances.{place}.bbox"),
            detail=instance.description,
            parts=(f"{instance.eval_info.type}/{instance.level}",),
        )
        for place, instance in enumerate(checked.instances)
    )
    return Case(
        key=benchmark_files.key(PurePath(checked.file_name).stem, where),
        prompt=", ".join(instance.description for instance in checked.instances),
        instances=instances,
        height=SIDE,
        width=SIDE,
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Overlap of each instance's best box and, where somebody answers, whether place and description are right."""
    for index, instance in enumerate(case.instances):
        overlap = coco_mig.place(view, instance.text, instance.place)
        yield Value("miou", index, overlap)
        yield Value("place_success", index, float(overlap >= mig.MIN_IOU))
        if view.has("answers"):
            right = overlap >= mig.MIN_IOU and _fits(view, instance)
            kind = "human_maa" if instance.parts[0].startswith("person") else "object_maa"
            yield Value(kind, index, float(right))


def _fits(view: View, instance: ExpectedInstance) -> bool:
    return replies.yes(view, view.ask(FITS, instance.box, description=instance.detail), ("yes",))


_PUBLISHED = {  # human MAA, object MAA, mIoU
    "InstanceDiffusion": (0.25, 0.33, 0.75),
    "DEIG": (0.75, 0.44, 0.79),
    "ROICtrl": (0.31, 0.33, 0.71),
    "MIGC": (0.22, 0.36, 0.72),
}

BENCHMARK = Benchmark(
    name="deig",
    title="DEIG-Bench",
    source="DEIG d98a76a (eval/eval_deigbench.py)",
    licence="none stated",
    files="eval/deig_bench_coco.json",
    judges="GroundingDINO Swin-T OGC, asked the category; Qwen2.5-VL-7B on the crop of the given box",
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "human_maa": Measure("human MAA", "persons in their place that fit their description"),
        "object_maa": Measure("object MAA", "objects in their place that fit their description"),
        "miou": Measure("mIoU", "IoU of the best box, whatever it looks like"),
        "place_success": Measure("in place", "the best box overlaps by half or more", headline=False),
    },
    measure=measure,
    absent="left out",
    comparable="with the benchmark's detector, judge and question (--questions), within the judge's noise: it answers"
    " by its model's sampling defaults there, and a Yes with a capital letter counts as no",
    pictures="<stem of file_name>.jpg",
    questions={FITS: "Here is a description: {description}. Does the picture fit it? Answer with one word, yes or no."},
    published=tuple(
        Published(model, measure, value, coco_mig.DEIG_DIGEST)
        for model, values in _PUBLISHED.items()
        for measure, value in zip(("human_maa", "object_maa", "miou"), values, strict=True)
    ),
)
