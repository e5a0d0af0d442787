"""Every step of the samplers, not only their last one, agrees with the trajectories of the released code."""

import json
from dataclasses import dataclass, field
from typing import Any

import golden_cases as golden
import pytest
import torch
from golden_samplers import CASES, CLOSE, denoiser
from torch import Tensor

from instdiff.sampling.guidance import gates
from instdiff.sampling.multi_instance import sample_multi_instance
from instdiff.sampling.plms import Plms
from instdiff.sampling.protocol import Denoise

APART = [name for name, case in CASES.items() if "mis" in case]


@dataclass
class Recorded:
    """A solver that writes down the latents after each step."""

    solver: Plms
    latents: list[Tensor] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        return self.solver.num_steps

    def start(self, noise: Tensor, clean: Tensor | None = None, first: int = 0) -> Any:
        return self.solver.start(noise, clean, first)

    def step(self, denoise: Denoise, x: Tensor, index: int, gate: float, state: Any) -> Any:
        after = self.solver.step(denoise, x, index, gate, state)
        self.latents.append(after[0])
        return after

    def rows(self, state: Any, index: slice) -> Any:
        return self.solver.rows(state, index)


@torch.no_grad()
@pytest.mark.parametrize("name", ["plms8", "plms20"])
def test_noise_and_latents_of_every_step_are_the_released_ones(name: str) -> None:
    case, expected = CASES[name], golden.inputs("samplers", f"{name}/")
    solver, denoise = Plms.of(case["steps"]), denoiser(case)
    x, state = solver.start(golden.inputs("samplers")["xT"])
    for index, gate in enumerate(case["alphas"]):
        x, state = solver.step(denoise, x, index, gate, state)
        assert golden.difference(state[0], expected["eps_steps"][index]) < CLOSE
        assert golden.difference(x, expected["x_steps"][index]) < CLOSE


@torch.no_grad()
@pytest.mark.parametrize("name", APART)
def test_every_step_apart_and_after_the_merge_is_the_released_one(name: str) -> None:
    """The released code draws the picture and then each instance to the last separate step, then goes on merged."""
    case, expected = CASES[name], golden.tensors("samplers")[f"{name}/x_all_calls"]
    on, fading, _ = case["alpha_type"]
    solver, denoise = Recorded(Plms.of(case["steps"])), denoiser(case)
    sample_multi_instance(
        denoise,
        denoise,
        golden.inputs("samplers")["xT"],
        solver,
        gates(solver.num_steps, on, fading),
        picture_R=torch.tensor([0, 1] * 4),
        share=case["mis"],
    )
    split = case["mis_step"]
    apart = [step[2 * row : 2 * row + 2] for row in range(4) for step in solver.latents[:split]]
    latents = torch.stack([*apart, *solver.latents[split:]])
    assert golden.difference(latents, expected) < CLOSE


def test_every_case_with_instances_apart_is_compared() -> None:
    recorded = json.loads((golden.FOLDER / "samplers.json").read_text())["cases"]
    assert {key.partition("/")[0] for key in golden.tensors("samplers") if "x_all_calls" in key} == set(APART)
    assert set(APART) <= set(recorded)
