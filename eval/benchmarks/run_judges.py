"""Run markers and answerers on a benchmark's pictures.

A marker segments the given boxes; an answerer answers the questions that have no stored answer; a finder searches for
the texts of each picture's own instances.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eval.answerers import asking
from eval.answerers.answerer import Answerer, Question
from eval.answerers.store import Answers
from eval.benchmarks import pictures, scoring
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.judge_outputs import MASKS, JudgeOutputs, StoredAnswers
from eval.benchmarks.pictures import ExpectedPicture
from eval.inputs.pictures import Pixels, read
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.networks.finders.finder import Marker
from instdiff.progress import track
from instdiff.schema import Box

MOST_ROUNDS = 10  # of questions that hang on answers


def texts(expected: Sequence[ExpectedPicture]) -> pd.DataFrame:
    """Columns key and category: what a finder searches for in each picture that is there."""
    rows = [(picture.name, text) for picture in expected if picture.path is not None for text in picture.texts]
    return pd.DataFrame(rows, columns=["key", "category"])


def mark(path: Path, marker: Marker, expected: Sequence[ExpectedPicture]) -> None:
    """Write the mask in each given box of the pictures that are there."""
    rows: list[dict[str, object]] = []
    present = [picture for picture in expected if picture.path is not None]
    present_pictures = pictures.whole(expected)
    for place, picture in track(enumerate(present), len(present), "pictures"):
        placed = [(index, each.box) for index, each in enumerate(picture.case.instances) if each.box is not None]
        (filled,) = marker.fill([present_pictures.load(place)], [[box for _, box in placed]])
        for (index, _), (mask, _) in zip(placed, filled, strict=True):
            height, width = mask.shape
            counts = masks.encode(mask).counts
            rows.append({"key": picture.name, "index": index, "height": height, "width": width, "mask": counts})
    tables.write(path, rows, MASKS)


def ask(
    benchmark: Benchmark,
    expected: Sequence[ExpectedPicture],
    outputs: JudgeOutputs,
    answerer: Answerer,
    store: Answers,
    batch_size: int,
) -> int:
    """Ask all that a benchmark asks, round by round, and put the answers into `outputs`; how many were new.

    A question that fails has an empty answer, which says nothing and is counted.
    """
    paths = {outputs.identities[picture.name]: picture for picture in expected if picture.path is not None}

    def pixels_of(identity: str) -> Pixels:
        picture = paths[identity]
        assert picture.path is not None
        return read(picture.path, picture.size)

    answers: dict[tuple[str, tuple[float, ...] | None, str], str] = {}
    num_asked = 0
    for _ in range(MOST_ROUNDS):
        outputs.answers = StoredAnswers(answers, answerer.judge, answerer.settings)
        pending = scoring.pending(benchmark, expected, outputs)
        if not pending:
            break
        names = [outputs.identities[question.name] for question in pending]
        questions = [
            Question(name, None if question.region is None else Box(*question.region), question.text)
            for name, question in zip(names, pending, strict=True)
        ]
        replies = asking.ask(questions, pixels_of, answerer, store, batch_size)
        num_asked += replies.num_asked
        for name, question, answer in zip(names, pending, replies.answers, strict=True):
            answers[name, question.region, question.text] = answer or ""
    return num_asked
