"""Finders, markers and answerers on the pictures of a benchmark; what they say is kept in files.

Each is asked what the benchmark asks: a finder the texts of a picture's own instances, a marker the given boxes, an
answerer the questions that nobody has answered yet.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from eval.benchmarks import pictures, scoring
from eval.benchmarks.evidence import ANSWERS, MASKS, Answers, Evidence, Question, identities
from eval.benchmarks.pictures import Shown
from eval.benchmarks.shape import Benchmark
from eval.inputs import detections, ground_truth
from eval.inputs.pictures import Pixels
from instdiff import provenance, tables
from instdiff.layouts import masks
from instdiff.layouts.masks import Mask
from instdiff.progress import track
from instdiff.schema import Box

MOST_ROUNDS = 10  # of questions that hang on answers


class Detection(Protocol):
    """One thing found."""

    @property
    def category(self) -> str:
        """One of the texts."""

    @property
    def score(self) -> float:
        """How sure, 0 to 1."""

    @property
    def box(self) -> Box:
        """Where, in fractions."""

    @property
    def mask(self) -> Mask | None:
        """Where, at the picture's size; None of a finder of boxes."""


class Finder(Protocol):
    """Whoever finds things in pictures."""

    @property
    def classes(self) -> Sequence[str] | None:
        """All that it can find; None where it looks for any text."""

    def find(self, pictures: Sequence[Pixels], texts: Sequence[Sequence[str]], /) -> Sequence[Sequence[Detection]]:
        """What is seen of each picture's texts."""
        ...


class Marker(Protocol):
    """Whoever fills boxes with masks."""

    def fill(
        self, pictures: Sequence[Pixels], boxes: Sequence[Sequence[Box]], /
    ) -> Sequence[Sequence[tuple[Mask, float]]]:
        """The best mask of each box of each picture, and how good it is."""
        ...


Answerer = Callable[[Sequence[Question]], Sequence[str]]


def detect(path: Path, finder: Finder, source: str, shown: Sequence[Shown], settings: Mapping[str, object]) -> None:
    """Write the detections of the pictures that are there; `source` identifies the finder.

    ValueError when the finder does not know a text that is asked for.
    """
    there = [one for one in shown if one.path is not None]
    texts = sorted({str(text) for one in there for text in _texts(one)})
    classes = list(finder.classes) if finder.classes is not None else texts
    unknown = [text for text in texts if text not in classes]
    if unknown:
        raise ValueError(f"the finder does not know {unknown[0]!r}; it knows {', '.join(classes)}")
    found = pictures.whole(shown)
    ids = {name: place for place, name in enumerate(classes, start=1)}
    records: list[dict[str, object]] = []
    for place, one in track(enumerate(there), len(there), "pictures"):
        (seen,) = finder.find([found.load(place)], [_texts(one)])
        for detection in seen:
            record = {
                "image_id": place + 1,
                "category_id": ids[detection.category],
                "bbox": ground_truth.xywh(detection.box, *found.sizes[place]),
                "score": float(detection.score),
            }
            if detection.mask is not None:
                record["segmentation"] = masks.encode(detection.mask).model_dump()
            records.append(record)
    made_by = {
        "pictures": found.digest,
        "detector": source,
        "settings": dict(settings),
        "versions": provenance.versions(),
    }
    detections.write(path, made_by, classes, records)


def mark(path: Path, marker: Marker, shown: Sequence[Shown]) -> None:
    """Write the mask in each given box of the pictures that are there."""
    rows: list[dict[str, object]] = []
    there = [one for one in shown if one.path is not None]
    found = pictures.whole(shown)
    for place, one in track(enumerate(there), len(there), "pictures"):
        placed = [(index, each.box) for index, each in enumerate(one.case.instances) if each.box is not None]
        (filled,) = marker.fill([found.load(place)], [[box for _, box in placed]])
        for (index, _), (mask, _) in zip(placed, filled, strict=True):
            height, width = mask.shape
            counts = masks.encode(mask).counts
            rows.append({"key": one.name, "index": index, "height": height, "width": width, "mask": counts})
    tables.write(path, rows, MASKS)


def ask(
    path: Path,
    answerer: Answerer,
    names: tuple[str, str],
    benchmark: Benchmark,
    shown: Sequence[Shown],
    evidence: Evidence,
) -> None:
    """Ask all that a benchmark asks, and keep it; `names` are the answerer's and that of its settings."""
    evidence.identities = identities(shown)
    known = dict(evidence.answers.by_key) if evidence.answers is not None else {}
    for _ in range(MOST_ROUNDS):
        evidence.answers = Answers(known, *names)
        pending = scoring.pending(benchmark, shown, evidence)
        if not pending:
            break
        for question, answer in zip(pending, answerer(pending), strict=True):
            known[evidence.identities[question.name], question.region, question.question] = answer
    rows = [
        {
            "picture": picture,
            "region": None if region is None else list(region),
            "question": question,
            "judge": names[0],
            "settings": names[1],
            "answer": answer,
        }
        for (picture, region, question), answer in known.items()
    ]
    tables.write(path, pd.DataFrame(rows, columns=ANSWERS.names), ANSWERS)


def _texts(one: Shown) -> list[str]:
    """What a finder is asked of a picture."""
    return list(dict.fromkeys(each.category for each in (*one.case.instances, *one.case.excluded) if each.category))
