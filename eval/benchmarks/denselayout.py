"""DenseLayout and its score LGS: eighteen instances a picture, found first and then judged on the detected box.

InstanceAssemble a572349. Of an instance that is found in its place, an attribute that is right counts as much as its
box overlaps.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from eval.benchmarks import benchmark_files, layoutsam, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Side, Text
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.view import View
from eval.metrics import mig
from instdiff.files.texts import read_json

MIN_SCORE = 0.35
YES = ("Yes", "yes", "YES")
IDS, PROMPTS, LISTS = ("id", "image_id"), ("prompt", "global_caption"), ("annos", "instance_info")


class DenseInstance(FileRecord):
    """An instance, by the names of the code or of the sample that its page shows."""

    bbox: Edges
    category_name: Phrase = Field(validation_alias=AliasChoices("category_name", "description"))
    caption: Text = Field(validation_alias=AliasChoices("caption", "detail_description"))


class DenseLayout(FileRecord):
    """A layout, by either names."""

    id: str | int = Field(validation_alias=AliasChoices(*IDS))
    width: Side
    height: Side
    prompt: Text = Field(validation_alias=AliasChoices(*PROMPTS))
    annos: tuple[DenseInstance, ...] = Field(min_length=1, validation_alias=AliasChoices(*LISTS))


def read(paths: Sequence[Path]) -> Reading:
    """The layouts of the split `test`, as Parquet, a JSON list or JSON lines."""
    rows = [pair for path in paths for pair in _rows(path)]
    return Reading(
        benchmark_files.checked([_case(row, where) for where, row in rows], ", ".join(map(str, paths)) or "no file")
    )


def _rows(path: Path) -> list[tuple[str, Any]]:
    if path.suffix.lower() == ".parquet":
        return list(benchmark_files.parquet(path, ("width", "height"), (*IDS, *PROMPTS, *LISTS)))
    listed = benchmark_files.listed(read_json(path), str(path))
    return [(f"{path}: {number}", record) for number, record in enumerate(listed)]


def _case(row: Any, where: str) -> Case:
    if isinstance(row, Mapping):
        row = {
            name: benchmark_files.literal(value, f"{where}: {name}") if name in LISTS else value
            for name, value in row.items()
        }
    checked = benchmark_files.parsed(DenseLayout, row, where)
    return Case(
        key=benchmark_files.key(str(checked.id), where),
        prompt=checked.prompt,
        instances=tuple(
            ExpectedInstance(
                phrase=annotation.caption if annotation.caption.strip() else annotation.category_name,
                category=annotation.category_name,
                short=annotation.category_name,
                detail=annotation.caption,
                box=benchmark_files.box(annotation.bbox, f"{where}: annos.{place}.bbox", checked.width, checked.height),
            )
            for place, annotation in enumerate(checked.annos)
        ),
        height=checked.height,
        width=checked.width,
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Overlap of the best box, 0 below a half; the same for each attribute that is right, else 0.

    A caption that only repeats the category has no attribute: left out here, 0 in the reference.
    """
    for index, instance in enumerate(case.instances):
        overlap, box = view.detections_of(instance.text).above(MIN_SCORE).best(instance.place)
        overlap = overlap if overlap >= mig.MIN_IOU else 0.0
        yield Value("spatial", index, overlap)
        if not view.has("answers"):
            continue
        described = instance.detail.strip() not in {"", instance.category}
        for name in layoutsam.ATTRIBUTES:
            if not described:
                yield Value(name, index, 0.0 if view.compat else None)
                continue
            right = overlap > 0 and replies.yes(view, view.ask(name, box, detail=instance.detail), YES)
            yield Value(name, index, overlap if right else 0.0)


BENCHMARK = Benchmark(
    name="denselayout",
    title="DenseLayout (LGS)",
    source="InstanceAssemble a572349 (score_LGS.py); card of FireRedTeam/DenseLayout",
    licence='"apache-2.0", for research purposes only',
    files="the split test, as Parquet, a JSON list or JSON lines",
    judges="GroundingDINO Swin-T OGC at .35, asked the category; MiniCPM-V-2.6, sampled, on the detected box",
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "spatial": Measure("spatial", "IoU of the best box, 0 below a half"),
        "colour": Measure("colour", "the same where the judge says that the colour agrees, else 0"),
        "texture": Measure("texture", "the same with texture"),
        "shape": Measure("shape", "the same with shape"),
    },
    measure=measure,
    absent="left out",
    comparable="with the benchmark's detector, judge and questions (--questions), within the judge's noise: it is"
    " sampled there. No published number is known here",
    pictures="<id>.jpg, as high and wide as the record says",
    questions={name: layoutsam.QUESTIONS[name] for name in layoutsam.ATTRIBUTES},
)
