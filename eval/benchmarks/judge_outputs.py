"""What judges gave for the pictures of a benchmark: detections, masks of the given boxes, and stored answers.

All three are files, so that scoring needs no model; questions without an answer are collected, for an answerer to be
asked. Masks are a Parquet table with columns key, index, height, width, mask (COCO's compressed run lengths).
Legend: N detections of one picture and text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from eval.answerers.store import ANSWERS
from eval.benchmarks.case import JudgeKind
from eval.benchmarks.pictures import ExpectedPicture
from eval.inputs.detections import Detections
from eval.metrics import matching
from eval.metrics.attributes import Judge
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import INSTANCE_KEY
from instdiff.layouts.geometry import from_pixels
from instdiff.schema import Box, Rle

Floats = NDArray[np.float64]
Region = tuple[float, ...] | None
Key = tuple[str, Region, str]  # picture, region, question

DIGITS = 6  # of a fraction: regions that agree so far are one
MASKS = tables.with_columns(INSTANCE_KEY, height=pa.int32(), width=pa.int32(), mask=pa.string())


class TextDetections(NamedTuple):
    """Detections of one text in one picture, by falling score: edges in fractions, and masks where there are any."""

    boxes_N4: Floats
    scores_N: Floats
    masks: tuple[Rle | None, ...] = ()

    def above(self, score: float) -> "TextDetections":
        """Those with a higher score."""
        return self.chosen(np.flatnonzero(self.scores_N > score))

    def suppressed(self, iou: float) -> "TextDetections":
        """Without those that overlap a surer one by more."""
        return self.chosen(matching.suppressed(self.boxes_N4, iou))

    def chosen(self, places: NDArray[np.intp]) -> "TextDetections":
        """Those at these places."""
        chosen_masks = tuple(self.masks[place] for place in places) if self.masks else ()
        return TextDetections(self.boxes_N4[places], self.scores_N[places], chosen_masks)

    def best(self, box: Box) -> tuple[float, Box | None]:
        """The highest overlap with a box, and what has it; 0 and None where nothing overlaps."""
        if not len(self.boxes_N4):
            return 0.0, None
        overlaps_N = matching.corner_ious(self.boxes_N4, np.array([box], np.float64))[:, 0]
        place = int(overlaps_N.argmax())
        return float(overlaps_N[place]), Box(*self.boxes_N4[place].tolist()) if overlaps_N[place] > 0 else None


NOTHING = TextDetections(np.zeros((0, 4)), np.zeros(0))


class PendingQuestion(NamedTuple):
    """A question that has no answer yet."""

    name: str  # of the picture
    region: Region
    text: str


@dataclass(frozen=True)
class StoredAnswers:
    """The answers of one judge under one setting, by picture (a hash), region and question."""

    by_key: Mapping[Key, str]
    judge: str
    settings: str


@dataclass
class JudgeOutputs:
    """All that judges gave for a set of pictures; None where no judge of the kind was run."""

    detections: Mapping[str, Mapping[str, TextDetections]] | None = None  # by picture and text
    masks: Mapping[tuple[str, int], Rle] | None = None  # by picture and instance
    answers: StoredAnswers | None = None
    identities: Mapping[str, str] = field(default_factory=dict)  # by picture: the hash of its pixels
    judge: Judge | None = None
    questions: Mapping[str, str] = field(default_factory=dict)
    boxes_in: str = ""  # the unit of an answerer's boxes
    sources: dict[str, object] = field(default_factory=dict)  # hashes and names, for provenance
    computed: dict[tuple[str, str], NDArray[np.float64]] = field(default_factory=dict)  # by picture and what it is

    @property
    def kinds(self) -> frozenset[JudgeKind]:
        """The kinds of judges whose outputs are there."""
        sides: dict[JudgeKind, object] = {
            "detections": self.detections,
            "masks": self.masks,
            "answers": self.answers,
            "judge": self.judge,
        }
        return frozenset(name for name, side in sides.items() if side is not None)


def of_detections(detections: Detections, pictures: Sequence[ExpectedPicture]) -> dict[str, dict[str, TextDetections]]:
    """Detections by picture and text; image ids count the pictures that are there, in their order.

    ValueError names a text that is none of the detections' categories.
    """
    present = [picture for picture in pictures if picture.path is not None]
    unknown = [text for picture in present for text in picture.texts if text not in detections.classes]
    if unknown:
        raise ValueError(
            f"the detections are of {len(detections.classes)} categories, and {unknown[0]!r} is none of them"
        )
    lines: dict[tuple[int, int], list[tuple[Box, float, Rle | None]]] = {}
    for annotation in detections.annotations:
        height, width = present[annotation.image_id - 1].size
        x, y, across, down = annotation.bbox
        placed = from_pixels(x, y, x + across, y + down, height=height, width=width)
        lines.setdefault((annotation.image_id, annotation.category_id), []).append(
            (placed, annotation.score, annotation.segmentation)
        )
    by_picture: dict[str, dict[str, TextDetections]] = {}
    for (image, category), detected in lines.items():
        boxes, scores, rles = zip(*detected, strict=True)
        by_text = by_picture.setdefault(present[image - 1].name, {})
        by_text[detections.classes[category - 1]] = TextDetections(np.array(boxes), np.array(scores), rles)
    return by_picture


def read_masks(path: Path, pictures: Sequence[ExpectedPicture]) -> dict[tuple[str, int], Rle]:
    """Masks of given boxes; ValueError names the row that belongs to no instance, or is of another size."""
    by_name = {picture.name: picture for picture in pictures}
    masks_of = {}
    for row in tables.read(path, MASKS).to_dict("records"):
        where = f"{path}: mask {row['index']} of {row['key']!r}"
        picture = by_name.get(row["key"])
        if picture is None or not 0 <= row["index"] < len(picture.case.instances):
            raise ValueError(f"{where}: the benchmark has no such instance")
        if pd.isna(row["mask"]) or picture.path is None:
            continue
        rle = Rle(size=(int(row["height"]), int(row["width"])), counts=row["mask"])
        if rle.size != picture.size:
            raise ValueError(f"{where}: is of a picture of {rle.size}, which is {picture.size}")
        try:
            masks.checked(rle)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        masks_of[row["key"], int(row["index"])] = rle
    return masks_of


def read_answers(path: Path, judge: str | None) -> StoredAnswers:
    """The kept answers of one judge, from a folder or a file.

    ValueError where several stand there and none, or an unknown one, was named.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no answers there")
    table = pd.concat([tables.read(file, ANSWERS) for file in files], ignore_index=True)
    table = table[table.notna().all(axis=1)]
    if judge is not None:
        table = table[table["judge"] == judge]
    ways = list(dict.fromkeys(zip(table["judge"], table["settings"], strict=True)))
    if not ways:
        raise ValueError(f"{path}: no answers" + ("" if judge is None else f" of the judge {judge!r}"))
    if len(ways) > 1:
        names = ", ".join(f"{name} ({settings})" for name, settings in ways[:3])
        raise ValueError(f"{path}: answers of {len(ways)} judges or settings stand there: {names}: name one, or split")
    regions = {text: _read_region(text, path) for text in table["region"].unique()}
    keys = zip(table["picture"], table["region"].map(regions), table["question"], strict=True)
    return StoredAnswers(dict(zip(keys, table["answer"], strict=True)), *ways[0])


def _read_region(text: str, path: Path) -> Region:
    if not text:
        return None
    try:
        edges = [float(str(edge)) for edge in json.loads(text)]  # str: true is no number
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: region {text[:60]!r} is not a list of four numbers") from error
    if len(edges) != 4:
        raise ValueError(f"{path}: region {text[:60]!r} is not a list of four numbers")
    return region_of(edges)


def region_of(box: Sequence[float] | None) -> Region:
    """The box rounded, so that regions that agree to DIGITS are one."""
    return None if box is None else tuple(round(float(edge), DIGITS) + 0.0 for edge in box)
