"""GenEval's parts that ask for colours: pictures of prompts without layouts.

GenEval 5348fb5. Of each thing that is asked for, the surest detections of its class are looked at, as many as are
asked for: the colour is the nearest of ten words, by a CLIP that sees the crop with all but the mask grey.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np
from pydantic import Field

from eval.benchmarks import benchmark_files
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import FileRecord, Phrase
from eval.benchmarks.case import SIDE, Case, ExpectedInstance, PictureName
from eval.benchmarks.judge_outputs import TextDetections
from eval.benchmarks.view import View
from eval.inputs.pictures import Pixels
from eval.metrics import attributes
from instdiff.files.texts import read_json
from instdiff.layouts import masks
from instdiff.layouts.geometry import crop
from instdiff.schema import Box

MIN_SCORE = 0.3
TAGS = ("colors", "color_attr")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {colour} thing", "a photo of a {colour}-colored thing", "a photo of a {colour} object")
GREY = 0x99


class Thing(FileRecord):
    """What must be in the picture, or must not be."""

    name: Phrase = Field(alias="class")
    count: int = Field(ge=1, le=100)
    color: Phrase | None = None


class Prompt(FileRecord):
    """A line of evaluation_metadata.jsonl."""

    tag: Phrase
    prompt: Phrase
    include: tuple[Thing, ...] = ()
    exclude: tuple[Thing, ...] = ()


def read(paths: Sequence[Path]) -> Reading:
    """The prompts about colours; their keys are their numbers among all."""
    path = benchmark_files.one_file(paths, "GenEval's list of prompts")
    lines = benchmark_files.listed(read_json(path), str(path))
    prompts = [benchmark_files.parsed(Prompt, line, f"{path}: {number}") for number, line in enumerate(lines)]
    cases = [_case(number, prompt, path) for number, prompt in enumerate(prompts) if prompt.tag in TAGS]
    others = sum(prompt.tag not in TAGS for prompt in prompts)
    remarks = (f"{others} prompts of other tags than {', '.join(TAGS)} are not scored here",) if others else ()
    return Reading(benchmark_files.checked(cases, path), remarks)


def _case(number: int, prompt: Prompt, path: Path) -> Case:
    if not prompt.include:
        raise ValueError(f"{path}: {number}: include: holds nothing")
    unknown = [thing.color for thing in prompt.include if thing.color not in {None, *COLOURS}]
    if unknown:
        raise ValueError(f"{path}: {number}: include: {unknown[0]!r} is none of {', '.join(COLOURS)}")
    wanted = tuple(
        ExpectedInstance(
            phrase=f"{thing.color} {thing.name}" if thing.color else thing.name,
            category=thing.name,
            colour=thing.color,
            count=thing.count,
        )
        for thing in prompt.include
    )
    return Case(
        key=f"{number:05d}",
        prompt=prompt.prompt,
        instances=wanted,
        height=SIDE,
        width=SIDE,
        parts=(f"tag/{prompt.tag}",),
        excluded=tuple(
            ExpectedInstance(phrase=thing.name, category=thing.name, count=thing.count) for thing in prompt.exclude
        ),
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Whether everything is there often enough and in its colour, and nothing that must not be."""
    right = all(_right(view, instance) for instance in case.instances)
    for thing in case.excluded:
        right &= len(view.detections_of(thing.text).above(MIN_SCORE).scores_N) < thing.count
    yield Value("correct", -1, float(right))


def _right(view: View, instance: ExpectedInstance) -> bool:
    detections = view.detections_of(instance.text).above(MIN_SCORE)
    if len(detections.scores_N) < instance.count:
        return False
    if instance.colour is None:
        return True
    return colours(view, detections, instance.count, instance.text).count(instance.colour) >= instance.count


def colours(view: View, detections: TextDetections, count: int, name: str) -> list[str]:
    """The judge's word for each of the surest detections, all but their masks grey."""
    pixels = view.pixels()
    crops = [_cut(pixels, detections, place) for place in range(count)]
    features = np.asarray(view.judge.image_features(crops), np.float64)
    templates = [template.replace("thing", name) for template in TEMPLATES]
    directions = attributes.directions(view.judge, "colour", templates, {"colour": COLOURS})
    return attributes.judged(features, directions, COLOURS)


def _cut(pixels: Pixels, detections: TextDetections, place: int) -> Pixels:
    box = Box(*detections.boxes_N4[place].tolist())
    mask = detections.masks[place] if detections.masks else None
    if mask is None:
        return crop(pixels, box)
    inside = masks.decode(mask)[..., None]
    return crop(np.where(inside, pixels, np.uint8(GREY)), box)


def named(path: PurePath) -> PictureName | None:
    """`<number>/samples/<which>.png`."""
    match path.parts:
        case (number, "samples", _) if number.isascii() and number.isdecimal():
            return PictureName(f"{int(number):05d}", path.stem)
        case (_,):
            return PictureName(path.stem, "")
    return None


BENCHMARK = Benchmark(
    name="geneval",
    title="GenEval, colours",
    source="GenEval 5348fb5 (evaluation/evaluate_images.py)",
    licence="MIT",
    files="prompts/evaluation_metadata.jsonl",
    judges="Mask2Former Swin-S (mmdet 2.x) at .3, no NMS; CLIP ViT-L/14 for the words of colours",
    needs=frozenset({"detections", "judge"}),
    read=read,
    measures={
        "correct": Measure(
            "correct",
            "all that is asked for, often enough and in its colour; mean over tags",
            of="picture",
            over="parts",
        )
    },
    measure=measure,
    absent="left out",
    comparable="with its detector and CLIP, tag by tag; the mean here is over two of its six tags, and the wording of"
    " its three templates is not known here for certain",
    named=named,
    left_aside=lambda path: path.name.startswith("grid"),
    pictures="<number>/samples/<which>.png, four a prompt",
    repeats=4,
    published=tuple(
        Published(model, f"correct/tag/{tag}", value, "GenEval 5348fb5, README")
        for model, values in {"SDXL": (0.85, 0.23), "SD1.5": (0.76, 0.06)}.items()
        for tag, value in zip(TAGS, values, strict=True)
    ),
)
