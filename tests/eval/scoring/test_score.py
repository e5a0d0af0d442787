"""A whole row scored, from pictures to metrics, in a world where every number is known; and what is refused."""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import eval_world
import numpy as np
import pandas as pd
import pytest
import yaml
from eval_world import JUDGES, PARAMS, row_inputs
from PIL import Image

from eval import detect, score
from eval.inputs import ground_truth, pictures
from eval.inputs.vocabulary import DetectionVocabulary
from eval.metrics import average_precision, bootstrap, fid, kid
from eval.metrics.bootstrap import Metric
from eval.scoring import features, headline, instance_table, measures, paired, row, score_row
from eval.scoring.columns import SCORES
from eval.scoring.features import Judges
from eval.scoring.row import DistanceParams, Inputs, Params, checked
from instdiff.files import provenance, tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.networks import clip, detector, device, inception, preference
from instdiff.networks.finders.closed import ClosedFinder
from instdiff.world import appearance

DETECT = eval_world.DETECT


@pytest.fixture
def world(tmp_path: Path) -> Path:
    eval_world.write(tmp_path)
    return tmp_path


def _rows(world: Path) -> list[dict[str, Any]]:
    return [dict(row) for _, row in tables.read(world / "annotated.parquet", ANNOTATED).iterrows()]


def _score(world: Path, row: str, folder: str) -> tuple[pd.DataFrame, dict[str, Metric]]:
    return score_row.score(row, checked(row, row_inputs(world, folder)), JUDGES, PARAMS)[:2]


