"""Which parameters learn, and how strongly each is pulled, is as in the released training step."""

import functools
import gzip
import json

import golden_cases as golden
import pytest
import torch
from torch import Tensor

from instdiff.data.format_dropout import keep_from_draws, withhold
from instdiff.model.noise_schedule import noised

FACTS = json.loads(gzip.decompress((golden.FOLDER / "gradient_norms.json.gz").read_bytes()))
STEPS = json.loads((golden.FOLDER / "train_step.json").read_text())
CLOSE = 2e-5  # absolute: norms of single parameters lie between 0 and 0.1


@functools.cache
def names() -> dict[str, str]:
    """Ours of the released names of all that is trained."""
    return golden.ours(FACTS["trainable_names"])


def test_the_released_parameters_learn_and_no_others() -> None:
    assert set(names().values()) == set(golden.unet().instance_layers())


@pytest.mark.parametrize("case", FACTS["grad_norms"])
def test_each_parameter_is_pulled_as_strongly_as_in_the_released_step(case: str) -> None:
    inputs, unet = golden.inputs("train_step"), golden.unet()
    uniforms = torch.tensor([[*STEPS[case]["rand_sequence"], 0.5]]).expand(2, -1)
    conditions = withhold(golden.conditions(inputs), keep_from_draws(uniforms, golden.REFERENCE_ODDS))
    x = noised(inputs["x0"], inputs["noise"], inputs["t"])
    noise = unet(x, inputs["t"], inputs["context"], unet.ground(conditions)).sample
    loss = (noise - inputs["noise"]).square().mean()
    weights = [unet.get_parameter(names()[name]) for name in FACTS["trainable_names"]]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    for name, expected, gradient in zip(FACTS["trainable_names"], FACTS["grad_norms"][case], gradients, strict=True):
        assert norm(gradient) == pytest.approx(expected, rel=2e-3, abs=CLOSE), name


def norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.norm())
