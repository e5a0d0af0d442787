"""Answers: nothing is asked twice, a kill loses nothing that was answered, what cannot be read is counted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.answerers import asking, parsing, store
from eval.answerers.answerer import DECODINGS, GREEDY, AnswererLost, Pixels, Question, settings_of
from eval.answerers.store import ANSWERS, Answers
from instdiff.files import tables
from instdiff.schema import Box
from instdiff.work.outcomes import Failure


class Parrot:
    """Says the question and the size of what it is shown; counts what it is asked."""

    judge, settings = "parrot", "{}"

    def __init__(self) -> None:
        self.questions_seen: list[Question] = []

    def answer(self, pictures: Sequence[Pixels], questions: Sequence[Question]) -> list[str | Failure]:
        for question in questions:
            if question.text == "die":
                raise RuntimeError("no words")
            if question.text == "leave":
                raise AnswererLost("gone")
        self.questions_seen += questions
        return [
            f"{question.text} {pixels.shape[1]}x{pixels.shape[0]}"
            for question, pixels in zip(questions, pictures, strict=True)
        ]


def pixels_of(picture: str) -> Pixels:
    return np.zeros((10, 20, 3), np.uint8)


def questions(*texts: str, picture: str = "p") -> list[Question]:
    return [Question(picture, None, text) for text in texts]


def test_what_was_answered_is_not_asked_again_and_equal_questions_are_asked_once(tmp_path: Path) -> None:
    parrot = Parrot()
    first = asking.ask(questions("a", "b", "a"), pixels_of, parrot, Answers(tmp_path / "kept"), 2)
    assert first == (["a 20x10", "b 20x10", "a 20x10"], {}, 2)
    again = asking.ask(questions("b", "c"), pixels_of, parrot, Answers(tmp_path / "kept"), 2)
    assert again == (["b 20x10", "c 20x10"], {}, 1)
    assert [question.text for question in parrot.questions_seen] == ["a", "b", "c"]


@pytest.mark.parametrize("other", [{"judge": "another"}, {"settings": "hot"}])
def test_another_judge_and_other_settings_are_asked_anew(tmp_path: Path, other: dict[str, str]) -> None:
    asking.ask(questions("a"), pixels_of, Parrot(), Answers(tmp_path), 2)
    parrot = Parrot()
    for name, value in other.items():
        setattr(parrot, name, value)
    assert asking.ask(questions("a"), pixels_of, parrot, Answers(tmp_path), 2).num_asked == 1


def test_pictures_regions_texts_and_system_lines_are_each_of_the_key() -> None:
    base = Question("p", None, "a")
    others = [
        base._replace(picture="q"),
        base._replace(region=Box(0, 0, 0.5, 1)),
        base._replace(region=Box(0, 0, 1, 1)),
        base._replace(text="b"),
        base._replace(system="be brief"),
    ]
    assert len({question.key for question in [base, *others]}) == 6


def test_regions_whose_edges_agree_to_nine_digits_are_one() -> None:
    base, near, apart = (Question("p", Box(0, 0, right, 1), "a").key for right in (0.5, 0.5 + 4e-10, 0.5 + 6e-10))
    assert base == near != apart


def test_a_region_is_what_is_shown(tmp_path: Path) -> None:
    half = Question("p", Box(0, 0, 0.5, 1), "a")
    assert asking.ask([half], pixels_of, Parrot(), Answers(tmp_path), 1).answers == ["a 10x10"]


def test_a_question_that_fails_costs_no_other_and_is_asked_again_next_time(tmp_path: Path) -> None:
    parrot = Parrot()
    replies = asking.ask(questions("a", "die", "b"), pixels_of, parrot, Answers(tmp_path), 3)
    assert replies.answers == ["a 20x10", None, "b 20x10"]
    assert list(replies.failures) == questions("die")
    assert asking.ask(questions("a", "die", "b"), pixels_of, parrot, Answers(tmp_path), 3).num_asked == 1


def test_when_nobody_answers_any_more_one_sentence_says_so_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    parrot = Parrot()
    with pytest.raises(ValueError, match="parrot answers no more, 2 answers are kept: gone"):
        asking.ask(questions("a", "b", "leave", "c"), pixels_of, parrot, Answers(tmp_path), 1)
    assert len(Answers(tmp_path)) == 2


SCRIPT = """
import sys, time
from pathlib import Path
from eval.answerers.store import Answers
answers = Answers(Path(sys.argv[1]))
for number in range(1000):
    answers.add({("p", "", f"q{number}", "judge", "{}"): f"a{number}"})
    print(number, flush=True)
