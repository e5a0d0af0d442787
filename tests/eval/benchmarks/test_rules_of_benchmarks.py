"""The rules of each benchmark, on cases whose numbers are worked out by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bench_world
import cv2
import numpy as np
import pytest
from PIL import Image

from eval.benchmarks import registry
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.judge_outputs import JudgeOutputs, StoredAnswers, TextDetections
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.view import View
from eval.metrics import hsv, matching, overlap
from instdiff.layouts import masks
from instdiff.schema import Box, Rle

SIZE = (64, 64)


def _values(
    name: str, case: Case, outputs: JudgeOutputs, path: Path, compat: bool = False
) -> dict[tuple[str, int], Any]:
    outputs.questions = outputs.questions or registry.load(name).questions
    view = View(ExpectedPicture(case, 0, "", path, SIZE), outputs, compat)
    values = {(value.measure, value.number): value.value for value in registry.load(name).measure(case, view)}
    assert not view.pending, view.pending[0]
    return values


def _case(tmp_path: Path, name: str, place: int = 0) -> Case:
    return registry.load(name).read(bench_world.write(tmp_path / "files", name)).cases[place]


# ---- COCO-MIG -----------------------------------------------------------------------------------------------------


def test_hsv_is_opencvs_to_the_digit() -> None:
    green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for red in range(0, 256, 15):
        pixels = np.stack([np.full_like(green, red), green, blue], -1).astype(np.uint8)
        assert (hsv.hsv(pixels) == cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)).all()


@pytest.mark.parametrize(
    ("value", "colours"),
    [
        ((0, 50, 70), {"red"}),
        ((0, 49, 70), set()),
        ((0, 50, 69), set()),
        ((9, 255, 255), {"red", "brown"}),
        ((10, 255, 255), {"brown"}),
        ((5, 255, 255), {"red"}),
        ((6, 43, 35), {"brown"}),
        ((25, 50, 70), {"yellow", "brown"}),
        ((26, 50, 70), {"yellow"}),
        ((35, 50, 70), {"yellow"}),
        ((36, 50, 70), {"green"}),
        ((89, 50, 70), {"green"}),
        ((90, 50, 70), {"blue"}),
        ((128, 50, 70), {"blue"}),
        ((129, 50, 70), set()),
        ((159, 50, 70), {"red"}),
        ((158, 50, 70), set()),
        ((77, 255, 30), {"black"}),
        ((77, 255, 31), set()),
        ((20, 43, 221), {"white", "brown"}),
        ((100, 44, 221), set()),
        ((100, 43, 220), set()),
        ((0, 0, 255), {"white"}),
        ((180, 43, 255), {"white"}),
        ((180, 0, 0), {"black"}),
        ((180, 255, 255), {"red"}),
        ((0, 255, 255), {"red"}),
        ((25, 255, 255), {"yellow", "brown"}),
        ((35, 255, 255), {"yellow"}),
        ((89, 255, 255), {"green"}),
        ((128, 255, 255), {"blue"}),
    ],
)
def test_the_ranges_of_colours_hold_both_their_ends(
    value: tuple[int, int, int], colours: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hsv, "hsv", lambda pixels: pixels)
    pixel = np.array([[value]], np.uint8)
    assert {name for name in hsv.RANGES if hsv.within(pixel, name).all()} == colours


@pytest.mark.parametrize(("red", "right"), [(19, False), (20, True), (100, True)])
def test_a_fifth_of_the_mask_must_have_the_colour(red: int, right: bool) -> None:
    pixels = np.full((12, 10, 3), (200, 0, 0), np.uint8)
    mask = np.zeros((12, 10), bool)
    mask[:10] = True
    pixels[:10] = (0, 0, 200)
    pixels[:10].reshape(-1, 3)[:red] = (200, 0, 0)
    assert hsv.right(pixels, mask, "red") == right
    assert not hsv.right(pixels, np.zeros_like(mask), "red")


def _painted(tmp_path: Path, colour: tuple[int, int, int]) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((*SIZE, 3), colour, np.uint8)).save(path)
    return path


def test_coco_mig_zeroes_an_overlap_only_where_the_place_is_right_and_the_colour_wrong(tmp_path: Path) -> None:
    case = _case(tmp_path, "coco-mig", 1)  # brown dog, white sports ball, black cat
    whole = masks.encode(np.ones(SIZE, bool))
    detections = bench_world.detections_of(
        dog=[(0, 0, 0.5, 0.4, 0.3)],  # 0.8 of it, and brown
        sports_ball=[(0.5, 0.5, 1.0, 0.8, 0.9)],  # 0.6 of it, and not white
        cat=[(0.5, 0.0, 1.0, 0.2, 0.9), (0.0, 0.5, 0.5, 1.0, 0.99)],  # 0.4 of it
    )
    outputs = JudgeOutputs(detections={"7": detections}, masks={("7", n): whole for n in range(3)})
    values = _values("coco-mig", case, outputs, _painted(tmp_path, (120, 60, 20)))
    assert [values["success", n] for n in range(3)] == [1, 0, 0]
    assert [values["miou", n] for n in range(3)] == pytest.approx([0.8, 0, 0.4])
    assert [values["place_success", n] for n in range(3)] == [1, 1, 0]
    assert values["pictures", -1] == 0
    assert case.parts == ("level/L3",)


def test_a_half_of_overlap_is_enough_and_a_score_must_be_above_a_quarter(tmp_path: Path) -> None:
    case = _case(tmp_path, "coco-mig")  # a red dog in the upper left quarter, a blue sports ball
    detections = bench_world.detections_of(dog=[(0, 0, 0.5, 0.25, 0.26)], sports_ball=[(0.5, 0.5, 1, 1, 0.25)])
    values = _values("coco-mig", case, JudgeOutputs(detections={"0": detections}), tmp_path)
    assert [values["place_success", n] for n in range(2)] == [1, 0]
    assert ("success", 0) not in values  # nobody marked the boxes, so that colours were not looked at


def test_in_a_place_that_is_half_right_the_colour_decides(tmp_path: Path) -> None:
    case = _case(tmp_path, "coco-mig")  # a red dog in the upper left quarter, a blue sports ball in the lower right
    halves = bench_world.detections_of(dog=[(0, 0, 0.5, 0.25, 0.9)], sports_ball=[(0.5, 0.5, 1, 0.75, 0.9)])
    whole = {("0", n): masks.encode(np.ones(SIZE, bool)) for n in range(2)}
    outputs = JudgeOutputs(detections={"0": halves}, masks=whole)
    values = _values("coco-mig", case, outputs, _painted(tmp_path, (200, 0, 0)))
    assert [values["success", n] for n in range(2)] == [1, 0]
    assert [values["miou", n] for n in range(2)] == [0.5, 0]


def test_a_box_that_overlaps_a_surer_one_by_more_than_four_fifths_is_not_asked() -> None:
    boxes = np.array([[0, 0, 1, 0.9], [0, 0, 1, 1], [0, 0, 1, 0.7], [0, 0, 1, 0.5]])
    assert list(matching.suppressed(boxes, 0.8)) == [0, 2, 3]


@pytest.mark.parametrize(("height", "found"), [(0.45, 0.9), (0.35, 1.0)])
def test_coco_mig_does_not_look_at_a_box_that_is_all_but_a_surer_one(
    tmp_path: Path, height: float, found: float
) -> None:
    case = _case(tmp_path, "coco-mig")
    detections = bench_world.detections_of(dog=[(0, 0, 0.5, height, 0.9), (0, 0, 0.5, 0.5, 0.8)])
    values = _values("coco-mig", case, JudgeOutputs(detections={"0": detections}), tmp_path)
    assert values["place_miou", 0] == pytest.approx(found)


# ---- the others ---------------------------------------------------------------------------------------------------


def test_coco_position_takes_the_nearest_box_with_the_score_of_the_surest(tmp_path: Path) -> None:
    benchmark, case = registry.load("coco-position"), _case(tmp_path, "coco-position")
    detections = bench_world.detections_of(
        dog=[(0.6, 0.6, 0.9, 0.9, 0.9), (0.1, 0.1, 0.6, 0.5, 0.4)], cat=[(0, 0, 0.2, 0.2, 0.8)]
    )
    outputs = JudgeOutputs(detections={"0": detections})
    values = _values("coco-position", case, outputs, tmp_path)
    assert [values["miou", n] for n in range(2)] == pytest.approx([0.8, 0])
    assert [values["success", n] for n in range(2)] == [1, 0]
    assert values["pictures", -1] == 0
    assert benchmark.matched is not None
    (matched,) = benchmark.matched([View(ExpectedPicture(case, 0, "", tmp_path, SIZE), outputs, False)])["nearest_ap"]
    assert matched.true_TD[:, 0].sum() == 7  # IoU .8: right at .5 to .8
    assert matched.instances_I.tolist() == [2]


def _deig(answer: str) -> dict[tuple[Any, ...], str]:
    question = registry.load("deig").questions["fits"]
    box = (0.0, 0.0, 0.5, 0.5)
    texts = [description["description"] for description in bench_world.DEIG]
    return {("p", box, question.replace("{description}", text)): answer for text in texts}


@pytest.mark.parametrize(("answer", "compat", "right"), [("yes", True, 1), ("Yes", True, 0), ("Yes", False, 1)])
def test_deig_wants_place_and_description_right(tmp_path: Path, answer: str, compat: bool, right: float) -> None:
    case = _case(tmp_path, "deig")
    outputs = JudgeOutputs(
        detections={case.key: bench_world.detections_of(woman=[(0, 0, 0.5, 0.25, 0.9)], chair=[(0, 0, 0.5, 0.2, 0.9)])},
        identities={case.key: "p"},
        answers=StoredAnswers(_deig(answer), "me", "{}"),  # type: ignore[arg-type]
    )
    values = _values("deig", case, outputs, tmp_path, compat)
    assert (values["human_maa", 0], values["place_success", 0]) == (right, 1)  # half of it is enough
    assert [values["object_maa", n] for n in range(1, 5)] == [0] * 4  # not in their place: nobody is asked
    assert values["miou", 1] == pytest.approx(0.4)  # and their overlap stays


@pytest.mark.parametrize("name", ["coco-position", "scenes"])
@pytest.mark.parametrize(("height", "right"), [(0.25, 1), (0.24, 0)])
def test_half_an_overlap_is_enough_for_a_place(tmp_path: Path, name: str, height: float, right: float) -> None:
    ring = ExpectedInstance(phrase="a red ring", category="ring", box=Box(0, 0, 0.5, 0.5))
    case = Case(key="a", prompt="", instances=(ring,), height=64, width=64)
    found = bench_world.detections_of(ring=[(0, 0, 0.5, height, 0.9)])
    assert _values(name, case, JudgeOutputs(detections={"a": found}), tmp_path)["success", 0] == right


@pytest.mark.parametrize(
    ("found", "answer", "right"), [(0.5, "Yes", 1), (0.5, "No", 0), (0.2, "Yes", 0), (0.2, "No", 0)]
)
def test_on_scenes_place_and_description_must_both_be_right(
    tmp_path: Path, found: float, answer: str, right: float
) -> None:
    ring = ExpectedInstance(phrase="a red ring", category="ring", detail="a red ring", box=Box(0, 0, 0.5, 0.5))
    case = Case(key="a", prompt="", instances=(ring,), height=64, width=64)
    outputs = JudgeOutputs(
        detections={"a": bench_world.detections_of(ring=[(0, 0, 0.5, found, 0.9)])},
        **_answered("scenes", case, {("fits", 0): answer}, description="a red ring"),
    )
    values = _values("scenes", case, outputs, tmp_path)
    assert (values["success", 0], values["fits", 0]) == (right, answer == "Yes")


def _answered(name: str, case: Case, answers: Mapping[tuple[str, int | None], str], **fields: str) -> dict[str, Any]:
    """Answers by the question's id and the instance."""
    benchmark = registry.load(name)
    answer_of: dict[tuple[str, Any, str], str] = {}
    for (question, index), answer in answers.items():
        text = benchmark.questions[question]
        region = None
        if index is not None:
            instance = case.instances[index]
            text = text.replace("{short}", instance.short).replace("{detail}", instance.detail)
            region = tuple(map(float, instance.place))
        for field, value in fields.items():
            text = text.replace(f"{{{field}}}", value)
        answer_of[case.key, region, text] = answer
    return {
        "answers": StoredAnswers(answer_of, "me", "{}"),
        "identities": {case.key: case.key},
        "questions": benchmark.questions,
    }


