"""COCO-MIG (MIG-Bench): two to six instances, each in its place and in its colour.

MIG_Bench 063ec45. The same 800 layouts lie in two forms: `mig_bench.json`, and MIGC's `mig_bench_anno.yaml`, whose
`coco_id` is the number of the sample.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from eval.benchmarks import benchmark_files
from eval.benchmarks.benchmark import Benchmark, Measure, Published, Reading, Value
from eval.benchmarks.benchmark_files import Edges, FileRecord, Phrase, Text
from eval.benchmarks.case import SIDE, Case, ExpectedInstance, PictureName
from eval.benchmarks.view import View
from eval.metrics import hsv, mig
from instdiff.files.texts import read_json, read_yaml
from instdiff.layouts import masks
from instdiff.schema import Box

MIN_SCORE, MOST_OVERLAP = 0.25, 0.8
YAML = {".yaml", ".yml"}
_LABEL = re.compile(rf"an? ({'|'.join(hsv.RANGES)}) (\S.*)")
_NUMBERED = re.compile(r"(?:^|_)(\d+)$")


class MigSegment(FileRecord):
    """An instance of mig_bench.json."""

    bbox: Edges
    label: Phrase


class MigLayout(FileRecord):
    """A layout of mig_bench.json."""

    caption: Text
    segment: tuple[MigSegment, ...]


def read(paths: Sequence[Path]) -> Reading:
    """The layouts of either form."""
    path = benchmark_files.one_file(paths, "COCO-MIG's list of layouts")
    if path.suffix.lower() in YAML:
        content = benchmark_files.named(read_yaml(path), str(path))
        cases = [_of_yaml(prompt, entry, f"{path}: {prompt[:60]!r}") for prompt, entry in content.items()]
    else:
        content = benchmark_files.named(read_json(path), str(path))
        cases = [_of_json(number, sample, f"{path}: {number[:20]!r}") for number, sample in content.items()]
    return Reading(benchmark_files.checked(cases, path))


def _of_json(number: str, sample: object, where: str) -> Case:
    checked = benchmark_files.parsed(MigLayout, sample, where)
    segments = [(segment.label, segment.bbox) for segment in checked.segment]
    return _case(number, checked.caption, segments, where)


def _of_yaml(prompt: str, entry: object, where: str) -> Case:
    content = dict(benchmark_files.named(entry, where))
    number = content.pop("coco_id", None)
    if not isinstance(number, str | int) or isinstance(number, bool):
        raise ValueError(f"{where}: coco_id: the number of the sample is expected")
    segments = []
    for label, boxes in content.items():
        for place, edges in enumerate(benchmark_files.listed(boxes, f"{where}: {label}")):
            segment = benchmark_files.parsed(MigSegment, {"label": label, "bbox": edges}, f"{where}: {label}.{place}")
            segments.append((segment.label, segment.bbox))
    return _case(str(number), prompt, segments, where)


def _case(number: str, prompt: str, segments: Sequence[tuple[str, Edges]], where: str) -> Case:
    if not number.isascii() or not number.isdecimal():
        raise ValueError(f"{where}: the number of a sample is expected as its name")
    if not segments:
        raise ValueError(f"{where}: segment: holds no instance")
    instances = []
    for place, (label, edges) in enumerate(segments):
        named = _LABEL.fullmatch(label.strip())
        if named is None:
            raise ValueError(
                f"{where}: segment.{place}.label: {label[:40]!r} is not 'a <colour> <category>' with a colour of"
                f" {', '.join(hsv.RANGES)}"
            )
        box = benchmark_files.box(edges, f"{where}: segment.{place}.bbox")
        colour, category = named.groups()
        instances.append(ExpectedInstance(phrase=label.strip(), category=category.strip(), box=box, colour=colour))
    return Case(
        key=benchmark_files.key(number, where),
        prompt=prompt.strip(),
        instances=tuple(instances),
        height=SIDE,
        width=SIDE,
        parts=(f"level/L{len(instances)}",),
    )


def measure(case: Case, view: View) -> Iterable[Value]:
    """Place by the best box of the category, colour by the share of the mask in the given box, both by instance."""
    pixels = view.pixels() if view.has("masks") and not view.absent else None
    succeeded = []
    for index, instance in enumerate(case.instances):
        overlap = place(view, instance.text, instance.place)
        yield Value("place_success", index, float(overlap >= mig.MIN_IOU))
        yield Value("place_miou", index, overlap)
        if not view.has("masks"):
            continue
        mask = view.mask(index) if overlap >= mig.MIN_IOU else None
        right = pixels is not None and mask is not None and hsv.right(pixels, masks.decode(mask), str(instance.colour))
        succeeded.append(overlap >= mig.MIN_IOU and right)
        yield Value("success", index, float(succeeded[-1]))
        yield Value("miou", index, 0.0 if overlap >= mig.MIN_IOU and not right else overlap)
    if view.has("masks"):
        yield Value("pictures", -1, float(all(succeeded)))


def place(view: View, text: str, box: Box) -> float:
    """The highest overlap of a box with what was found of a text, as MIG-Bench asks its finder."""
    return view.detections_of(text).above(MIN_SCORE).suppressed(MOST_OVERLAP).best(box)[0]


def named(path: PurePath) -> PictureName | None:
    """A picture's name is the number of its sample, or ends with it."""
    number = _NUMBERED.search(path.stem)
    return None if number is None or len(path.parts) > 1 else PictureName(str(int(number[1])), "")