def test_the_real_row_finds_every_instance_where_it_is(world: Path) -> None:
    scores, metrics = _score(world, "real", "real")
    assert tuple(metrics)[: len(headline.HEADLINE)] == tuple(headline.HEADLINE)
    perfect = ("box_ap50", "mask_ap50", "mask_miou", "pim", "colour_accuracy", "texture_accuracy", "box_ar")
    assert {name: metrics[name].value for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert metrics["colour_leak"].value == 0.0
    assert metrics["fid"].value == pytest.approx(0.0, abs=1e-9)
    assert metrics["colour_leak"].n == 6  # of the three pictures in the groups
    assert metrics["box_ap50"].n == len(scores) == 7
    assert [metrics[f"box_ap/category/{name}"].n for name in ("square", "bar")] == [4, 3]
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
        checked("box", row_inputs(world, "real"))


def test_pictures_that_went_through_the_autoencoder_may_look_real_and_without_real_ones_nothing_does(
    world: Path,
) -> None:
    inputs = row_inputs(world, "real")
    assert checked("reconstructed", inputs) is inputs
    alone = inputs._replace(real=None)
    assert all(checked(name, alone) is alone for name in ("real", "reconstructed", "box"))


def test_other_pictures_are_refused_in_the_real_row(world: Path) -> None:
    eval_world.draw(world / "drawn", {}, background=90)
    with pytest.raises(ValueError, match="must judge the real pictures"):
        checked("real", row_inputs(world, "drawn"))


def test_detections_of_other_pictures_are_refused(world: Path) -> None:
    eval_world.draw(world / "drawn", {}, background=90)
    eval_world.draw(world / "later", {}, background=91)
    judged, later = row_inputs(world, "drawn"), row_inputs(world, "later")
    with pytest.raises(ValueError, match="run detect again"):
        checked("box", later._replace(detections=judged.detections))


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
        ground_truth.coco_annotations(truth, eval_world.SIZES, ["square"])


def test_a_word_the_judge_does_not_know_is_an_error_and_not_a_mistake(world: Path) -> None:
    params = PARAMS.model_copy(update={"words": PARAMS.words | {"colour": ("red",)}})
    with pytest.raises(ValueError, match="colour 'blue', not among red$"):
        score_row.score("real", row_inputs(world, "real"), JUDGES, params)


def test_masks_are_judged_at_the_size_of_the_pictures(world: Path) -> None:
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    first = ground_truth.coco_annotations(truth, [(80, 72)] * 4, ["square", "bar"])[0]  # of 40 rows, 24 columns
    assert first["area"] == 16 * 30
    assert first["bbox"] == [6.0, 8.0, 30.0, 16.0]


def test_what_is_not_asked_is_not_measured(world: Path) -> None:
    tables.write(world / "annotated.parquet", [row | {"colour": None} for row in _rows(world)], ANNOTATED)
    _, metrics = _score(world, "real", "real")
    assert not {"colour_accuracy", "colour_leak"} & metrics.keys()
    assert metrics["texture_accuracy"].n == 7


def test_a_row_is_written_whole_and_read_back(world: Path) -> None:
    scores, metrics = _score(world, "real", "real")
    score_row.write(
        world / "scores", score_row.RowScores(scores, metrics, {}, paired.of_pictures((), {}), {}), {"row": "real"}
    )
    assert len(tables.read(world / "scores" / "instances.parquet", SCORES)) == 7
    written = json.loads((world / "scores" / "metrics.json").read_text())
    assert set(written["pim"]) == {"value", "n", "low", "high", "better"}
    assert json.loads((world / "scores" / "provenance.json").read_text()) == {"row": "real"}


def test_the_same_inputs_give_the_same_intervals(world: Path) -> None:
    assert _score(world, "real", "real")[1] == _score(world, "real", "real")[1]


def test_an_instances_area_is_its_share_of_its_own_picture(world: Path) -> None:
    areas = [80, 100, 100, 256, 100, 256, 256]
    of = [0, 1, 1, 2, 2, 3, 3]
    scores, _ = _score(world, "real", "real")
    expected = [area / np.prod(eval_world.SIZES[place]) for area, place in zip(areas, of, strict=True)]
    assert scores["area"].tolist() == pytest.approx(expected)


def test_a_rows_sources_say_how_many_pictures_have_which_width_and_height(world: Path) -> None:
    source = row.sources("real", row_inputs(world, "real"), "judge", PARAMS)["sets"]
    sizes = {"36x20": 1, "32x30": 1, "32x32": 1, "24x40": 1}
    same = {"count": 4, "formats": {".png": 4}, "sizes": sizes}
    assert source == {"features": "judge", "pictures": same, "real": same}


@pytest.mark.parametrize(("min_score", "counts"), [(0.9 - 1e-9, True), (0.9, True), (0.9 + 1e-9, False)])
def test_a_detection_counts_from_the_least_score_on(world: Path, min_score: float, counts: bool) -> None:
    _, metrics, *_ = score_row.score("real", row_inputs(world, "real"), None, _with(min_score=min_score))
    for name in ("box_miou", "mask_miou", "pim_point", "mig_success", "mig_pictures"):
        assert metrics[name].value == counts
    assert metrics["box_ap"].value == 1.0  # which uses all


def _with(**changed: object) -> Params:
    return Params.model_validate(PARAMS.model_dump() | changed)


class Watched:
    """A judge that writes down what it is shown."""

    def __init__(self) -> None:
        self.judge = eval_world.PixelJudge()
        self.batches: list[int] = []
        self.texts: list[str] = []

    def image_features(self, pictures: Sequence[eval_world.Pixels]) -> Any:
        self.batches.append(len(pictures))
        return self.judge.image_features(pictures)

    def text_features(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return self.judge.text_features(texts)


def _calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[tuple[Any, ...]]:
    """The arguments that the function is called with from now on."""
    calls: list[tuple[Any, ...]] = []
    function = getattr(module, name)

    def recorded(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(module, name, recorded)
    return calls


def _seeds(world: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    streams = [_calls(monkeypatch, module, "generator") for module in (bootstrap, measures, instance_table)]
    score_row.score("box", row_inputs(world, "real"), JUDGES, _with(seed=7))
    assert [{call[1] for call in calls} for calls in streams] == [{"bootstrap"}, {"kid"}, {"paper scribble"}]
    assert len(set(streams[2])) == 7  # a scribble of its own for each instance
    return {call[0] for calls in streams for call in calls}


def _draws(world: Path, monkeypatch: pytest.MonkeyPatch, **changed: object) -> object:
    """How often average precision is resampled: of the whole, and of parts."""
    calls = _calls(monkeypatch, average_precision, "metrics")
    _, metrics, *_ = score_row.score("box", row_inputs(world, "real"), None, _with(**changed))
    assert {"box_ap/category/bar", "box_ap/size/small", "box_ap50/crowded"} <= metrics.keys()
    return Counter(len(call[1]) for call in calls)


def _of_sets(world: Path, monkeypatch: pytest.MonkeyPatch, **changed: object) -> object:
    frechets, kernels = _calls(monkeypatch, fid, "metric"), _calls(monkeypatch, kid, "metric")
    sets = PARAMS.sets.model_dump() | changed
    score_row.score("box", row_inputs(world, "real"), JUDGES, _with(sets=sets))
    return [(len(draws), *subsets) for (_, _, draws), (_, _, *subsets, _) in zip(frechets, kernels, strict=True)]


def _looked(monkeypatch: pytest.MonkeyPatch, **changed: object) -> object:
    monkeypatch.setattr(clip, "load", lambda folder, where: ("judge", folder))
    monkeypatch.setattr(preference, "load", lambda folder, name, where: (name, folder))
    return features.load_judges(Path("at"), "of who likes", _with(**changed)).preferences


def _square(world: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The stage on pictures of the model's own size."""
    monkeypatch.setattr(clip, "load", lambda folder, where: eval_world.PixelJudge())
    eval_world.write_detector(world / "judge", b"one")
    eval_world.draw(world / "drawn", {}, background=90)
    for path in (world / "drawn").iterdir():
        Image.open(path).resize((64, 64), Image.Resampling.NEAREST).save(path)
    monkeypatch.setattr(detector, "load", lambda folder, where: eval_world.PixelDetector())
    tables_of = {"images": world / "images.parquet"}
    at = {"pictures": world / "drawn", "detections": world / "found.json"}
    tables_of |= {"annotated": world / "annotated.parquet"}
    params = DETECT.model_copy(update={"batch_size": 3, "square": 64})
    detect.run(**at, **tables_of, detector=world / "judge", params=params)
    more = {"real": world / "real", "judge": world / "judge"}
    counts = score.run(**at, **tables_of, **more, scores=world / "scores", row="box", params=_with(square=64))
    source = json.loads((world / "scores" / "provenance.json").read_text())
    return [counts["pictures"], counts["instances"], source["row"], source["sets"]["pictures"]["sizes"]]


def _places(world: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Where the judge is loaded to."""
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(clip, "load", lambda folder, where: calls.append((where.name, where.precision)))
    features.load_judges(
        world, "of the place", _with(device={**device.PLAIN.model_dump(), "name": "auto", "precision": "bfloat16"})
    )
    return calls


def _keys(world: Path, start: str, **changed: object) -> object:
    _, metrics, *_ = score_row.score("box", row_inputs(world, "real"), JUDGES, _with(**changed))
    return {name.removeprefix(start): metric.n for name, metric in metrics.items() if name.startswith(start)}


def _texts(world: Path, **changed: object) -> object:
    watched = Watched()
    score_row.score("box", row_inputs(world, "real"), Judges(watched, watched, "watched"), _with(**changed))
    return [text for text in watched.texts if text.startswith("such")]


def _batches_seen(world: Path, **changed: object) -> object:
    watched = Watched()
    score_row.score("box", row_inputs(world, "real"), Judges(watched, watched, "watched"), _with(**changed))
    return watched.batches  # crops, by whole pictures; the pictures; the real ones


PLAIN = {name: (f"a {{{name}}} thing",) for name in PARAMS.words}
TEMPLATES = PARAMS.templates | {"texture": ("such {texture}",)}
VALUES: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], object], object]] = {
    "seed": (_seeds, {7}),
    "square": (_square, [4, 7, "box", {"64x64": 4}]),
    "min_score": (lambda world, _: _keys(world, "pim_point", min_score=0.95), {"": 7}),
    "num_resamples": (lambda world, patch: _draws(world, patch, num_resamples=31), {31: 2, 20: 11}),
    "num_resamples_parts": (lambda world, patch: _draws(world, patch, num_resamples_parts=11), {50: 2, 11: 11}),
    "sizes": (
        lambda world, _: _keys(world, "mask_ap/size/", sizes={"a": (0, 80), "b": (80, 100), "c": (300, 400)}),
        {"a": 1, "b": 4},
    ),
    "leak_groups": (lambda world, _: _keys(world, "colour_leak", leak_groups=("crowded",)), {"": 4}),
    "words": (
        lambda world, _: _keys(world, "texture", words=PARAMS.words | {"texture": ()}, templates=PLAIN),
        {},
    ),
    "templates": (
        lambda world, _: _texts(world, templates=TEMPLATES),
        ["such rubber", "such glass"],
    ),
    "batch_size": (lambda world, _: _batches_seen(world, batch_size=2), [3, 2, 2, 2, 2, 2, 2]),
    "device": (_places, [("cpu", "bfloat16")]),
    "sets": (
        lambda world, patch: _of_sets(world, patch, num_resamples=4, kid_subsets=5, kid_subset_size=2),
        [(4, 5, 2)],
    ),
    "preferences": (lambda _, patch: _looked(patch, preferences=("hps",)), {"hps": ("hps", Path("at/hps"))}),
}


@pytest.mark.parametrize("name", VALUES)
def test_each_value_of_the_stage_reaches_what_it_is_for(
    world: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reached, expected = VALUES[name]
    assert reached(world, monkeypatch) == expected


def test_every_value_is_among_those_tried() -> None:
    assert VALUES.keys() | {"work"} == Params.model_fields.keys()
    assert DistanceParams.model_fields.keys() == {
        "features",
        "beside",
        "num_resamples",
        "kid_subsets",
        "kid_subset_size",
    }


def test_features_are_the_judges_or_inceptions_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "load", lambda folder, where: ("judge", folder))
    monkeypatch.setattr(inception, "load", lambda path, where: ("inception", path))
    loaded = features.load_judges(Path("at"), "one", PARAMS)
    assert loaded.features is loaded.judge
    assert features.loaded(loaded.judge) == ("judge", Path("at"))
    sets = PARAMS.sets.model_copy(update={"features": "inception"})
    other = features.load_judges(Path("at"), "other", _with(sets=sets.model_dump()))
    assert (features.loaded(other.judge), features.loaded(other.features)) == (
        ("judge", Path("at")),
        ("inception", Path("at/inception.pth")),
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_how_many_are_seen_at_once_changes_no_number(world: Path, batch_size: int) -> None:
    inputs = row_inputs(world, "real")
    expected, metrics, *_ = score_row.score("box", inputs, JUDGES, PARAMS)
    scored, others, *_ = score_row.score("box", inputs, JUDGES, _with(batch_size=batch_size))
    pd.testing.assert_frame_equal(scored, expected)
    assert others == metrics
    sizes: list[int] = []
    pixels = eval_world.PixelDetector()

    class Counted:
        classes = pixels.classes

        def detect(self, pictures: Sequence[eval_world.Pixels]) -> Any:
            sizes.append(len(pictures))
            return pixels.detect(pictures)

    vocabulary = DetectionVocabulary(tuple(pixels.classes), (tuple(pixels.classes),) * 4)
    few, all_at_once = (DETECT.model_copy(update={"batch_size": size}) for size in (batch_size, 4))
    again = detect.annotations(ClosedFinder(Counted()), inputs.pictures, vocabulary, few, world / "one")
    assert again == detect.annotations(ClosedFinder(pixels), inputs.pictures, vocabulary, all_at_once, world / "other")
    assert sizes == [min(batch_size, 4 - start) for start in range(0, 4, batch_size)]


def test_prompts_are_held_against_their_own_pictures_and_resampled_with_them(world: Path) -> None:
    inputs = row_inputs(world, "real")
    captions = ["", "a red thing", " ", "a blue thing"]
    inputs = inputs._replace(
        truth=ground_truth.GroundTruth(inputs.truth.images.assign(caption=captions), *_rest(inputs))
    )
    draws = np.array([[1, 2, 1, 0]] * 5)  # of the two prompts the first alone
    seen = measures.seen(inputs, JUDGES, draws, PARAMS)
    metric = measures.of_pictures(seen.values, draws)["clip_global"]
    own = JUDGES.judge.image_features([inputs.pictures.load(place) for place in (1, 3)])
    texts = JUDGES.judge.text_features([captions[1], captions[3]])
    first, second = (np.asarray(own) * np.asarray(texts)).sum(1)
    assert first != pytest.approx(second)
    assert metric == pytest.approx(((first + second) / 2, 2, first, first))


class Levels:
    """A network that sees no colours: the least, the greatest and the mean value of a picture."""

    def image_features(self, pictures: Sequence[eval_world.Pixels]) -> Any:
        return np.array([[pixels.min(), pixels.max(), pixels.mean()] for pixels in pictures], np.float64)


def test_distances_are_of_the_network_that_is_named_for_them_and_not_of_the_judge(world: Path) -> None:
    eval_world.draw(world / "drawn", {("b", 0): None}, 90)
    inputs = row_inputs(world, "drawn")
    draws = bootstrap.draws(4, 50, 0)
    seen = measures.seen(inputs, Judges(eval_world.PixelJudge(), Levels(), "levels"), draws, PARAMS)
    both = [pictures.find(world / name, inputs.truth.images, None) for name in ("drawn", "real")]
    own, real = (Levels().image_features([each.load(place) for place in range(4)]) for each in both)
    expected = fid.metric(own, real, draws[: PARAMS.sets.num_resamples]).metric
    assert seen.sets["fid"].metric == pytest.approx(expected)


def _rest(inputs: Inputs) -> tuple[pd.DataFrame, dict[str, str]]:
    return inputs.truth.instances, inputs.truth.digests


def test_the_groups_are_scored_apart_only_when_there_are_two(world: Path) -> None:
    _, metrics = _score(world, "real", "real")
    assert {name for name in metrics if name.startswith("box_ap50/")} == {
        f"box_ap50/{group}" for group in ("crowded", "mixed", "same_shape")
    }
    images = tables.read(world / "images.parquet", IMAGES)
    tables.write(world / "images.parquet", images.assign(group="mixed"), IMAGES)
    shutil.rmtree(world / "real")
    eval_world.draw(world / "real", {})
    _, metrics = _score(world, "real", "real")
    assert not [name for name in metrics if name.startswith("box_ap50/")]


def test_each_hash_of_a_rows_sources_is_of_what_it_says(world: Path) -> None:
    eval_world.draw(world / "drawn", {}, background=90)
    inputs = row_inputs(world, "drawn")
    source = row.sources("box", inputs, "of the judge", PARAMS)
    stated = json.loads((world / "drawn.json").read_text())["provenance"]
    expected = {
        "row": "box",
        "pictures": inputs.pictures.digest,
        "num_pictures": 4,
        "drawn_by": None,
        "real_pictures": inputs.real.digest if inputs.real else None,
        "images": provenance.of_file(world / "images.parquet"),
        "annotated": provenance.of_file(world / "annotated.parquet"),
        "detections": provenance.of_file(world / "drawn.json"),
        "detected_by": stated,
        "judge": "of the judge",
        "settings": json.loads(PARAMS.model_dump_json(exclude={"work"})),
    }
    assert {name: source[name] for name in expected} == expected
    assert len({source[name] for name in ("pictures", "real_pictures", "images", "annotated", "detections")}) == 5
    assert stated == {
        "pictures": inputs.pictures.digest,
        "detector": "abc",
        "settings": {"finder": "yolo", "batch_size": 3, "square": None, "device": device.PLAIN.model_dump()},
        "versions": provenance.versions(),
    }


@pytest.mark.parametrize(
    ("stated", "taken"), [({"pictures": None}, True), ({}, False), ({"pictures": "others"}, False)]
)
def test_detections_say_their_pictures_or_that_they_do_not_know_them(
    world: Path, stated: dict[str, object], taken: bool
) -> None:
    inputs = row_inputs(world, "real")
    inputs = inputs._replace(detections=dataclasses.replace(inputs.detections, provenance=stated))
    if taken:
        assert checked("real", inputs) is inputs
    else:
        with pytest.raises(ValueError, match="run detect again"):
            checked("real", inputs)


def test_the_detect_stage_counts_pictures_detections_and_pictures_without(world: Path) -> None:
    eval_world.draw(world / "drawn", {("a", 0): None, ("b", 0): None}, 90)
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    picture_set = pictures.find(world / "drawn", truth.images, None)
    counts = eval_world.detected(world / "found.json", picture_set)
    assert counts == {"pictures": 4, "detections": 5, "pictures_without": 1}


def test_the_values_that_metrics_are_means_of_by_hand() -> None:
    nothing = None
    scores = pd.DataFrame(
        {
            "group": ["mixed", "crowded", "crowded", "mixed"],
            "category": ["ring", "ring", "disc", "disc"],
            "colour": ["red", "red", nothing, "blue"],
            "texture": [nothing, "glass", "glass", nothing],
            "judged_colour": ["red", "blue", "red", nothing],
            "judged_texture": ["glass", "glass", "rubber", "glass"],
            "judged_shape": ["ring", "disc", "disc", nothing],
            "leak": [False, True, nothing, nothing],
            "box_iou": [0.6, 0.7, 0.5, 0.4],
            "mask_iou": [0.1, 0.2, 0.3, 0.4],
            "overlap": ["apart", "crossing", "crossing", "apart"],
            "overlap_iou": [nothing, 0.25, 0.75, nothing],
            "pim_point": [1.0, 0.0, nothing, 1.0],
            "pim_scribble": [0.5, 0.25, nothing, 0.75],
            "clip_local": [0.1, 0.2, 0.3, 0.4],
        }
    )
    none = float("nan")
    expected = {
        "mask_miou": [0.1, 0.2, 0.3, 0.4],
        "box_miou": [0.6, 0.7, 0.5, 0.4],
        "box_miou/overlap/apart": [0.6, none, none, 0.4],
        "box_miou/overlap/touching": [none, none, none, none],
        "box_miou/overlap/crossing": [none, 0.7, 0.5, none],
        "overlap_miou": [none, 0.25, 0.75, none],
        "pim": [1, 0, none, 1],
        "pim_point": [1, 0, none, 1],
        "pim_scribble": [0.5, 0.25, none, 0.75],
        "colour_leak": [none, 1, none, none],  # of the crowded ones
        "clip_local": [0.1, 0.2, 0.3, 0.4],
        "mig_success": [1, 0, 1, 0],  # in the wrong colour, and below half
        "mig_miou": [0.6, 0, 0.5, 0.4],
        "colour_accuracy": [1, 0, none, none],
        "texture_accuracy": [none, 1, 0, none],
        "shape_accuracy": [1, 0, 1, none],
    }
    columns = measures.columns("box", scores, ("crowded",))
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        assert columns[name].to_numpy(np.float64, na_value=np.nan) == pytest.approx(np.array(values), nan_ok=True), name
    assert measures.columns("box", scores, ())["colour_leak"].notna().tolist() == [True, True, False, False]
    for name, column in (
        ("scribble", "pim_scribble"),
        ("reference_scribble@2", "pim_scribble"),
        ("scribble_2", "pim_point"),
    ):
        assert measures.columns(name, scores, ())["pim"].equals(columns[column]), name


def test_images_are_listed_once_or_refused(world: Path) -> None:
    images = tables.read(world / "images.parquet", IMAGES)
    with pytest.raises(ValueError, match="stand twice"):
        pictures.find(world / "real", pd.concat([images, images]), None)


def test_the_judge_chooses_among_all_words_of_the_miniature_world() -> None:
    words = yaml.safe_load((Path(__file__).parents[3] / "configs" / "score" / "default.yaml").read_text())["words"]
    assert words == {
        "colour": list(appearance.COLOURS),
        "texture": list(appearance.TEXTURES),
        "shape": list(appearance.SHAPES),
    }