def test_layoutsam_asks_for_attributes_only_where_the_subject_is_there(tmp_path: Path) -> None:
    case = _case(tmp_path, "layoutsam")
    answers = {("spatial", 0): "Yes", ("colour", 0): "Yes", ("texture", 0): "No", ("shape", 0): "Yes"}
    answers[("spatial", 1)] = "No"
    values = _values("layoutsam", case, JudgeOutputs(**_answered("layoutsam", case, answers)), tmp_path)  # type: ignore[arg-type]
    assert [values[name, 0] for name in ("spatial", "colour", "texture", "shape")] == [1, 1, 0, 1]
    assert [values[name, 1] for name in ("spatial", "colour", "texture", "shape")] == [0, 0, 0, 0]


def test_lgs_counts_overlaps_and_leaves_out_what_has_no_description(tmp_path: Path) -> None:
    case = _case(tmp_path, "denselayout")
    box = (0.0, 0.0, 0.5, 0.4)
    questions = registry.load("denselayout").questions
    texts = {name: questions[name].replace("{detail}", "a red car") for name in questions}
    answers = {
        ("0", box, texts["colour"]): "yes it does",
        ("0", box, texts["texture"]): "NO",
        ("0", box, texts["shape"]): "YES",
    }
    outputs = JudgeOutputs(
        detections={
            "0": bench_world.detections_of(car=[(*box, 0.36), (0, 0, 0.5, 0.5, 0.35)], tree=[(0.5, 0.5, 1.0, 1.0, 0.9)])
        },
        answers=StoredAnswers(answers, "me", "{}"),  # type: ignore[arg-type]
        identities={"0": "0"},
    )
    for compat, undescribed in ((False, None), (True, 0.0)):
        values = _values("denselayout", case, outputs, tmp_path, compat)
        assert [values["spatial", n] for n in range(2)] == pytest.approx([0.8, 1.0])  # .35 is not above .35
        assert [values[name, 0] for name in ("colour", "texture", "shape")] == pytest.approx([0.8, 0, 0.8])
        assert [values[name, 1] for name in ("colour", "texture", "shape")] == [undescribed] * 3


