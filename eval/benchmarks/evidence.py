"""What is known of the pictures of a benchmark: detections, masks of the given boxes, and kept answers.

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
from eval.benchmarks.pictures import Shown
from eval.benchmarks.shape import Needed
from eval.inputs.detections import Detections
from eval.inputs.pictures import Pixels, read
from eval.metrics import matching
from eval.metrics.attributes import Judge
from instdiff import tables
from instdiff.layouts import masks
from instdiff.layouts.geometry import from_pixels
from instdiff.schema import Box, Rle

Floats = NDArray[np.float64]
Region = tuple[float, ...] | None
Key = tuple[str, Region, str]  # picture, region, question

DIGITS = 6  # of a fraction: regions that agree so far are one
MASKS = tables.with_columns(tables.INSTANCE_KEY, height=pa.int32(), width=pa.int32(), mask=pa.string())


class Found(NamedTuple):
    """Detections of one text in one picture, by falling score: edges in fractions, and masks where there are any."""

    boxes_N4: Floats
    scores_N: Floats
    masks: tuple[Rle | None, ...] = ()

    def above(self, score: float) -> "Found":
        """Those with a higher score."""
        return self.chosen(np.flatnonzero(self.scores_N > score))

    def suppressed(self, iou: float) -> "Found":
        """Without those that overlap a surer one by more."""
        return self.chosen(matching.suppressed(self.boxes_N4, iou))

    def chosen(self, places: NDArray[np.intp]) -> "Found":
        """Those at these places."""
        kept = tuple(self.masks[place] for place in places) if self.masks else ()
        return Found(self.boxes_N4[places], self.scores_N[places], kept)

    def best(self, box: Box) -> tuple[float, Box | None]:
        """The highest overlap with a box, and what has it; 0 and None where nothing overlaps."""
        if not len(self.boxes_N4):
            return 0.0, None
        overlaps_N = matching.corner_ious(self.boxes_N4, np.array([box], np.float64))[:, 0]
        place = int(overlaps_N.argmax())
        return float(overlaps_N[place]), Box(*self.boxes_N4[place].tolist()) if overlaps_N[place] > 0 else None


NOTHING = Found(np.zeros((0, 4)), np.zeros(0))


class Question(NamedTuple):
    """What an answerer must still be asked."""

    name: str  # of the picture
    region: Region
    question: str


@dataclass(frozen=True)
class Known:
    """The answers of one judge under one setting, by picture (a hash), region and question."""

    by_key: Mapping[Key, str]
    judge: str
    settings: str


@dataclass
class Evidence:
    """All that is known of a set of pictures; None where nobody looked."""

    found: Mapping[str, Mapping[str, Found]] | None = None  # by picture and text
    masks: Mapping[tuple[str, int], Rle] | None = None  # by picture and instance
    answers: Known | None = None
    identities: Mapping[str, str] = field(default_factory=dict)  # by picture: the hash of its pixels
    judge: Judge | None = None
    questions: Mapping[str, str] = field(default_factory=dict)
    boxes_in: str = ""  # the unit of an answerer's boxes
    sources: dict[str, object] = field(default_factory=dict)  # hashes and names, for provenance

    @property
    def kinds(self) -> frozenset[Needed]:
        """What there is."""
        sides: dict[Needed, object] = {
            "detections": self.found,
            "masks": self.masks,
            "answers": self.answers,
            "judge": self.judge,
        }
        return frozenset(name for name, side in sides.items() if side is not None)


class View:
    """One picture as a measure sees it; `compat` says whether the benchmark's own faults are wanted.

    What an answerer was not asked yet is counted in `pending` and answered by no; answers that say nothing in
    `faults`.
    """

    def __init__(self, shown: Shown, evidence: Evidence, compat: bool) -> None:
        self.compat = compat
        self.case, self.size = shown.case, shown.size
        self.pending: list[Question] = []
        self.faults = 0
        self._shown, self._evidence = shown, evidence

    @property
    def absent(self) -> bool:
        """Whether there is no picture: nothing is found and every answer is no."""
        return self._shown.path is None

    def has(self, kind: Needed) -> bool:
        """Whether somebody looked so."""
        return kind in self._evidence.kinds

    def found(self, text: str) -> Found:
        """What was found of a text."""
        if self.absent or self._evidence.found is None:
            return NOTHING
        return self._evidence.found.get(self._shown.name, {}).get(text, NOTHING)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of which something was found."""
        return (
            () if self.absent or self._evidence.found is None else tuple(self._evidence.found.get(self._shown.name, ()))
        )

    def mask(self, index: int) -> Rle | None:
        """The mask in an instance's given box."""
        return None if self._evidence.masks is None else self._evidence.masks.get((self._shown.name, index))

    def ask(self, question: str, region: Box | None = None, **fields: str) -> str:
        """The answer to a question, by its id in the benchmark's wording and with its fields filled in."""
        if self.absent:
            return "no"
        text = filled(self._evidence.questions[question], fields)
        key = _region(region)
        answers = self._evidence.answers
        if answers is not None:
            answer = answers.by_key.get((self._evidence.identities[self._shown.name], key, text))
            if answer is not None:
                return answer
        self.pending.append(Question(self._shown.name, key, text))
        return "no"

    def fault(self) -> None:
        """Count an answer that says nothing."""
        self.faults += not self.absent

    def pixels(self) -> Pixels:
        """The picture, RGB; black where there is none."""
        if self._shown.path is None:
            return np.zeros((*self.size, 3), np.uint8)
        return read(self._shown.path)

    @property
    def judge(self) -> Judge:
        """A CLIP; measures ask for it only where there is one."""
        assert self._evidence.judge is not None
        return self._evidence.judge

    @property
    def boxes_in(self) -> str:
        """The unit of an answerer's boxes."""
        return self._evidence.boxes_in