README, CONTEXTGEN = "MIG_Bench 063ec45, README", "ContextGen f22fa90, its paper's table 2"
DEIG_DIGEST = "DEIG's paper, by a third-party digest"
_PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {  # source -> model -> instance success, mIoU
    README: {
        "InstanceDiffusion": (0.51, 0.46),
        "ReCo": (0.55, 0.49),
        "MIGC": (0.66, 0.56),
        "GLIGEN": (0.30, 0.27),
    },
    "ROICtrl's paper, by a third-party digest": {"ROICtrl": (0.73, 0.66)},
    CONTEXTGEN: {
        "InstanceDiffusion": (0.603, 0.548),
        "MIGC": (0.664, 0.570),
        "EliGen": (0.641, 0.592),
        "ContextGen": (0.697, 0.651),
    },
    DEIG_DIGEST: {"ROICtrl": (0.633, 0.553), "DEIG": (0.723, 0.626)},
}

BENCHMARK = Benchmark(
    name="coco-mig",
    title="COCO-MIG",
    source="MIG_Bench 063ec45 (eval_mig.py), MIGC effd6cc",
    licence="non-commercial research only",
    files="mig_bench.json, or MIGC's mig_bench_anno.yaml",
    judges="GroundingDINO Swin-T OGC, asked the category; SAM ViT-H in the given box, best of three; colours by HSV",
    needs=frozenset({"detections"}),
    read=read,
    measures={
        "success": Measure("instance success", "in its place (IoU .5) and a fifth of its mask in its colour"),
        "miou": Measure("mIoU", "IoU of the best box; 0 where the place is right and the colour wrong"),
        "pictures": Measure("picture success", "all instances of a picture succeed", of="picture"),
        "place_success": Measure("in place", "in its place, whatever its colour", headline=False),
        "place_miou": Measure("mIoU of places", "IoU of the best box, whatever its colour", headline=False),
    },
    measure=measure,
    absent="left out",
    comparable="with GroundingDINO Swin-T OGC and SAM ViT-H on 512x512 pictures; published numbers of one model lie up"
    " to 9 points apart",
    named=named,
    left_aside=lambda path: path.name.startswith("anno_"),
    pictures="<number>.png or <anything>_<number>.png; MIGC's copies anno_* are left aside",
    published=tuple(
        Published(model, measure, value, source)
        for source, models in _PUBLISHED.items()
        for model, values in models.items()
        for measure, value in zip(("success", "miou"), values, strict=True)
    ),
)