def test_lgs_takes_half_an_overlap_and_asks_nothing_of_what_is_not_found(tmp_path: Path) -> None:
    case = _case(tmp_path, "denselayout")
    found = {"0": bench_world.detections_of(tree=[(0.5, 0.5, 1.0, 0.75, 0.9)])}
    spatial = {("spatial", 0): 0.0, ("spatial", 1): 0.5}
    assert _values("denselayout", case, JudgeOutputs(detections=found), tmp_path) == spatial
    blank = case.instances[1].model_copy(update={"detail": " "})
    case = case.model_copy(update={"instances": (case.instances[0], blank)})
    silent = JudgeOutputs(detections=found, answers=StoredAnswers({}, "me", "{}"), identities={"0": "0"})
    attributes = {(name, n): value for name in ("colour", "texture", "shape") for n, value in ((0, 0.0), (1, None))}
    assert _values("denselayout", case, silent, tmp_path) == spatial | attributes


IOUS = np.array([[0.6, 0.55], [0.5, 0.0]])  # by falling overlap: .6 and 0; the best sum: .5 + .55


def test_pairs_by_falling_overlap_are_not_those_with_the_greatest_sum() -> None:
    assert list(matching.one_to_one(IOUS, IOUS >= 0)) == [0, -1]
    assert list(matching.hungarian(IOUS)) == [1, 0]
    assert list(matching.hungarian(np.zeros((0, 2)))) == [-1, -1]


