"""What is kept for comparing rows pairwise: metrics of pictures by picture, distances of sets draw by draw."""

import dataclasses
from pathlib import Path
from typing import Any

import eval_world
import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from transformers import CLIPModel

from eval.metrics import bootstrap, cmmd
from eval.scoring import difference, features, paired, row, score_row
from eval.scoring.features import Judges
from instdiff.files import tables
from instdiff.networks import clip, dinov2, preference

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, size, np.uint8) for size in ((40, 60, 3), (64, 64, 3), (20, 30, 3))]


def side(values: dict[str, list[float]], resampled: dict[str, Any], **source: Any) -> difference.Side:
    keys = [f"k{number}" for number in range(len(next(iter(values.values()))))]
    table = paired.of_pictures(keys, {name: pd.Series(column) for name, column in values.items()}).assign(seed=0)
    metrics = {
        name: {"value": float(np.nanmean(column)), "low": -9.0, "high": 9.0} for name, column in values.items()
    } | {name: {"value": float(np.mean(column)), "low": -9.0, "high": 9.0} for name, column in resampled.items()}
    return difference.Side(
        (Path(),), pd.DataFrame({"key": keys}), metrics, {"settings": 1, "num_pictures": 3} | source, table, resampled
    )


def test_pictures_are_held_against_themselves_and_those_that_count_on_one_side_alone_are_left_out() -> None:
    a = side({"pickscore": [20.0, 10.0, 30.0, np.nan]}, {})
    other = side({"pickscore": [21.0, 11.0, np.nan, 9.0]}, {})
    metric = difference.of_pictures(a, other, 50, 0)["pickscore"]
    assert (metric.a, metric.b, metric.paired) == (15.0, 16.0, True)
    assert (metric.low, metric.high) == pytest.approx((1.0, 1.0))  # in every draw: however unlike the pictures are


def test_distances_are_held_against_each_other_in_the_same_draws() -> None:
    noise = RNG.normal(size=40)
    a, b = side({"x": [1.0]}, {"fid": 5 + noise}), side({"x": [1.0]}, {"fid": 7 + noise})
    metric = difference.of_sets(a, b)["fid"]
    assert metric.paired and metric.certain and (metric.low, metric.high) == pytest.approx((2, 2))
    assert difference.of_sets(a, side({"x": [1.0]}, {"fid": noise[1:]})) == {}
    assert difference.of_sets(a, side({"x": [1.0]}, {"fid": noise}, settings=2)) == {}
    assert difference.of_sets(a, side({"x": [1.0]}, {"fid": noise}, num_pictures=9)) == {}


def test_what_is_kept_is_read_back_and_a_folder_without_it_has_none(tmp_path: Path) -> None:
    values = {"a": pd.Series([1.0, np.nan]), "b": pd.Series([0.5, 0.25])}
    tables.write(tmp_path / paired.PICTURES_FILE, paired.of_pictures(["x", "y"], values), paired.PICTURES)
    assert paired.read_pictures(tmp_path).to_dict("list") == {
        "key": ["x", "x", "y"],
        "metric": ["a", "b", "b"],
        "value": [1.0, 0.5, 0.25],
    }
    draws = {"fid": np.array([3.0, 1.0, 2.0]), "kid": np.array([0.5])}
    tables.write(tmp_path / paired.RESAMPLED_FILE, paired.of_resampled(draws), paired.RESAMPLED)
    read = paired.read_resampled(tmp_path)
    assert {name: list(values) for name, values in read.items()} == {"fid": [3.0, 1.0, 2.0], "kid": [0.5]}
    assert paired.read_pictures(tmp_path / "old").empty and paired.read_resampled(tmp_path / "old") == {}


def test_preferences_are_cosines_times_the_networks_own_scale_or_alone(tmp_path: Path) -> None:
    folder = tiny_models.clip(tmp_path / "clip")
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
    model.save_pretrained(folder)
    texts = ["a red circle", "the blue square", "a photo"]
    loaded = clip.load(folder)
    cosines = (loaded.image_features(PICTURES) * loaded.text_features(texts)).sum(-1).numpy()
    assert preference.load(folder, "hps").scores(PICTURES, texts) == pytest.approx(cosines)
    assert preference.load(folder, "pickscore").scores(PICTURES, texts) == pytest.approx(cosines * np.exp(2), rel=1e-5)


def test_dinov2s_features_are_the_class_token_after_the_norm_of_any_picture(tmp_path: Path) -> None:
    model = dinov2.load(tiny_models.dinov2(tmp_path / "dinov2"))
    together = model.image_features(PICTURES)
    assert together.shape == (3, 32)
    assert torch.allclose(together[1:2], model.image_features(PICTURES[1:2]), atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    with pytest.raises(ValueError, match="model_type 'clip', not dinov2"):
        dinov2.load(tiny_models.clip(tmp_path / "clip"))


def test_a_row_has_each_metric_that_its_values_name_and_folders_that_lack_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = tiny_models.clip(tmp_path / "judge")
    for name, kind in (("fd_dinov2", "dinov2"), ("cmmd", "clip"), ("hps", "clip"), ("pickscore", "clip")):
        getattr(tiny_models, kind)(judge / name)
    sets = eval_world.PARAMS.sets.model_dump() | {"beside": ("fd_dinov2", "cmmd")}
    changed = {"sets": sets, "preferences": ("pickscore", "hps"), "words": {}}
    params = row.Params.model_validate(eval_world.PARAMS.model_dump() | changed)
    world = tmp_path / "world"
    eval_world.write(world)
    eval_world.draw(world / "drawn", {}, 90)
    inputs = eval_world.row_inputs(world, "drawn")
    images = inputs.truth.images.assign(caption=["a", "b", "", "d"])
    inputs = inputs._replace(truth=dataclasses.replace(inputs.truth, images=images))
    eyes = features.load_judges(judge, str(judge), params)
    scored = score_row.score("box", inputs, eyes, params)
    assert {"fd_dinov2", "cmmd", "fid", "kid"} == scored.resampled.keys() <= scored.metrics.keys()
    assert scored.metrics["hps"].n == scored.metrics["pickscore"].n == 3
    assert set(scored.of_pictures["metric"]) >= {"hps", "pickscore", "clip_global", "mig_pictures"}
    own, real = (
        np.asarray(eyes.beside["cmmd"].image_features([each.load(place) for place in range(4)]), np.float64)
        for each in (inputs.pictures, inputs.real)
        if each is not None
    )
    few = bootstrap.draws(4, params.num_resamples, params.seed)[: params.sets.num_resamples]
    assert scored.metrics["cmmd"] == pytest.approx(cmmd.metric(own, real, few).metric)
    score_row.write(tmp_path / "scores", scored, {"row": "box"})
    assert paired.read_resampled(tmp_path / "scores").keys() == scored.resampled.keys()
    (judge / "hps").rename(judge / "gone")
    with pytest.raises(ValueError, match="hps: no such folder"):
        features.load_judges(judge, str(judge), params)
    assert Judges._field_defaults.keys() == {"beside", "preferences"}