"""


def test_a_kill_loses_no_answer_that_was_kept(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "kept")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert running.stdout is not None
    numbers = [int(running.stdout.readline()) for _ in range(5)]
    time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    store = Answers(tmp_path / "kept")
    for number in numbers:
        assert store["p", "", f"q{number}", "judge", "{}"] == f"a{number}"


def test_many_files_become_one_and_pandas_reads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_FILES", 4)
    folder = tmp_path / "of" / "answers"
    for number, files_after in enumerate((0, 1, 2, 3, 4, 1)):
        answers = Answers(folder)
        assert len(answers) == number and len(list(folder.glob("*.parquet"))) == files_after
        answers.add({("p", "", str(number), "j", "{}"): "half a character: \ud800"})
    assert pd.read_parquet(folder)["answer"].tolist() == ["half a character: ?"] * 6


def test_a_file_that_holds_no_answers_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.parquet: not a readable Parquet"):
        Answers(tmp_path)
    (tmp_path / "x.parquet").unlink()
    row = dict.fromkeys(ANSWERS.names, "a") | {"answer": None}
    pd.DataFrame([row], dtype="string").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet: (an answer|column)"):
        Answers(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a folder of answers is expected"):
        Answers(tmp_path / "file")
    assert tables  # the reader whose sentences these are


def test_a_greedy_answer_does_not_hang_on_what_only_sampling_reads() -> None:
    assert settings_of(GREEDY) == settings_of(GREEDY.model_copy(update={"seed": 9, "top_k": 5, "top_p": 0.5}))
    assert settings_of(GREEDY, a=1, b=2) == settings_of(GREEDY, b=2, a=1)
    sampled = DECODINGS["minicpm-v-2.6"]
    assert not sampled.is_greedy
    for change in ({"seed": 9}, {"top_k": 5}, {"top_p": 0.5}, {"temperature": 0.1}, {"max_tokens": 3}):
        assert settings_of(sampled) != settings_of(sampled.model_copy(update=change))


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Yes", True),
        (" yes, it is.", True),
        ("**Yes**", True),
        ("NO!", False),
        ("No, although yesterday", False),
        ("It is red", None),
        ("Yesterday", None),
        ("", None),
        ("???", None),
    ],
)
def test_yes_and_no_are_the_first_word_and_nothing_is_guessed(answer: str, value: bool | None) -> None:
    assert parsing.yes_no(answer) is value


OBJECT = {"a": "Yes", "b": "No"}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('```json\n{"a": "Yes", "b": "No"}\n```', OBJECT),
        ('Here: {"a": "Yes", "b": "No"} as asked', OBJECT),
        ('```json\n{"a": "Yes", "b": "No"}\n``` as in {braces}', OBJECT),
        ("{'a': 'Yes', 'b': 'No'}", OBJECT),
        ('```\n["a"]\n```', None),
        ('{"a": "Yes", ', None),
        ("{1: 2}", None),
        ("none", None),
        ("[" * 5000, None),
        ("{" * 5000 + "}" * 5000, None),
        ("}{", None),
        ("{a: 1}", None),  # a name, which neither JSON nor Python's literals have
        ("{'a': {[]}}", None),  # a set of lists
        ("{'a': " + "-" * 5000 + "1}", None),  # deeper than Python calls
        ("{'a': " + "not " * 9000 + "1}", None),  # deeper than its parser
    ],
)
def test_an_object_is_read_fenced_or_bare_with_either_quotes(answer: str, value: object) -> None:
    assert parsing.json_object(answer) == value


def test_an_answer_is_read_to_its_hundred_thousandth_character() -> None:
    for blanks, value in ((99_997, True), (99_998, None), (100_000, None)):
        assert parsing.yes_no(" " * blanks + "yes") is value
    for blanks, value_read in ((99_992, {"a": 1}), (99_993, None)):
        assert parsing.json_object(" " * blanks + '{"a": 1}') == value_read


@pytest.mark.parametrize(
    ("edge", "is_edge"), [(999_999_999, True), (-999_999_999.5, True), (10**9, False), (-(10**9), False), (True, False)]
)
def test_an_edge_of_a_box_is_a_number_below_a_billion(edge: float, is_edge: bool) -> None:
    for place in range(4):
        row = tuple(edge if number == place else number for number in range(4))
        assert parsing.boxes(str({"cat": [row]}), ["cat"]) == ({"cat": [row]} if is_edge else None)


def test_boxes_are_lists_of_four_numbers_of_the_categories_asked_for() -> None:
    answer = '{"cat": [[1, 2, 3, 4.5]], "dog": [], "kite": [[0, 0, 1, 1]]}'
    assert parsing.boxes(answer, ["cat", "dog", "cow"]) == {"cat": [(1.0, 2.0, 3.0, 4.5)], "dog": [], "cow": []}
    for wrong in (
        '{"cat": [[1, 2, 3]]}',
        '{"cat": [1, 2, 3, 4]}',
        '{"cat": [["1", 2, 3, 4]]}',
        '{"cat": [[1,2,3,1e999]]}',
    ):
        assert parsing.boxes(wrong, ["cat"]) is None


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.none() | st.text() | st.sampled_from(["yes", "no", '{"a": 1}']), max_size=20))
def test_whatever_is_answered_is_read_or_counted(answers: list[str | None]) -> None:
    for read in (parsing.yes_no, parsing.json_object, lambda text: parsing.boxes(text, ["a"])):
        values, unread = parsing.parse(answers, read)
        assert len(values) == len(answers)
        assert unread == sum(value is None for value in values) - sum(answer is None for answer in answers)