def test_overlaybench_pairs_both_ways_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "overlaybench", 2)  # two cups: (0, 0, .5, .5) and (.25, .25, .75, .75)
    near, far = (0.125, 0.125, 0.625, 0.625, 0.9), (0.0, 0.0, 0.25, 0.5, 0.8)
    values = _values(
        "overlaybench", case, JudgeOutputs(detections={case.key: bench_world.detections_of(cup=[near, far])}), tmp_path
    )
    # overlaps with `near`: .28125/.71875 of each; with `far`: .5 of the first, so far-first is taken, near is left
    assert [values["miou", n] for n in range(2)] == pytest.approx([0.5, 0.140625 / 0.359375])
    assert [values["miou_hungarian", n] for n in range(2)] == pytest.approx([0.5, 0.140625 / 0.359375])
    # given overlap (.25, .25, .5, .5); that of the pairs (.125, .125, .25, .5): they touch in a line
    assert values["o_miou", 0] == 0
    exact = bench_world.detections_of(cup=[(0.25, 0.25, 0.75, 0.75, 0.9), (0.0, 0.0, 0.5, 0.5, 0.8)])
    values = _values("overlaybench", case, JudgeOutputs(detections={case.key: exact}), tmp_path)
    assert [values[name, 0] for name in ("miou", "o_miou", "o_miou_hungarian")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("unit", "compat", "side"),
    [
        ("pixels", False, 64),
        ("multiples-of-28", False, 56),
        ("thousandths", False, 1000),
        ("multiples-of-28", True, 64),
    ],
)
def test_an_answerers_boxes_are_in_pixels_of_its_own_input(tmp_path: Path, unit: str, compat: bool, side: int) -> None:
    case = _case(tmp_path, "overlaybench", 0)
    quarter, half = side / 4, side / 2
    listed = [[0, 0, half, half], [quarter, quarter, half + quarter, half + quarter]]
    boxes = f'```json\n{{"cup": {listed}}}\n```'
    outputs = JudgeOutputs(
        boxes_in=unit, **_overlay(case, boxes, '{"cup": "Yes", "mug": "no"}', "{'(cup, mug)': 'Yes'}")
    )
    values = _values("overlaybench", case, outputs, tmp_path, compat)
    assert [values["miou", n] for n in range(2)] == pytest.approx([1, 1])
    assert [values["sr_e", n] for n in range(2)] == [1, 0]
    assert values["sr_r", 0] == 1


