"""Noise levels and the loss at them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instdiff.model import noise_schedule
from instdiff.model.noise_schedule import NUM_TIMESTEPS, alphas_cumprod, eps_loss, stratified_timesteps
from instdiff.randomness import torch_generator


@given(st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30)
def test_a_batchs_timesteps_lie_one_in_each_share_of_the_schedule(count: int, seed: int) -> None:
    timesteps = stratified_timesteps(count, torch_generator(seed, "law"))
    for place, timestep in enumerate(timesteps.tolist()):
        assert place * NUM_TIMESTEPS // count <= timestep <= (place + 1) * NUM_TIMESTEPS / count


@pytest.mark.parametrize("draw", ["stratified_timesteps", "uniform_timesteps"])
@pytest.mark.parametrize(("uniform", "last"), [(0.9999, 999), (1.0, 999), (0.0, None)])
def test_the_first_and_the_last_timestep_are_drawn_and_none_beyond(
    draw: str, uniform: float, last: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.full((count,), uniform))
    timesteps = getattr(noise_schedule, draw)(1, torch_generator(0, "law"))
    assert timesteps.tolist() == [0 if last is None else last]


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6), st.floats(0.01, 20))
@settings(max_examples=30)
def test_each_sample_weighs_the_least_of_its_ratio_and_the_bound_by_its_ratio(steps: list[int], bound: float) -> None:
    timesteps = torch.tensor(steps)
    shape = (len(steps), 2, 3, 5)
    predicted, noise = (torch.randn(shape, generator=torch_generator(seed, "law")) for seed in (1, 2))
    signal = alphas_cumprod()[timesteps].double()
    ratio = signal / (1 - signal)
    error = (predicted - noise).double().square().mean((1, 2, 3))
    expected = (error * torch.minimum(ratio, torch.tensor(bound)) / ratio).mean()
    assert float(eps_loss(predicted, noise, timesteps, bound)) == pytest.approx(float(expected), rel=1e-4)
    assert float(eps_loss(predicted, noise, timesteps, None)) == pytest.approx(float(error.mean()), rel=1e-5)
