"""Forward passes agree with vectors of the released code (fp32, weights drawn from their names)."""

import itertools
import json
import zlib

import golden_cases as golden
import numpy as np
import pytest
import torch

from instdiff.data.format_dropout import keep_from_draws, withhold
from instdiff.model import attention_mask
from instdiff.model.conditions import keep, null
from instdiff.model.grounding import Grounding
from instdiff.model.noise_schedule import noised
from instdiff.model.scaleu import scale_low_frequencies
from instdiff.model.unifusion import fourier

CLOSE = 2e-5


@torch.no_grad()
@pytest.mark.parametrize("case", [key for key in golden.tensors("unifusion") if key.startswith("out/drop")])
def test_unifusion_makes_the_released_tokens(case: str) -> None:
    flags = dict(
        zip(("box", "point", "scribble", "mask"), (part[-1] == "1" for part in case[9:].split("_")), strict=True)
    )
    formats = [name for name, gone in {**flags, "outline": flags["mask"]}.items() if not gone] or ["box"]
    tokens = golden.unet().unifusion(keep(golden.conditions(golden.inputs("unifusion")), formats))
    assert golden.difference(tokens, golden.tensors("unifusion")[case]) < CLOSE


@torch.no_grad()
def test_unifusion_takes_centres_of_boxes_for_points() -> None:
    expected = golden.tensors("unifusion")
    centres = keep(golden.without_points(golden.inputs("unifusion")), golden.KEPT["mask"])
    assert golden.difference(golden.unet().unifusion(centres), expected["out/mask_cfg_points_none"]) < CLOSE


@torch.no_grad()
def test_a_condition_of_nothing_has_the_released_null_tokens() -> None:
    tokens = golden.unet().unifusion(null(golden.conditions(golden.inputs("unifusion"))).rows([0]))
    for case in (key for key in golden.tensors("unifusion") if key.startswith("null/")):
        assert golden.difference(tokens, golden.tensors("unifusion")[case]) < CLOSE