def _overlay(case: Case, *answers: str) -> dict[str, Any]:
    questions = registry.load("overlaybench").questions
    view = View(
        ExpectedPicture(case, 0, "", Path("there"), SIZE),
        JudgeOutputs(questions=questions, identities={case.key: "p"}),
        False,
    )
    view._outputs.answers = StoredAnswers({}, "me", "{}")
    list(registry.load("overlaybench").measure(case, view))
    keys = [("p", question.region, question.text) for question in view.pending]
    stored = StoredAnswers(dict(zip(keys, answers, strict=True)), "me", "{}")
    return {"answers": stored, "identities": {case.key: "p"}, "questions": questions}


def test_an_answer_that_is_no_json_is_nothing_found_and_counted(tmp_path: Path) -> None:
    case = _case(tmp_path, "overlaybench", 0)
    outputs = JudgeOutputs(boxes_in="pixels", **_overlay(case, "I see two cups.", '{"cup": 1}', "[]"))
    view = View(ExpectedPicture(case, 0, "", tmp_path, SIZE), outputs, False)
    values = {(value.measure, value.number): value.value for value in registry.load("overlaybench").measure(case, view)}
    assert {values[name, n] for name in ("miou", "sr_e") for n in range(2)} == {0}
    assert view.faults == 4  # no object of boxes, no object of relations, the mug not named, the relation neither


