"""PLMS, the solver of the released code.

Shapes: R rows of a batch, C x H x W latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instdiff.model.noise_schedule import Prediction, alphas_cumprod
from instdiff.sampling.protocol import Denoise, on_host


@dataclass(frozen=True)
class Plms:
    """Pseudo linear multistep (Liu et al., 2022) as the released sampler has it; the state holds up to three noises.

    The first step costs a second evaluation. A number of steps that does not divide 1000 gives a few more.
    """

    timesteps: tuple[int, ...]  # falling
    alphas: tuple[float, ...]  # of each timestep: the share of signal in the variance
    previous: tuple[float, ...]  # after each step
    prediction: Prediction = "epsilon"  # what the network gives

    @classmethod
    def of(cls, num_steps: int, alphas: Tensor | None = None, prediction: Prediction = "epsilon") -> Plms:
        """Timesteps 1, 1 + c, 1 + 2c, ... with c = 1000 // num_steps, from the last to the first."""
        signal = alphas_cumprod() if alphas is None else alphas
        if not 1 <= num_steps <= len(signal):
            raise ValueError(f"{num_steps} steps: there must be 1 to {len(signal)}")
        rising = [start + 1 for start in range(0, len(signal), len(signal) // num_steps)]
        rising = [min(timestep, len(signal) - 1) for timestep in rising]
        previous = [float(signal[0]), *(float(signal[timestep]) for timestep in rising[:-1])]
        here = [float(signal[timestep]) for timestep in rising]
        return cls(tuple(reversed(rising)), tuple(reversed(here)), tuple(reversed(previous)), prediction)

    @property
    def num_steps(self) -> int:
        """Steps it takes."""
        return len(self.timesteps)

    def start(
        self, noise_RCHW: Tensor, clean_RCHW: Tensor | None = None, first: int = 0
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The latents, and nothing to remember."""
        if clean_RCHW is None:
            return noise_RCHW, ()
        signal = on_host(self.alphas[first], noise_RCHW)
        return signal.sqrt() * clean_RCHW + (1 - signal).sqrt() * noise_RCHW, ()

    def step(
        self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step along a mixture of this noise and the last ones."""
        noise = self._noise(denoise, x_RCHW, index, gate)
        if state:
            mixed = adams_bashforth((noise, *state))
        else:
            tried = self.move(x_RCHW, noise, index)
            after = min(index + 1, self.num_steps - 1)
            mixed = (noise + self._noise(denoise, tried, after, gate)) / 2
        return self.move(x_RCHW, mixed, index), (noise, *state)[:3]

    def rows(self, state: tuple[Tensor, ...], index: slice) -> tuple[Tensor, ...]:
        """The noises of these rows."""
        return tuple(noise[index] for noise in state)

    def move(self, x: Tensor, noise: Tensor, index: int) -> Tensor:
        """Where step `index` leads if `noise` is in x (DDIM without randomness)."""
        signal, after = on_host(self.alphas[index], x), on_host(self.previous[index], x)
        clean = (x - (1 - signal).sqrt() * noise) / signal.sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * noise

    def _noise(self, denoise: Denoise, x: Tensor, index: int, gate: float) -> Tensor:
        """The noise in x; velocity is sqrt(a) * noise - sqrt(1 - a) * clean (Salimans and Ho 2022, appendix D)."""
        output = denoise(x, torch.full((), self.timesteps[index], device=x.device), gate)
        if self.prediction == "epsilon":
            return output
        signal = on_host(self.alphas[index], x)
        return signal.sqrt() * output + (1 - signal).sqrt() * x


def adams_bashforth(noises: Sequence[Tensor]) -> Tensor:
    """The noise to follow, from the last ones, up to four, the newest first."""
    weights = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
    terms = [weight * noise for weight, noise in zip(weights[len(noises) - 1], noises, strict=True)]
    return torch.stack(terms).sum(0)
