"""What judges gave, by picture and instance: whose it is, in which unit, and what a measure is told of it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.benchmarks import judge_outputs
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.judge_outputs import MASKS, JudgeOutputs, PendingQuestion, StoredAnswers, TextDetections
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.view import View
from eval.inputs.detections import DetectionRecord, Detections
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.schema import Box, Rle

DOG, CAT = (ExpectedInstance(phrase=f"a {name}", category=name) for name in ("dog", "cat"))


def _picture(key: str, repeat: str = "", size: tuple[int, int] = (10, 40), there: bool = True) -> ExpectedPicture:
    case = Case(key=key, prompt="", instances=(DOG, CAT), height=size[0], width=size[1])
    return ExpectedPicture(case, 0, repeat, Path("there") if there else None, size)


def _rle(height: int, width: int, row: int = 0) -> Rle:
    mask_HW = np.zeros((height, width), bool)
    mask_HW[row] = True
    return masks.encode(mask_HW)


def test_detections_are_fractions_of_their_own_picture_and_those_that_are_missing_have_no_number() -> None:
    pictures = [_picture("a", there=False), _picture("a", "1"), _picture("a", "2", (20, 8))]
    found = [
        (1, 1, [4, 1, 8, 4], 0.9),
        (2, 2, [4, 5, 2, 10], 0.8),
        (2, 1, [0, 0, 8, 20], 0.7),
        (2, 2, [0, 0, 4, 5], 0.6),
    ]
    records = tuple(
        DetectionRecord(
            image_id=image, category_id=category, bbox=box, score=score, segmentation=_rle(*pictures[image].size, place)
        )
        for place, (image, category, box, score) in enumerate(found)
    )
    by_picture = judge_outputs.of_detections(Detections({}, ("dog", "cat"), records, ""), pictures)
    assert {name: set(by_text) for name, by_text in by_picture.items()} == {"a/1": {"dog"}, "a/2": {"dog", "cat"}}
    assert by_picture["a/1"]["dog"].boxes_N4 == pytest.approx(np.array([[0.1, 0.1, 0.3, 0.5]]))
    cats = by_picture["a/2"]["cat"]
    assert cats.boxes_N4 == pytest.approx(np.array([[0.5, 0.25, 0.75, 0.75], [0, 0, 0.5, 0.25]]))
    assert cats.scores_N.tolist() == [0.8, 0.6]
    assert cats.masks == (_rle(20, 8, 1), _rle(20, 8, 3))


def test_only_texts_of_pictures_that_are_there_must_be_among_the_detections_categories() -> None:
    only_dogs = Detections({}, ("dog",), (), "")
    assert judge_outputs.of_detections(only_dogs, [_picture("a", there=False)]) == {}
    with pytest.raises(ValueError, match="the detections are of 1 categories, and 'cat' is none of them"):
        judge_outputs.of_detections(only_dogs, [_picture("a", there=False), _picture("b")])
    with pytest.raises(ValueError, match="of 1 categories, and 'dog' is none of them"):  # the first of two
        judge_outputs.of_detections(Detections({}, ("bird",), (), ""), [_picture("b")])


def test_masks_stay_with_their_boxes_whatever_is_chosen() -> None:
    runs = tuple(_rle(4, 4, row) for row in range(4))
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.5], [0, 0, 0.5, 0.5]])
    found = TextDetections(boxes, np.array([0.9, 0.8, 0.7, 0.25]), runs)
    kept = found.above(0.25).suppressed(0.8)
    assert (kept.scores_N.tolist(), kept.masks) == ([0.9, 0.7], (runs[0], runs[2]))
    assert found._replace(masks=()).above(0.5).masks == ()


def test_the_best_is_the_first_of_equals_and_what_only_touches_is_none() -> None:
    halves = TextDetections(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]]), np.array([0.9, 0.8]))
    assert halves.best(Box(0, 0, 1, 1)) == (0.5, Box(0, 0, 0.5, 1))
    assert halves.best(Box(0.75, 0, 1, 1)) == (0.5, Box(0.5, 0, 1, 1))
    assert halves.best(Box(1, 0, 2, 1)) == judge_outputs.NOTHING.best(Box(0, 0, 1, 1)) == (0.0, None)


def _masks(path: Path, *rows: tuple[str, int, Rle | None]) -> Path:
    records = [
        {
            "key": key,
            "index": index,
            "height": 10 if rle is None else rle.size[0],
            "width": 40 if rle is None else rle.size[1],
        }
        | {"mask": None if rle is None else rle.counts}
        for key, index, rle in rows
    ]
    tables.write(path / "masks.parquet", records, MASKS)
    return path / "masks.parquet"


def test_a_mask_is_of_one_instance_of_one_picture_that_is_there(tmp_path: Path) -> None:
    pictures = [_picture("a", "1"), _picture("a", "2"), _picture("b", there=False)]
    first, second = _rle(10, 40, 1), _rle(10, 40, 2)
    path = _masks(tmp_path, ("a/1", 0, first), ("a/1", 1, None), ("a/2", 1, second), ("b", 1, first))
    assert judge_outputs.read_masks(path, pictures) == {("a/1", 0): first, ("a/2", 1): second}


@pytest.mark.parametrize(
    ("key", "index", "rle", "sentence"),
    [
        ("c", 0, _rle(10, 40), "mask 0 of 'c': the benchmark has no such instance"),
        ("a", 2, _rle(10, 40), "mask 2 of 'a': the benchmark has no such instance"),
        ("a", -1, None, "mask -1 of 'a': the benchmark has no such instance"),
        ("a", 1, _rle(40, 10), r"mask 1 of 'a': is of a picture of \(40, 10\), which is \(10, 40\)"),
        ("a", 1, Rle(size=(10, 40), counts="0"), "mask 1 of 'a': the runs"),
    ],
)
def test_a_mask_of_nobody_or_of_another_size_is_named(
    tmp_path: Path, key: str, index: int, rle: Rle | None, sentence: str
) -> None:
    path = _masks(tmp_path, ("a", 0, _rle(10, 40)), (key, index, rle))
    with pytest.raises(ValueError, match=f"masks.parquet: {sentence}"):
        judge_outputs.read_masks(path, [_picture("a")])


def _answers(path: Path, *rows: dict[str, Any]) -> Path:
    base = {"picture": "p", "region": "", "question": "q", "judge": "me", "settings": "{}", "answer": "yes"}
    kept = pa.Table.from_pylist([base | row for row in rows], pa.schema([(name, pa.string()) for name in base]))
    pq.write_table(kept, path)
    return path


def test_the_answers_of_a_folder_are_those_of_all_its_files_without_the_empty_ones(tmp_path: Path) -> None:
    _answers(tmp_path / "a.parquet", {}, {"question": "r", "answer": None})
    _answers(tmp_path / "b.parquet", {"question": "s", "region": "[0, 0.5, 1, 1]", "answer": "no"})
    read = judge_outputs.read_answers(tmp_path, None)
    assert read == StoredAnswers({("p", None, "q"): "yes", ("p", (0, 0.5, 1, 1), "s"): "no"}, "me", "{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no answers there"):
        judge_outputs.read_answers(tmp_path / "empty", None)


def test_answers_under_several_settings_are_refused_and_three_are_named(tmp_path: Path) -> None:
    rows = [{"settings": f"{number}"} for number in range(4)]
    with pytest.raises(ValueError, match=r"answers of 4 judges .*: me \(0\), me \(1\), me \(2\): name one, or split"):
        judge_outputs.read_answers(_answers(tmp_path / "a.parquet", *rows), "me")


def test_where_no_answer_stands_it_is_said_with_the_judge_that_was_asked_for(tmp_path: Path) -> None:
    path = _answers(tmp_path / "a.parquet", {"answer": None})
    for judge, sentence in ((None, "no answers"), ("you", "no answers of the judge 'you'")):
        with pytest.raises(ValueError, match=f"^{path}: {sentence}$"):
            judge_outputs.read_answers(path, judge)


@pytest.mark.parametrize("text", ["[" + "1, " * 20 + "1]", "x" * 61])
def test_sixty_letters_are_said_of_a_region_that_is_none(tmp_path: Path, text: str) -> None:
    path = _answers(tmp_path / "a.parquet", {"region": text})
    with pytest.raises(ValueError, match=re.escape(f"region {text[:60]!r} is not")):
        judge_outputs.read_answers(path, None)


def test_an_edge_a_hair_beyond_the_border_is_the_border() -> None:
    assert json.dumps(judge_outputs.region_of([-1e-9, 0, 1, 1])) == "[0.0, 0.0, 1.0, 1.0]"


@pytest.mark.parametrize("region", ["[0, 0, 1]", "[0, 0, 1, 1, 1]", "[0, 0, 1, true]", "5", "[", '[0, 0, 1, "x"]'])
def test_a_region_is_four_numbers(tmp_path: Path, region: str) -> None:
    path = _answers(tmp_path / "a.parquet", {"region": region})
    with pytest.raises(ValueError, match=r"a\.parquet: region .* is not a list of four numbers"):
        judge_outputs.read_answers(path, None)


def _view(picture: ExpectedPicture, **outputs: Any) -> View:
    questions = {"fits": "{what}: is {what} {kind} {other}?"}
    return View(picture, JudgeOutputs(questions=questions, **outputs), compat=False)


def test_an_answer_is_that_on_the_very_pixels_region_and_words(tmp_path: Path) -> None:
    path = _answers(
        tmp_path / "a.parquet",
        {"picture": "one", "region": json.dumps([0, 0, 1 / 3 + 1e-7, 1]), "question": "dog: is dog {what} {other}?"},
        {"picture": "one", "question": "dog: is dog red {other}?", "answer": "whole"},
    )
    stored = judge_outputs.read_answers(path, None)
    view = _view(_picture("a", "1"), answers=stored, identities={"a": "else", "a/1": "one"})
    third = Box(0, 0, 1 / 3, 1)
    assert view.ask("fits", None, what="dog", kind="red") == "whole"
    assert view.ask("fits", third, kind="{what}", what="dog") == "no"  # each field once, in their order
    assert view.ask("fits", third, what="dog", kind="{what}") == "yes"
    assert view.ask("fits", Box(0, 0, 1 / 3 + 2e-6, 1), what="dog", kind="{what}") == "no"
    assert view.pending == [
        PendingQuestion("a/1", (0, 0, 0.333333, 1), "dog: is dog dog {other}?"),
        PendingQuestion("a/1", (0, 0, 0.333335, 1), "dog: is dog {what} {other}?"),
    ]


def test_of_a_missing_picture_nothing_is_seen_and_nothing_is_asked() -> None:
    found = {"a": {"dog": TextDetections(np.array([[0, 0, 1, 1.0]]), np.array([0.9]))}}
    there, absent = (_view(_picture("a", there=where), detections=found) for where in (True, False))
    assert (there.texts, len(there.detections_of("dog").scores_N)) == (("dog",), 1)
    assert (absent.texts, len(absent.detections_of("dog").scores_N)) == ((), 0)
    assert (absent.ask("fits", what="dog"), absent.pending) == ("no", [])
    for view, faults in ((there, 1), (absent, 0)):
        view.fault()
        assert view.faults == faults
    assert absent.pixels().shape == (10, 40, 3)
    assert not absent.pixels().any()


def test_each_picture_of_a_layout_has_its_own_detections_masks_and_computed_numbers() -> None:
    detected = {f"a/{n}": {"dog": TextDetections(np.zeros((n, 4)), np.ones(n))} for n in (1, 2)}
    outputs = JudgeOutputs(detections=detected, masks={("a/1", 0): _rle(10, 40), ("a/2", 1): _rle(10, 40, 1)})
    first, second = (View(_picture("a", repeat), outputs, compat=False) for repeat in "12")
    assert [len(view.detections_of("dog").scores_N) for view in (first, second)] == [1, 2]
    assert [[view.mask(n) is not None for n in (0, 1)] for view in (first, second)] == [[True, False], [False, True]]
    again = View(_picture("a", "1"), outputs, compat=True)
    computed = [
        view.once(name, lambda place=place: np.array([place]))[0]  # type: ignore[misc]
        for place, (view, name) in enumerate([(first, "clip"), (second, "clip"), (first, "other"), (again, "clip")])
    ]
    assert computed == [0, 1, 2, 0]
    assert JudgeOutputs().computed == {}