def test_overlap_counts_pairs_above_five_and_one_per_cent_and_strata_follow_the_largest() -> None:
    boxes = [Box(0, 0, 0.5, 0.5), Box(0.25, 0.25, 0.75, 0.75), Box(0.4, 0.4, 0.9, 0.9), Box(0.95, 0, 1, 0.05)]
    assert overlap.pairs(boxes) == [(0, 1), (1, 2)]  # 0 and 2 share .01 of the picture, .02 of their union
    assert overlap.strata(boxes) == ["touching", "crossing", "crossing", "apart"]
    overlap_ious = overlap.of_instances(boxes, [boxes[0], boxes[1], None, boxes[3]])
    assert overlap_ious[:3].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(overlap_ious[3])


def test_overlaybench_has_either_pairings_numbers_where_the_two_differ(tmp_path: Path) -> None:
    (first, second), (middle, left) = (
        [Box(start, 0, end, 1) for start, end in ends] for ends in (((0, 0.6), (0.4, 1)), ((0.18, 0.78), (0, 0.3)))
    )
    cups = tuple(ExpectedInstance(phrase="a cup", category="cup", box=box) for box in (first, second))
    case = Case(key="a", prompt="", instances=cups, height=64, width=64, pairs=((0, 1),))
    found = bench_world.detections_of(cup=[(*middle, 0.9), (*left, 0.8)])
    values = _values("overlaybench", case, JudgeOutputs(detections={"a": found}), tmp_path)
    assert [values["miou", n] for n in (0, 1)] == pytest.approx([0.42 / 0.78, 0])  # the largest pair leaves no other
    assert [values["miou_hungarian", n] for n in (0, 1)] == pytest.approx([0.5, 0.38 / 0.82])
    assert values["o_miou", 0] == 0


def test_overlaybench_asks_by_name_with_boxes_on_its_square_and_only_for_relations_that_there_are() -> None:
    cup, mug = (
        ExpectedInstance(phrase=name, category="cup", short=name, detail=f"a red {name}", box=Box(0, 0.25, 0.5, edge))
        for name, edge in (("cup", 0.3335), ("mug", 1.0))
    )
    case = Case(key="a", prompt="", instances=(cup, mug), height=64, width=64)
    questions = {"boxes": "{categories}", "entities": "{entities}", "relations": "never"}
    outputs = JudgeOutputs(questions=questions, answers=StoredAnswers({}, "me", "{}"), identities={"a": "p"})
    view = View(ExpectedPicture(case, 0, "", Path("there"), SIZE), outputs, False)
    list(registry.load("overlaybench").measure(case, view))
    boxes, entities = (question.text for question in view.pending)
    assert boxes == "cup"
    assert json.loads(entities) == {
        "cup": {"box": [0, 256, 512, 342], "description": "a red cup"},  # 341.5
        "mug": {"box": [0, 256, 512, 1024], "description": "a red mug"},
    }


class _Words:
    """A judge for whom a colour is its mean pixel."""

    def image_features(self, pictures: Any) -> np.ndarray:
        return np.array([picture.reshape(-1, 3).max(0).astype(float) + 1 for picture in pictures])

    def text_features(self, texts: Any) -> np.ndarray:
        colours = {"red": (255, 1, 1), "blue": (1, 1, 255), "green": (1, 255, 1)}
        return np.array(
            [next((rgb for word, rgb in colours.items() if f" {word}" in text), (1, 1, 1)) for text in texts], float
        )


