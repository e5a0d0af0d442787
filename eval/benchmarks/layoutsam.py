"""LayoutSAM-Eval: a judge looks at the crop of each given box for its subject, colour, texture and shape.

CreatiLayout 860d8bd. A subject that is not there fails in all four.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from eval.benchmarks import benchmark_files, replies
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Side, Text
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.view import View

LITERALS = ("region_captions", "detail_region_captions", "bbox_list")
COLUMNS = ("file_name", "width", "height", "global_caption", *LITERALS)
ATTRIBUTES = ("colour", "texture", "shape")
YES = ("Yes", "yes")


class LayoutSamRow(FileRecord):
    """A row of the table, its three lists read."""

    file_name: Phrase
    width: Side
    height: Side
    global_caption: Text
    region_captions: tuple[Text, ...]
    detail_region_captions: tuple[Phrase, ...] = Field(min_length=1)
    bbox_list: tuple[Edges, ...]


def read(paths: Sequence[Path]) -> Reading:
    """The layouts of the Parquet files of the split `test`."""
    cases = [_case(row, where) for path in paths for where, row in benchmark_files.parquet(path, COLUMNS)]
    return Reading(benchmark_files.checked(cases, ", ".join(map(str, paths)) or "no file"))


def _case(row: Mapping[str, Any], where: str) -> Case:
    lists = {name: benchmark_files.literal(row[name], f"{where}: {name}") for name in LITERALS}
    checked = benchmark_files.parsed(LayoutSamRow, {**row, **lists}, where)
    counts = {len(checked.region_captions), len(checked.detail_region_captions), len(checked.bbox_list)}
    if len(counts) > 1:
        raise ValueError(f"{where}: {', '.join(LITERALS)} have {', '.join(map(str, sorted(counts)))} entries")
    regions = zip(checked.region_captions, checked.detail_region_captions, checked.bbox_list, strict=True)
    return Case(
        key=benchmark_files.key(PurePath(checked.file_name).stem, where),
        prompt=checked.global_caption,
        instances=tuple(
            ExpectedInstance(
                phrase=detail,
                category=short,
                short=short,
                detail=detail,
                box=benchmark_files.box(edges, f"{where}: bbox_list.{place}", checked.width, checked.height),
            )
            for place, (short, detail, edges) in enumerate(regions)
        ),
        height=checked.height,
        width=checked.width,
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Four values an instance, from the crop of its given box."""
    for index, instance in enumerate(case.instances):
        is_there = replies.yes(view, view.ask("spatial", instance.box, short=instance.short), YES)
        yield Value("spatial", index, float(is_there))
        for name in ATTRIBUTES:
            right = is_there and replies.yes(view, view.ask(name, instance.box, detail=instance.detail), YES)
            yield Value(name, index, float(right))


def agreement(attribute: str) -> str:
    """Our question on one attribute."""
    return (
        f"Here is a description: {{detail}}. Does the {attribute} of the subject in the picture agree with it? Where"
        f" the description says nothing of {attribute}, answer Yes. Answer with one word, Yes or No."
    )


def measures(where: str) -> dict[str, Measure]:
    """The four, on the crop of these boxes."""
    return {
        "spatial": Measure("spatial", f"the judge sees the subject in {where}"),
        "colour": Measure("colour", "and its colour agrees with the detailed caption"),
        "texture": Measure("texture", "and its texture does"),
        "shape": Measure("shape", "and its shape does"),
    }


QUESTIONS = {
    "spatial": "Can {short} be seen in the picture? Answer with one word, Yes or No.",
    **{name: agreement(name) for name in ATTRIBUTES},
}

_PUBLISHED = {  # spatial, colour, texture, shape
    "InstanceDiffusion": (86.4, 71.4, 76.7, 75.4),
    "ContextGen": (94.0, 87.4, 89.3, 88.4),
    "EliGen": (94.1, 83.8, 87.3, 87.0),
    "CreatiLayout": (93.6, 77.4, 79.6, 78.9),
}


def published() -> Iterator[Published]:
    """What ContextGen's paper states."""
    for model, values in _PUBLISHED.items():
        for name, value in zip(("spatial", *ATTRIBUTES), values, strict=True):
            yield Published(model, name, value / 100, "ContextGen f22fa90, its paper's table 2", "a sampled judge")


BENCHMARK = Benchmark(
    name="layoutsam",
    title="LayoutSAM-Eval",
    source="CreatiLayout 860d8bd (score_layoutsam_benchmark.py); card of HuiZhang0812/LayoutSAM-eval 930abfa",
    licence='"apache-2.0", for research purposes only',
    files="the Parquet files of the split test",
    judges="MiniCPM-V-2.6, sampled (temperature .7, top-p .8, top-k 100), on the crop of the given box",
    needs=frozenset({"answers"}),
    read=read,
    measures=measures("the given box"),
    measure=measure,
    absent="refused",
    comparable="with the benchmark's judge and questions (--questions), within the judge's noise: it is sampled there."
    " Crops are ours, cut at the fractions of the box, not at the third decimal",
    pictures="<stem of file_name>.jpg, square, whatever the source",
    questions=QUESTIONS,
    published=tuple(published()),
)
