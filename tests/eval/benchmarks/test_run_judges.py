"""Judges look at what is there: texts and boxes of the pictures that exist, and questions as far as answers lead."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import bench_world
import numpy as np
import pytest

from eval.answerers.answerer import Question
from eval.answerers.store import Answers
from eval.benchmarks import pictures, registry, run_judges
from eval.benchmarks.benchmark import Value
from eval.benchmarks.case import Case, ExpectedInstance, PictureFiles
from eval.benchmarks.judge_outputs import MASKS, JudgeOutputs
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.view import View
from instdiff.files import tables
from instdiff.layouts.masks import Mask
from instdiff.schema import Box
from instdiff.work.outcomes import Failure

FREE = ExpectedInstance(phrase="a dog", category="dog")
PLACED = ExpectedInstance(phrase="a cat", category="cat", box=Box(0, 0, 0.5, 1))
CASES = [Case(key=key, prompt="", instances=(FREE, PLACED), height=8, width=6) for key in "ab"]


def expected(folder: Path) -> list[ExpectedPicture]:
    """Of two pictures the second, for the first is missing."""
    bench_world.paint(folder, CASES[1:])
    return pictures.find(folder, CASES, PictureFiles())


def test_a_finder_searches_for_the_texts_of_the_pictures_that_are_there(tmp_path: Path) -> None:
    assert run_judges.texts(expected(tmp_path)).to_dict("list") == {"key": ["b", "b"], "category": ["dog", "cat"]}


class Marker:
    """Fills every box, and keeps which it was given."""

    def __init__(self) -> None:
        self.given = list[Any]()

    def fill(self, pictures: Sequence[Any], boxes: Sequence[Any]) -> list[list[tuple[Mask, float]]]:
        self.given += boxes
        return [
            [(np.ones(picture.shape[:2], bool), 1.0) for _ in own] for picture, own in zip(pictures, boxes, strict=True)
        ]


def test_a_marker_is_given_the_boxes_of_the_pictures_that_are_there_and_no_others(tmp_path: Path) -> None:
    marker = Marker()
    run_judges.mark(tmp_path / "masks.parquet", marker, expected(tmp_path))
    assert marker.given == [[PLACED.box]]
    rows = tables.read(tmp_path / "masks.parquet", MASKS)
    assert rows.drop(columns="mask").to_dict("records") == [{"key": "b", "index": 1, "height": 8, "width": 6}]


def following(case: Case, view: View) -> Iterable[Value]:
    """Asks of the picture and then on and on of a box, as long as the answer says so."""
    step = 0
    while view.ask("next", PLACED.box if step else None, step=str(step)) == "go on":
        step += 1
    yield Value("success", 0, float(step))


FOLLOWING = dataclasses.replace(registry.load("coco-mig"), measure=following, questions={"next": "And {step}?"})


class Answerer:
    """Always says the same, and keeps what it is asked of."""

    judge, settings = "me", "{}"

    def __init__(self, said: str | Failure) -> None:
        self.said, self.regions = said, list[Box | None]()

    def answer(self, pictures: Sequence[Any], questions: Sequence[Question]) -> list[str | Failure]:
        self.regions += [question.region for question in questions]
        return [self.said for _ in questions]


@pytest.mark.parametrize(
    ("said", "num_asked", "kept"),
    [("go on", 10, ["go on"] * 10), ("stop", 1, ["stop"]), (Failure("refused", "why"), 1, [""])],
)
def test_questions_follow_answers_ten_deep_and_one_that_fails_has_an_empty_answer(
    tmp_path: Path, said: str | Failure, num_asked: int, kept: list[str]
) -> None:
    there = expected(tmp_path / "drawn")
    outputs = JudgeOutputs(questions=FOLLOWING.questions, identities=pictures.identities(there))
    answerer = Answerer(said)
    asked = run_judges.ask(FOLLOWING, there, outputs, answerer, Answers(tmp_path / "kept"), 3)
    assert asked == num_asked
    assert answerer.regions == [None, *[PLACED.box] * 9][:num_asked]
    assert outputs.answers is not None and outputs.answers.judge == "me"
    assert list(outputs.answers.by_key.values()) == kept