def test_geneval_looks_at_the_surest_and_at_nothing_but_their_masks(tmp_path: Path) -> None:
    case = _case(tmp_path, "geneval")  # a red car, and no dog
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:32, :32], pixels[32:, 32:] = (255, 0, 0), (0, 0, 255)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    red, blue = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)
    for surest, other, right in ((red, blue, 1), (blue, red, 0)):
        outputs = JudgeOutputs(
            detections={"00001": bench_world.detections_of(car=[(*surest, 0.9), (*other, 0.8)])}, judge=_Words()
        )
        assert _values("geneval", case, outputs, path)["correct", -1] == right
    outputs = JudgeOutputs(
        detections={"00001": bench_world.detections_of(car=[(*red, 0.9)], dog=[(*blue, 0.31)])}, judge=_Words()
    )
    assert _values("geneval", case, outputs, path)["correct", -1] == 0
    outputs = JudgeOutputs(detections={"00001": bench_world.detections_of(car=[(*red, 0.3)])}, judge=_Words())
    assert _values("geneval", case, outputs, path)["correct", -1] == 0


class _Seen(_Words):
    """Keeps what it is shown and asked."""

    def __init__(self) -> None:
        self.shown, self.asked = list[Any](), list[str]()

    def image_features(self, pictures: Any) -> np.ndarray:
        self.shown += pictures
        return super().image_features(pictures)

    def text_features(self, texts: Any) -> np.ndarray:
        self.asked += texts
        return super().text_features(texts)


@pytest.mark.parametrize(
    ("cars", "birds", "right"),
    [("rr", 0, 1), ("rrb", 0, 1), ("rb", 0, 0), ("brr", 0, 0), ("r", 0, 0), ("rr", 1, 1), ("rr", 2, 0), ("rr", 3, 0)],
)
def test_geneval_wants_as_many_of_a_colour_as_are_asked_for_and_fewer_than_are_excluded(
    tmp_path: Path, cars: str, birds: int, right: float
) -> None:
    wanted = ExpectedInstance(phrase="two red cars", category="car", colour="red", count=2)
    plain = ExpectedInstance(phrase="car", category="car", count=len(cars))
    bird = ExpectedInstance(phrase="bird", category="bird", count=2)
    case = Case(key="a", prompt="", instances=(plain, wanted), height=64, width=64, excluded=(bird,))
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    halves = {"r": (0.0, 0.0, 0.5, 1.0), "b": (0.5, 0.0, 1.0, 1.0)}
    seen = {"car": [(*halves[car], 0.9) for car in cars]} | ({"bird": [(0, 0, 1, 1, 0.9)] * birds} if birds else {})
    found = bench_world.detections_of(**seen)
    outputs = JudgeOutputs(detections={"a": found}, judge=_Words())
    assert _values("geneval", case, outputs, tmp_path / "picture.png")["correct", -1] == right


def test_geneval_shows_the_mask_of_a_thing_on_grey_and_asks_for_its_colour_by_name(tmp_path: Path) -> None:
    case = _case(tmp_path, "geneval")
    pixels = np.full((*SIZE, 3), (255, 0, 0), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    mask_HW = np.zeros(SIZE, bool)
    mask_HW[:16] = True
    box = np.array([[0, 0, 0.5, 0.5]])
    judge = _Seen()
    found = TextDetections(box, np.array([0.9]), (masks.encode(mask_HW),))
    outputs = JudgeOutputs(detections={case.key: {"car": found}}, judge=judge)
    _values("geneval", case, outputs, tmp_path / "picture.png")
    shown = next(crop for crop in judge.shown if crop.shape == (32, 32, 3))
    assert (shown[:16] == (255, 0, 0)).all()
    assert (shown[16:] == 0x99).all()
    assert judge.asked[:3] == ["a photo of a red car", "a photo of a red-colored car", "a photo of a red object"]
    assert len([text for text in judge.asked if text.startswith("a photo of a ") and text.endswith(" object")]) == 10


def test_clip_sees_the_picture_with_its_prompt_and_each_crop_with_its_phrase(tmp_path: Path) -> None:
    case = _case(tmp_path, "coco-mig")  # a red dog in the upper left quarter, a blue ball in the lower right one
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:32, :32], pixels[32:, 32:] = (255, 0, 0), (255, 0, 0)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    outputs = JudgeOutputs(judge=_Words())
    values = _values("coco-mig", case, outputs, path)
    red, blue = np.array([256, 1, 1]), np.array([1, 1, 255])
    unlike = red @ blue / np.linalg.norm(red) / np.linalg.norm(blue)
    assert values["clip", -1] == pytest.approx(1, abs=1e-4)  # "a photo of a red dog and ...": the first word counts
    assert values["clip_local", 0] == pytest.approx(1, abs=1e-4)
    assert values["clip_local", 1] == pytest.approx(unlike)
    path.unlink()
    assert _values("coco-mig", case, outputs, path) == values  # both ways of counting share one look