def filled(template: str, fields: Mapping[str, str]) -> str:
    """The question: each {field} replaced once, whatever else stands in braces."""
    for name, value in fields.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def of_detections(detections: Detections, shown: Sequence[Shown]) -> dict[str, dict[str, Found]]:
    """Detections by picture and text; image ids count the pictures that are there, in their order.

    ValueError names a text that nobody looked for.
    """
    there = [one for one in shown if one.path is not None]
    unknown = [text for one in there for text in one.texts if text not in detections.classes]
    if unknown:
        raise ValueError(
            f"the detections are of {len(detections.classes)} categories, and {unknown[0]!r} is none of them"
        )
    lines: dict[tuple[int, int], list[tuple[Box, float, Rle | None]]] = {}
    for one in detections.annotations:
        height, width = there[one.image_id - 1].size
        x, y, across, down = one.bbox
        placed = from_pixels(x, y, x + across, y + down, height=height, width=width)
        lines.setdefault((one.image_id, one.category_id), []).append((placed, one.score, one.segmentation))
    found: dict[str, dict[str, Found]] = {}
    for (image, category), ones in lines.items():
        boxes, scores, rles = zip(*ones, strict=True)
        by_text = found.setdefault(there[image - 1].name, {})
        by_text[detections.classes[category - 1]] = Found(np.array(boxes), np.array(scores), rles)
    return found


def read_masks(path: Path, shown: Sequence[Shown]) -> dict[tuple[str, int], Rle]:
    """Masks of given boxes; ValueError names the row that belongs to no instance, or is of another size."""
    by_name = {one.name: one for one in shown}
    found = {}
    for row in tables.read(path, MASKS).to_dict("records"):
        where = f"{path}: mask {row['index']} of {row['key']!r}"
        one = by_name.get(row["key"])
        if one is None or not 0 <= row["index"] < len(one.case.instances):
            raise ValueError(f"{where}: the benchmark has no such instance")
        if pd.isna(row["mask"]) or one.path is None:
            continue
        rle = Rle(size=(int(row["height"]), int(row["width"])), counts=row["mask"])
        if rle.size != one.size:
            raise ValueError(f"{where}: is of a picture of {rle.size}, which is {one.size}")
        try:
            masks.checked(rle)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        found[row["key"], int(row["index"])] = rle
    return found


def read_answers(path: Path, judge: str | None) -> Known:
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
    return Known(dict(zip(keys, table["answer"], strict=True)), *ways[0])


def _read_region(text: str, path: Path) -> Region:
    if not text:
        return None
    try:
        edges = [float(str(edge)) for edge in json.loads(text)]  # str: true is no number
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: region {text[:60]!r} is not a list of four numbers") from error
    if len(edges) != 4:
        raise ValueError(f"{path}: region {text[:60]!r} is not a list of four numbers")
    return _region(edges)


def _region(box: Sequence[float] | None) -> Region:
    return None if box is None else tuple(round(float(edge), DIGITS) + 0.0 for edge in box)
