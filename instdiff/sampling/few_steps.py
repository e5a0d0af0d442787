"""Few steps: the sampler of latent consistency models (Luo et al. 2023), for networks with a LoRA distilled so.

Each step guesses the picture and puts fresh noise on it. The noise is given from outside, by picture and step, so that
a picture still does not depend on its neighbours, and is on the device before the loop.

Shapes: P pictures, R rows of a batch (pictures, then instances drawn alone), S steps, C x H x W latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instdiff.model.noise_schedule import Prediction
from instdiff.sampling.protocol import Denoise, Solver, on_host

StepNoise = Callable[[int], Tensor]  # number of a step -> noise (P, C, H, W) of each picture
ORIGINAL_STEPS = 50  # that consistency models are distilled from
SHARPNESS = 10.0  # of the boundary at timestep 0; with DATA_SPREAD as the released models
DATA_SPREAD = 0.5


@dataclass(frozen=True)
class Lcm:
    """The sampler; nothing is remembered from step to step."""

    timesteps: tuple[int, ...]  # falling
    alphas: tuple[float, ...]  # of each timestep: the share of signal in the variance
    prediction: Prediction
    noise_SRCHW: Tensor | None = None  # added in each step but the last

    @classmethod
    def of(cls, num_steps: int, alphas: Tensor, prediction: Prediction) -> Lcm:
        """Timesteps as LCMScheduler has them: of 50 even ones as many as asked for, the noisiest among them."""
        if num_steps > ORIGINAL_STEPS:
            raise ValueError(f"{num_steps} steps: lcm is for few, at most {ORIGINAL_STEPS}")
        falling = [(number + 1) * (len(alphas) // ORIGINAL_STEPS) - 1 for number in reversed(range(ORIGINAL_STEPS))]
        places = np.floor(np.linspace(0, ORIGINAL_STEPS, num=num_steps, endpoint=False)).astype(int)
        timesteps = [falling[place] for place in places]
        return cls(tuple(timesteps), tuple(float(alphas[timestep]) for timestep in timesteps), prediction)

    @property
    def num_steps(self) -> int:
        """Steps it takes."""
        return len(self.timesteps)

    def start(self, noise_RCHW: Tensor, clean_RCHW: Tensor | None = None, first: int = 0) -> tuple[Tensor, None]:
        """The latents, and nothing to remember."""
        return (noise_RCHW if clean_RCHW is None else self._noised(clean_RCHW, noise_RCHW, first)), None

    def step(self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: None) -> tuple[Tensor, None]:
        """The picture as it is guessed, under the fresh noise of this step as far as the next one expects it."""
        output = denoise(x_RCHW, torch.full((), self.timesteps[index], device=x_RCHW.device), gate)
        signal = on_host(self.alphas[index], x_RCHW)
        if self.prediction == "epsilon":
            clean_RCHW = (x_RCHW - (1 - signal).sqrt() * output) / signal.sqrt()
        else:
            clean_RCHW = signal.sqrt() * x_RCHW - (1 - signal).sqrt() * output
        scaled = self.timesteps[index] * SHARPNESS
        of_x = DATA_SPREAD**2 / (scaled**2 + DATA_SPREAD**2)
        of_clean = scaled / (scaled**2 + DATA_SPREAD**2) ** 0.5
        guess_RCHW = of_clean * clean_RCHW + of_x * x_RCHW
        if index == self.num_steps - 1:
            return guess_RCHW, None
        if self.noise_SRCHW is None:
            raise ValueError("lcm draws fresh noise in each step: give step_noise")
        return self._noised(guess_RCHW, self.noise_SRCHW[index, : len(x_RCHW)], index + 1), None

    def rows(self, state: None, index: slice) -> None:
        """There is nothing to remember."""

    def _noised(self, clean_RCHW: Tensor, noise_RCHW: Tensor, index: int) -> Tensor:
        signal = on_host(self.alphas[index], noise_RCHW)
        return signal.sqrt() * clean_RCHW + (1 - signal).sqrt() * noise_RCHW


def with_noise(steps: Solver[Any], noise: StepNoise | None, picture_R: Tensor) -> Solver[Any]:
    """The solver with the noise of all its steps on the device; one that draws none as it is.

    ValueError where noise is missing, or given to a solver that adds none.
    """
    if not isinstance(steps, Lcm):
        if noise is not None:
            raise ValueError("step_noise is for solvers that add noise in each step: lcm")
        return steps
    if noise is None:
        raise ValueError("lcm adds noise in each step: give step_noise, by picture and step")
    noises = [noise(index).to(picture_R.device, torch.float32)[picture_R] for index in range(steps.num_steps - 1)]
    return replace(steps, noise_SRCHW=torch.stack(noises)) if noises else steps