def test_a_missing_picture_agrees_with_no_text_and_without_a_clip_nothing_is_said(tmp_path: Path) -> None:
    case = _case(tmp_path, "coco-mig")
    absent = View(ExpectedPicture(case, 0, "", None, SIZE), JudgeOutputs(judge=_Words()), False)
    measure = registry.load("coco-mig").measure
    clip = [value for value in measure(case, absent) if value.measure.startswith("clip")]
    assert clip == [("clip", -1, 0.0), ("clip_local", 0, 0.0), ("clip_local", 1, 0.0)]
    silent = View(ExpectedPicture(case, 0, "", None, SIZE), JudgeOutputs(), False)
    assert not [value for value in measure(case, silent) if value.measure.startswith("clip")]


def test_compbench_multiplies_what_it_is_told_of_each_chunk(tmp_path: Path) -> None:
    case = _case(tmp_path, "t2i-compbench")
    answers = {
        (case.key, None, f"{chunk}?"): answer for chunk, answer in (("a green bench", "0.5"), ("a blue bowl", "0.8"))
    }
    outputs = JudgeOutputs(answers=StoredAnswers(answers, "me", "{}"), identities={case.key: case.key})  # type: ignore[arg-type]
    assert _values("t2i-compbench", case, outputs, tmp_path) == {("binding", -1): pytest.approx(0.4)}


def test_sacap_leaves_out_what_a_caption_does_not_say(tmp_path: Path) -> None:
    case = _case(tmp_path, "sacap")
    assert case.instances[0].mask == Rle(**bench_world.RLE)
    answers = {("spatial", 0): "Yes", ("colour", 0): "Yes", ("texture", 0): "unsaid", ("shape", 0): "No"}
    values = _values("sacap", case, JudgeOutputs(**_answered("sacap", case, answers)), tmp_path)  # type: ignore[arg-type]
    assert [values[name, 0] for name in ("spatial", "colour", "texture", "shape")] == [1, 1, None, 0]
    lost = JudgeOutputs(**_answered("sacap", case, {("spatial", 0): "No"}))
    assert set(_values("sacap", case, lost, tmp_path).values()) == {0}  # and nothing else is asked


def test_layoutbench_is_cocos_average_precision(tmp_path: Path) -> None:
    benchmark, case = registry.load("layoutbench-coco"), _case(tmp_path, "layoutbench-coco")
    detections = {
        "dog": TextDetections(np.array([[0, 0, 0.5, 0.5]]), np.array([0.9])),
        "bird": TextDetections(np.array([[0, 0, 1, 1.0]]), np.array([1.0])),
    }
    overlaps = _values("layoutbench-coco", case, JudgeOutputs(detections={case.key: detections}), tmp_path)
    assert [overlaps["miou", n] for n in range(2)] == [1, 0]
    assert benchmark.matched is not None
    matched = benchmark.matched(
        [View(ExpectedPicture(case, 0, "", tmp_path, SIZE), JudgeOutputs(detections={case.key: detections}), False)]
    )["ap"]
    from eval.metrics import average_precision

    assert average_precision.summary(matched).ap == pytest.approx(0.5)  # the dog is whole, the cat is not there
    assert case.parts == ("skill/number",)
