"""The multistep formula, the step it is used for, and latents to start from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instdiff.randomness import torch_generator
from instdiff.sampling.plms import Plms, adams_bashforth
from instdiff.sampling.solvers import scheduler, solver

SHAPE = (2, 4, 3, 5)  # not a square


def normal(*names: str) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch_generator(0, *names), dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_mixture_is_exact_for_a_noise_that_changes_as_a_polynomial(count: int) -> None:
    """Adams and Bashforth: of `count` values the integral over the next step, to degree count - 1."""
    for degree in range(count):
        values = [torch.tensor(float((-step) ** degree), dtype=torch.float64) for step in range(count)]
        assert float(adams_bashforth(values)) == pytest.approx(1 / (degree + 1))


@given(st.integers(1, 30), st.data())
@settings(max_examples=20)
def test_a_step_along_the_true_noise_lands_on_the_next_level(num_steps: int, data: st.DataObject) -> None:
    plms = Plms.of(num_steps)
    index = data.draw(st.integers(0, plms.num_steps - 1))
    clean, noise = normal("clean"), normal("noise")
    here, after = plms.alphas[index], plms.previous[index]
    x = math.sqrt(here) * clean + math.sqrt(1 - here) * noise
    expected = math.sqrt(after) * clean + math.sqrt(1 - after) * noise
    assert torch.allclose(plms.move(x, noise, index), expected, atol=1e-9)


@pytest.mark.parametrize("first", [0, 3, 7])
def test_over_a_picture_the_walk_begins_at_the_level_of_its_first_step(first: int) -> None:
    plms, clean, noise = Plms.of(8), normal("clean"), normal("noise")
    x, state = plms.start(noise, clean, first)
    signal = plms.alphas[first]
    assert torch.allclose(x, math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise, atol=1e-12)
    assert state == ()
    bare, _ = plms.start(noise)
    assert torch.equal(bare, noise)


def test_a_state_holds_three_noises_and_each_row_its_own() -> None:
    plms, x = Plms.of(8), normal("x")
    noises: list[torch.Tensor] = []

    def denoise(latents: torch.Tensor, timestep: torch.Tensor, gate: float) -> torch.Tensor:
        noises.append(normal("noise", str(len(noises))))
        return noises[-1]

    state: tuple[torch.Tensor, ...] = ()
    for index in range(5):
        x, state = plms.step(denoise, x, index, 1.0, state)
        assert len(state) == min(3, index + 1)
        assert torch.equal(state[0], noises[-1] if index else noises[0])
    assert len(noises) == 6  # the first step costs a second evaluation
    assert all(torch.equal(row, whole[1:2]) for row, whole in zip(plms.rows(state, slice(1, 2)), state, strict=True))


@pytest.mark.parametrize("name", ["plms", "dpm", "unipc"])
@pytest.mark.parametrize(("steps", "fits"), [(0, False), (1, True), (999, True), (1000, True), (1001, False)])
def test_there_are_one_to_a_thousand_steps(name: str, steps: int, fits: bool) -> None:
    if fits:
        assert solver(scheduler(name), steps).num_steps >= steps
    else:
        with pytest.raises(ValueError, match=f"{steps} steps: there must be 1 to 1000"):
            solver(scheduler(name), steps)


def test_a_solver_that_is_none_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="there is no solver 'ddim'; there are plms, dpm, unipc"):
        scheduler("ddim")


def test_velocity_is_read_as_the_noise_it_stands_for() -> None:
    plms, clean, noise = Plms.of(8, prediction="v_prediction"), normal("clean"), normal("noise")
    signal = plms.alphas[2]
    x = math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise
    velocity = math.sqrt(signal) * noise - math.sqrt(1 - signal) * clean
    assert torch.allclose(plms._noise(lambda *_: velocity, x, 2, 1.0), noise, atol=1e-9)
