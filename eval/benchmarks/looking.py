"""Markers and answerers on the pictures of a benchmark: a marker fills the given boxes, an answerer answers what lacks.

What a finder looks for in a picture are the texts of the picture's own instances.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eval.answerers import asking
from eval.answerers.answerer import Answerer
from eval.answerers.answerer import Question as Asked
from eval.answerers.store import Answers
from eval.benchmarks import pictures, scoring
from eval.benchmarks.evidence import MASKS, Evidence, Known
from eval.benchmarks.pictures import Shown
from eval.benchmarks.shape import Benchmark
from eval.finders.finder import Marker
from eval.inputs.pictures import Pixels, read
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.progress import track
from instdiff.schema import Box

MOST_ROUNDS = 10  # of questions that hang on answers


def texts(shown: Sequence[Shown]) -> pd.DataFrame:
    """Columns key and category: what a finder looks for in each picture that is there."""
    rows = [(one.name, text) for one in shown if one.path is not None for text in one.texts]
    return pd.DataFrame(rows, columns=["key", "category"])


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
    benchmark: Benchmark, shown: Sequence[Shown], evidence: Evidence, answerer: Answerer, kept: Answers, batch_size: int
) -> int:
    """Ask all that a benchmark asks, round by round, and put the answers into the evidence; how many were new.

    A question that fails has an empty answer, which says nothing and is counted.
    """
    paths = {evidence.identities[one.name]: one for one in shown if one.path is not None}

    def pixels_of(picture: str) -> Pixels:
        one = paths[picture]
        assert one.path is not None
        return read(one.path, one.size)

    answers: dict[tuple[str, tuple[float, ...] | None, str], str] = {}
    num_asked = 0
    for _ in range(MOST_ROUNDS):
        evidence.answers = Known(answers, answerer.judge, answerer.settings)
        pending = scoring.pending(benchmark, shown, evidence)
        if not pending:
            break
        names = [evidence.identities[one.name] for one in pending]
        questions = [
            Asked(name, None if one.region is None else Box(*one.region), one.question)
            for name, one in zip(names, pending, strict=True)
        ]
        replies = asking.ask(questions, pixels_of, answerer, kept, batch_size)
        num_asked += replies.num_asked
        for name, one, answer in zip(names, pending, replies.answers, strict=True):
            answers[name, one.region, one.question] = answer or ""
    return num_asked