@torch.no_grad()
def test_mask_tokens_gather_the_map_as_the_released_code_does() -> None:
    expected = golden.tensors("unifusion")
    masks = golden.conditions(golden.inputs("unifusion")).mask_BNHW
    features = golden.unet().unifusion.mask_features(masks)
    assert golden.difference(features, expected["internal/seg_tokens_before_null"]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("case", [key for key in golden.tensors("unet_forward") if key.startswith("eps/")])
def test_the_unet_predicts_the_released_noise(case: str) -> None:
    _, config, alpha = case.split("/")
    inputs = golden.inputs("unet_forward")
    gate = float(alpha.removeprefix("alpha").removesuffix("_efficient"))
    grounding = golden.unet().ground(golden.kept(config, inputs), gate=gate)
    noise = golden.unet()(inputs["x"], inputs["timesteps"], inputs["context"], grounding).sample
    assert golden.difference(noise, golden.tensors("unet_forward")[case]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("case", [key for key in golden.tensors("unet_forward") if key.startswith("eps_uncond/")])
def test_the_unet_predicts_the_released_noise_of_nothing(case: str) -> None:
    inputs = golden.inputs("unet_forward")
    gate = float(case.rpartition("alpha")[2])
    grounding = golden.unet().ground(null(golden.conditions(inputs)), gate=gate)
    noise = golden.unet()(inputs["x"], inputs["timesteps"], inputs["uc"], grounding).sample
    assert golden.difference(noise, golden.tensors("unet_forward")[case]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("config", ["box", "mask", "point"])
def test_masked_attention_predicts_the_released_noise(config: str) -> None:
    inputs = golden.inputs("unet_masked_attention_64")
    conditions = golden.kept(config, inputs)
    grounding = golden.unet().ground(conditions, masked=(64, 64), compat="reference")
    noise = golden.unet()(inputs["x"], inputs["timesteps"], inputs["context"], grounding).sample
    expected = golden.tensors("unet_masked_attention_64")[f"eps/{config}/masked"]
    assert golden.difference(noise, expected) < CLOSE


def test_the_reference_mask_is_the_released_one_bit_for_bit() -> None:
    inputs = golden.inputs("unet_masked_attention_64")
    built = attention_mask.build(golden.kept("box", inputs), [(64, 64), (32, 32)], 64, compat="reference")
    assert list(built) == [64 * 64]
    rows = np.packbits(built[64 * 64][0].numpy())
    packed = zlib.decompress((golden.FOLDER / "attention_mask_4280x4280.packbits.zlib").read_bytes())
    assert np.array_equal(rows, np.frombuffer(packed, np.uint8)[: len(rows)])  # the rows that visual tokens ask with


def test_drops_follow_the_released_truth_table() -> None:
    everything = null(golden.conditions(golden.inputs("train_step"))).rows([0]).map(torch.ones_like)
    for row in json.loads((golden.FOLDER / "drop_truth_table.json").read_text()):
        draws = row["drawn"]
        dropped = [draws["box"], draws["point"], draws["scribble"], draws["polygon_and_seg"]]
        fires = [*dropped, row["keep_point_only"], False, False, row["keep_seg_only_draw"], False, False]
        keep = keep_from_draws(torch.tensor([[0.05 if fired else 0.5 for fired in fires]]), golden.REFERENCE_ODDS)
        conditions = withhold(everything, keep)
        gone = [row["final"][name] for name in ("box", "point", "scribble", "polygon", "seg")]
        if all(gone):  # what comes after the table: something always stays
            gone[0] = False
        assert [not bool(conditions.given(entry.name).all()) for entry in conditions.formats] == gone, row


@torch.no_grad()
@pytest.mark.parametrize("case", ["no_drop", "drop_scribble", "drop_box_and_mask", "point_only", "seg_only"])
def test_a_training_forward_with_fixed_draws_predicts_the_released_noise(case: str) -> None:
    inputs = golden.inputs("train_step")
    facts = json.loads((golden.FOLDER / "train_step.json").read_text())[case]
    uniforms = torch.tensor([[*facts["rand_sequence"], 0.5]]).expand(2, -1)
    conditions = withhold(golden.conditions(inputs), keep_from_draws(uniforms, golden.REFERENCE_ODDS))
    grounding = golden.unet().ground(conditions)
    x = noised(inputs["x0"], inputs["noise"], inputs["t"])
    noise = golden.unet()(x, inputs["t"], inputs["context"], grounding).sample
    assert golden.difference(noise, golden.tensors("train_step")[f"eps/{case}"]) < CLOSE
    assert float((noise - inputs["noise"]).square().mean()) == pytest.approx(facts["loss"], abs=1e-5)


def test_fourier_features_stand_in_the_released_order() -> None:
    expected = golden.tensors("primitives")
    for name in ("scalar", "boxes", "points", "scribbles"):
        assert golden.difference(fourier(expected[f"fourier/in_{name}"]), expected[f"fourier/out_{name}"]) < 1e-6


def test_scaleu_scales_the_released_frequencies() -> None:
    expected = golden.tensors("primitives")
    for size in ("even", "nonpow2", "odd", "two"):
        skip, scale = expected[f"fourier_filter/{size}/in"], expected[f"fourier_filter/{size}/scale"]
        assert golden.difference(scale_low_frequencies(skip, scale), expected[f"fourier_filter/{size}/out"]) < 1e-5


def test_gradients_of_a_training_step_are_the_released_ones() -> None:
    inputs = golden.inputs("train_step")
    unet = golden.unet()
    grounding = unet.ground(golden.conditions(inputs))
    x = noised(inputs["x0"], inputs["noise"], inputs["t"])
    loss = (unet(x, inputs["t"], inputs["context"], grounding).sample - inputs["noise"]).square().mean()
    expected = {k.removeprefix("grad/no_drop/"): v for k, v in golden.tensors("train_step").items() if "grad/" in k}
    names = golden.ours(expected)
    gradients = torch.autograd.grad(loss, [unet.get_parameter(names[name]) for name in expected])
    for (name, gradient), own in zip(expected.items(), gradients, strict=True):
        assert golden.difference(own, gradient) < 1e-5, name


def test_a_grounding_without_masks_is_not_masked() -> None:
    inputs = golden.inputs("unet_forward")
    tokens = golden.unet().unifusion(golden.kept("box", inputs))
    everywhere = {256: torch.ones(2, 256, 256 + tokens.shape[1], dtype=torch.bool)}
    with torch.no_grad():
        plain, masked = (
            golden.unet()(inputs["x"], inputs["timesteps"], inputs["context"], Grounding(tokens, allowed)).sample
            for allowed in ({}, everywhere)
        )
    assert golden.difference(plain, masked) < CLOSE


def test_every_combination_of_drops_is_in_the_vectors() -> None:
    cases = {key for key in golden.tensors("unifusion") if key.startswith("out/drop")}
    assert len(cases) == len(list(itertools.product((0, 1), repeat=4)))
