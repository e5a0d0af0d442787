"""SACap-Eval: the only public benchmark whose layouts are masks. A judge looks at the box around each mask.

Seg2Any 2b39414 (eval/metric_regional_quality.py). A Parquet table of captions, and SA-1B's JSON file beside each
picture, which holds the masks. What a caption does not say is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from eval.benchmarks import benchmark_files, layoutsam, replies
from eval.benchmarks.benchmark import Benchmark, Reading, Value
from eval.benchmarks.benchmark_files import FileRecord, Phrase, Side, Text
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.view import View
from instdiff.files.texts import read_json
from instdiff.layouts import masks
from instdiff.schema import Rle

COLUMNS = ("imagename", "caption", "segments_info")
YES = ("Yes", "yes", "YES")
UNSAID = "unsaid"


class SacapSegment(FileRecord):
    """An instance: the mask's id in SA-1B's file, and what it is called."""

    anno_id: int
    caption: Phrase
    short_caption: Text | None = None


class SacapRow(FileRecord):
    """A row of the table."""

    imagename: Phrase
    caption: Text
    segments_info: tuple[SacapSegment, ...] = Field(min_length=1)


class Sa1bMask(FileRecord):
    """An annotation of SA-1B's file."""

    id: int
    segmentation: Rle


class Sa1bImage(FileRecord):
    """The picture of SA-1B's file."""

    width: Side
    height: Side


class Sa1bFile(FileRecord):
    """SA-1B's file of one picture."""

    image: Sa1bImage
    annotations: tuple[Sa1bMask, ...]


def read(paths: Sequence[Path]) -> Reading:
    """The Parquet tables, and the folders in which SA-1B's JSON files lie."""
    folders = [path for path in paths if path.is_dir()]
    tables = [path for path in paths if not path.is_dir()]
    if not folders:
        raise ValueError("SACap-Eval: give the folder of SA-1B's JSON files, too: the masks are in them")
    rows = [pair for path in tables for pair in benchmark_files.parquet(path, COLUMNS)]
    return Reading(
        benchmark_files.checked([_case(row, folders, where) for where, row in rows], ", ".join(map(str, tables)))
    )


def _case(row: Mapping[str, Any], folders: Sequence[Path], where: str) -> Case:
    segments = benchmark_files.literal(row["segments_info"], f"{where}: segments_info")
    checked = benchmark_files.parsed(SacapRow, {**row, "segments_info": segments}, where)
    stem = benchmark_files.key(PurePath(checked.imagename).stem, where)
    path = next((folder / f"{stem}.json" for folder in folders if (folder / f"{stem}.json").is_file()), None)
    if path is None:
        raise ValueError(f"{where}: imagename: no {stem}.json in {', '.join(map(str, folders))}")
    content = benchmark_files.parsed(Sa1bFile, read_json(path), str(path))
    by_id = {annotation.id: annotation.segmentation for annotation in content.annotations}
    instances = [
        _instance(segment, by_id, f"{where}: segments_info.{place}", path)
        for place, segment in enumerate(checked.segments_info)
    ]
    size = content.image
    return Case(key=stem, prompt=checked.caption, instances=tuple(instances), height=size.height, width=size.width)


def _instance(segment: SacapSegment, by_id: Mapping[int, Rle], where: str, path: Path) -> ExpectedInstance:
    mask = by_id.get(segment.anno_id)
    if mask is None:
        raise ValueError(f"{where}: anno_id: {path} has no annotation {segment.anno_id}")
    try:
        box = masks.box_of(masks.decode(mask))
    except ValueError as error:
        raise ValueError(f"{path}: annotation {segment.anno_id}: {error}") from error
    short = segment.short_caption if segment.short_caption and segment.short_caption.strip() else segment.caption
    return ExpectedInstance(
        phrase=segment.caption, category=short, short=short, detail=segment.caption, box=box, mask=mask
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """As LayoutSAM-Eval; an attribute that the caption does not say is left out."""
    for index, instance in enumerate(case.instances):
        is_there = replies.yes(view, view.ask("spatial", instance.box, short=instance.short), YES)
        yield Value("spatial", index, float(is_there))
        for name in layoutsam.ATTRIBUTES:
            answer = view.ask(name, instance.box, detail=instance.detail) if is_there else "no"
            unsaid = UNSAID in answer.lower()
            yield Value(name, index, None if unsaid else float(is_there and replies.yes(view, answer, YES)))


BENCHMARK = Benchmark(
    name="sacap",
    title="SACap-Eval",
    source="Seg2Any 2b39414 (eval/metric_regional_quality.py); card of 0xLDF/SACap-eval",
    licence="see the card of the data",
    files="the Parquet table and the folder of SA-1B's JSON files",
    judges="Qwen2-VL-72B-AWQ, temperature .1, on the box around the mask",
    needs=frozenset({"answers"}),
    read=read,
    measures=layoutsam.measures("the box around the mask"),
    measure=measure,
    absent="left out",
    comparable="with the benchmark's judge and questions (--questions), within the judge's noise; how it tells that a"
    " caption leaves an attribute out is not known here: our question lets the judge answer 'unsaid'",
    pictures="<stem of imagename>.png",
    questions={
        "spatial": layoutsam.QUESTIONS["spatial"],
        **{
            name: f"Here is a description: {{detail}}. Does the {name} of the subject in the picture agree with it?"
            f" Where the description says nothing of {name}, say {UNSAID}. Answer with one word: Yes, No or {UNSAID}."
            for name in layoutsam.ATTRIBUTES
        },
    },
)
