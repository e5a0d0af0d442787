"""A whole row scored, from pictures to metrics, in a world where every number is known; and what is refused."""

import json
from pathlib import Path
from typing import Any

import eval_world
import pandas as pd
import pytest
import yaml

from eval import detect
from eval.inputs import detections, ground_truth, pictures
from eval.metrics.bootstrap import Metric
from eval.scoring import headline, score_row
from eval.scoring.columns import SCORES
from eval.scoring.measures import Eyes
from eval.scoring.row import Inputs, Params, Recipe, checked
from instdiff import tables
from instdiff.tables import ANNOTATED, IMAGES
from instdiff.world import appearance

PARAMS = Params(
    seed=0,
    square=None,
    min_score=0.25,
    num_resamples=50,
    num_resamples_parts=20,
    sizes={"small": (0.0, 150.0), "large": (150.0, 1e10)},
    leak_groups=("crowded", "same_shape"),
    words={"colour": ("red", "green", "blue"), "texture": ("rubber", "glass"), "shape": ("square", "bar")},
    templates=dict.fromkeys(("colour", "texture", "shape"), ("a {colour} {texture} {shape}",)),
    batch_size=3,
    sets=Recipe(features="judge", num_resamples=5, kid_subsets=3, kid_subset_size=3),
)
EYES = Eyes(eval_world.PixelJudge(), eval_world.PixelJudge())


@pytest.fixture
def world(tmp_path: Path) -> Path:
    eval_world.write(tmp_path)
    return tmp_path


def _inputs(world: Path, folder: str) -> Inputs:
    """The detect stage, then what the score stage reads."""
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(world / folder, truth.images, None)
    params = detect.Params(batch_size=3, square=None)
    detect.write(world / f"{folder}.json", eval_world.PixelDetector(), "abc", judged, params)
    found = detections.read(world / f"{folder}.json", judged.sizes)
    return Inputs(truth, judged, pictures.find(world / "real", truth.images, None), found)


def _rows(world: Path) -> list[dict[str, Any]]:
    return [dict(row) for _, row in tables.read(world / "annotated.parquet", ANNOTATED).iterrows()]


def _score(world: Path, row: str, folder: str) -> tuple[pd.DataFrame, dict[str, Metric]]:
    return score_row.score(row, checked(row, _inputs(world, folder)), EYES, PARAMS)[:2]


def test_the_real_row_finds_every_instance_where_it_is(world: Path) -> None:
    scores, metrics = _score(world, "real", "real")
    assert tuple(metrics)[: len(headline.HEADLINE)] == tuple(headline.HEADLINE)
    perfect = ("box_ap50", "mask_ap50", "mask_miou", "pim", "colour_accuracy", "texture_accuracy", "box_ar")
    assert {name: metrics[name].value for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert metrics["colour_leak"].value == 0.0
    assert metrics["fid"].value == pytest.approx(0.0, abs=1e-9)
    assert metrics["colour_leak"].n == 6  # of the three pictures in the groups
    assert metrics["box_ap50"].n == len(scores) == 7
    assert scores["detection_score"].tolist() == [0.9] * 7


def test_a_missing_and_a_repainted_instance_cost_what_they_should(world: Path) -> None:
    # b: the green square is left out. d: the red bar is painted blue, its neighbour's colour.
    eval_world.draw(world / "drawn", {("b", 0): None, ("d", 0): eval_world.COLOURS["blue"]}, 90)
    scores, metrics = _score(world, "box", "drawn")
    by_name = scores.set_index(["key", "index"])
    columns = ["box_iou", "mask_iou", "pim_point", "pim_scribble"]
    assert (by_name[columns].to_numpy()[1] == 0.0).all()  # b, 0
    assert bool(by_name["leak"].tolist()[5])  # d, 0
    # the grey in b's empty place is as near to every colour and judged to be the first, red, as the neighbour is
    assert metrics["colour_leak"].value == pytest.approx(2 / 6)
    assert metrics["colour_accuracy"].value == pytest.approx(5 / 7)
    # the two blue bars of d are one detection of rows 2 to 28: it overlaps each bar by 8 of 26 rows
    assert by_name.loc[("d", 0), "box_iou"] == pytest.approx(8 / 26)
    assert by_name.loc[("d", 1), "mask_iou"] == pytest.approx(8 / 16)
    # one of the two bars is that detection's; the other and the missing square have none
    assert metrics["pim"].value == pytest.approx(5 / 7)
    assert metrics["mask_miou"].value == pytest.approx((4 + 8 / 16 + 8 / 16) / 7)
    assert metrics["box_ap50/mixed"].value == pytest.approx(1.0)
    assert metrics["box_ap50/same_shape"].value == 0.0


def test_pim_of_the_scribble_row_is_that_of_scribbles(world: Path) -> None:
    eval_world.draw(world / "drawn", {("a", 0): None}, 90)
    _, metrics = _score(world, "scribble", "drawn")
    assert metrics["pim"] == metrics["pim_scribble"]


def test_the_real_pictures_are_refused_in_any_other_row(world: Path) -> None:
    with pytest.raises(ValueError, match="are the real ones"):
        checked("box", _inputs(world, "real"))


def test_other_pictures_are_refused_in_the_real_row(world: Path) -> None:
    eval_world.draw(world / "drawn", {}, background=90)
    with pytest.raises(ValueError, match="must judge the real pictures"):
        checked("real", _inputs(world, "drawn"))


def test_detections_of_other_pictures_are_refused(world: Path) -> None:
    eval_world.draw(world / "drawn", {}, background=90)
    eval_world.draw(world / "later", {}, background=91)
    drawn, later = _inputs(world, "drawn"), _inputs(world, "later")
    with pytest.raises(ValueError, match="run detect again"):
        checked("box", later._replace(found=drawn.found))


def test_an_empty_evaluation_is_an_error(world: Path) -> None:
    tables.write(world / "annotated.parquet", [], ANNOTATED)
    with pytest.raises(ValueError, match="nothing to evaluate: 4 pictures, 0 instances"):
        ground_truth.load(world / "images.parquet", world / "annotated.parquet")


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("key", "nobody", "has no picture"),
        ("mask", None, "instance 1 of 'b' has no mask"),
        ("box", None, "instance 1 of 'b' has no box"),
        ("category", None, "instance 1 of 'b' has no category"),
    ],
)
def test_an_instance_that_cannot_be_judged_is_named(world: Path, column: str, value: object, sentence: str) -> None:
    rows = _rows(world)
    rows[2][column] = value
    tables.write(world / "annotated.parquet", rows, ANNOTATED)
    with pytest.raises(ValueError, match=sentence):
        ground_truth.load(world / "images.parquet", world / "annotated.parquet")


def test_a_category_the_detector_does_not_know_is_an_error_and_not_a_miss(world: Path) -> None:
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    with pytest.raises(ValueError, match=r"instance 0 of 'c' is a 'bar'; the detector knows square"):
        ground_truth.coco_annotations(truth, [(32, 32)] * 4, ["square"])


def test_a_word_the_judge_does_not_know_is_an_error_and_not_a_mistake(world: Path) -> None:
    params = PARAMS.model_copy(update={"words": PARAMS.words | {"colour": ("red", "green")}})
    with pytest.raises(ValueError, match="colour 'blue'"):
        score_row.score("real", _inputs(world, "real"), EYES, params)


def test_masks_are_judged_at_the_size_of_the_pictures(world: Path) -> None:
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    first = ground_truth.coco_annotations(truth, [(64, 96)] * 4, ["square", "bar"])[0]
    assert first["area"] == 20 * 30
    assert first["bbox"] == [6.0, 4.0, 30.0, 20.0]


def test_what_is_not_asked_is_not_measured(world: Path) -> None:
    tables.write(world / "annotated.parquet", [row | {"colour": None} for row in _rows(world)], ANNOTATED)
    _, metrics = _score(world, "real", "real")
    assert not {"colour_accuracy", "colour_leak"} & metrics.keys()
    assert metrics["texture_accuracy"].n == 7


def test_a_row_is_written_whole_and_read_back(world: Path) -> None:
    scores, metrics = _score(world, "real", "real")
    score_row.write(world / "scores", score_row.Scored(scores, metrics, {}), {"row": "real"})
    assert len(tables.read(world / "scores" / "instances.parquet", SCORES)) == 7
    written = json.loads((world / "scores" / "metrics.json").read_text())
    assert set(written["pim"]) == {"value", "n", "low", "high"}
    assert json.loads((world / "scores" / "provenance.json").read_text()) == {"row": "real"}


def test_the_same_inputs_give_the_same_intervals(world: Path) -> None:
    assert _score(world, "real", "real")[1] == _score(world, "real", "real")[1]


def test_images_are_listed_once_or_refused(world: Path) -> None:
    images = tables.read(world / "images.parquet", IMAGES)
    with pytest.raises(ValueError, match="stand twice"):
        pictures.find(world / "real", pd.concat([images, images]), None)


def test_the_judge_chooses_among_all_words_of_the_miniature_world() -> None:
    words = yaml.safe_load((Path(__file__).parents[1] / "configs" / "score" / "default.yaml").read_text())["words"]
    assert words == {
        "colour": list(appearance.COLOURS),
        "texture": list(appearance.TEXTURES),
        "shape": list(appearance.SHAPES),
    }
