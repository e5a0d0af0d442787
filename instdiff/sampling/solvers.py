"""Solvers: ways to walk from noise to a picture, one step at a time.

Shapes: R rows of a batch, C x H x W latents.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, PNDMScheduler, UniPCMultistepScheduler
from torch import Tensor

from instdiff.model.noise_schedule import BETA_END, BETA_START, NUM_TIMESTEPS, PREDICTIONS, Prediction, alphas_cumprod

Denoise = Callable[[Tensor, Tensor, float], Tensor]  # latents, timestep, gate -> predicted noise
State = TypeVar("State")

SCHEDULERS = {
    "plms": PNDMScheduler,
    "dpm": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": LCMScheduler,
}
_DETERMINISTIC = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDIM",
        "DEISMultistep",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "EulerDiscrete",
        "HeunDiscrete",
        "LMSDiscrete",
        "PNDM",
        "UniPCMultistep",
    )
)


class Solver(Protocol[State]):
    """One way to walk from noise to a picture; its state is what a step remembers for the next."""

    @property
    def num_steps(self) -> int:
        """Steps it takes, which may be more than were wanted."""

    def start(self, noise_RCHW: Tensor, clean_RCHW: Tensor | None = None, first: int = 0) -> tuple[Tensor, State]:
        """Latents and state before step `first`: noise, or clean latents under as much noise as is left there."""

    def step(self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: State) -> tuple[Tensor, State]:
        """Latents and state after step number `index`."""

    def rows(self, state: State, index: slice) -> State:
        """The state of these rows."""


def scheduler(name: str, prediction: Prediction = "epsilon") -> Any:
    """A scheduler of diffusers on Stable Diffusion's noise schedule: `plms`, `dpm` (DPM-Solver++), `unipc` or `lcm`.

    `prediction` is what the network gives: noise ("epsilon") or velocity ("v_prediction").
    """
    if name not in SCHEDULERS:
        raise ValueError(f"there is no solver {name!r}; there are {', '.join(SCHEDULERS)}")
    schedule = {"beta_start": BETA_START, "beta_end": BETA_END, "beta_schedule": "scaled_linear"}
    return SCHEDULERS[name](num_train_timesteps=NUM_TIMESTEPS, prediction_type=prediction, **schedule)


def solver(scheduler: Any, num_steps: int) -> Solver[Any]:
    """The solver of a scheduler of diffusers: the released PLMS for a PNDMScheduler, the scheduler itself for others.

    ValueError for those that draw noise on the way: a picture would then depend on its neighbours in the batch. The
    one of few steps is given its noise from outside.
    """
    if num_steps < 1 or num_steps > scheduler.config.num_train_timesteps:
        raise ValueError(f"{num_steps} steps: there must be 1 to {scheduler.config.num_train_timesteps}")
    name = type(scheduler).__name__
    known = _DETERMINISTIC | {"LCMScheduler"}
    if name not in known or str(scheduler.config.get("algorithm_type", "")).startswith("sde"):
        raise ValueError(f"{name} draws noise on the way or is not known; these work: {', '.join(sorted(known))}")
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type is {prediction!r}, only {' and '.join(PREDICTIONS)} are supported")
    if name == "PNDMScheduler":
        return Plms.of(num_steps, scheduler.alphas_cumprod, prediction)
    if name == "LCMScheduler":
        from instdiff.sampling.few_steps import Lcm

        return Lcm.of(num_steps, scheduler.alphas_cumprod, prediction)
    return Scheduled.of(scheduler, num_steps)


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


def on_host(number: float, like: Tensor) -> Tensor:
    """The number in the precision of `like`, where the CPU reckons with it: a kernel takes it as an argument.

    A number that is copied to a GPU makes the CPU wait for all that the GPU was asked for before.
    """
    return torch.tensor(number, dtype=like.dtype, device="cpu")


def adams_bashforth(noises: Sequence[Tensor]) -> Tensor:
    """The noise to follow, from the last ones, up to four, the newest first."""
    weights = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
    terms = [weight * noise for weight, noise in zip(weights[len(noises) - 1], noises, strict=True)]
    return torch.stack(terms).sum(0)


@dataclass(frozen=True)
class Scheduled:
    """Any deterministic noise-predicting scheduler of diffusers (DPM-Solver++, UniPC, DDIM, ...); it is not changed."""

    scheduler: Any  # with its timesteps set
    timesteps: tuple[float, ...]

    @classmethod
    def of(cls, scheduler: Any, num_steps: int) -> Scheduled:
        """A copy of the scheduler, set to this number of steps."""
        scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(num_steps)
        return cls(scheduler, tuple(scheduler.timesteps.tolist()))

    @property
    def num_steps(self) -> int:
        """Steps it takes."""
        return len(self.timesteps)

    def start(self, noise_RCHW: Tensor, clean_RCHW: Tensor | None = None, first: int = 0) -> tuple[Tensor, Any]:
        """The latents at the scheduler's scale, and a scheduler that will remember."""
        state = copy.deepcopy(self.scheduler)
        if hasattr(state, "set_begin_index"):
            state.set_begin_index(first)  # or it would look for the timestep among its own, and read back where
        if clean_RCHW is None:
            return noise_RCHW * state.init_noise_sigma, state
        return state.add_noise(clean_RCHW, noise_RCHW, state.timesteps[first].expand(len(noise_RCHW))), state

    def step(self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: Any) -> tuple[Tensor, Any]:
        """One step of the scheduler, which reckons with its timesteps on the CPU."""
        timestep = state.timesteps[index]
        of_network = torch.full((), self.timesteps[index], dtype=timestep.dtype, device=x_RCHW.device)
        noise = denoise(state.scale_model_input(x_RCHW, timestep), of_network, gate)
        return state.step(noise, timestep, x_RCHW, return_dict=False)[0], state

    def rows(self, state: Any, index: slice) -> Any:
        """A scheduler that remembers these rows only: latents and noises are its only tensors of four axes."""

        def cut(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[index] if value.ndim == 4 else value
            return [cut(item) for item in value] if isinstance(value, list) else value

        copied = copy.copy(state)
        copied.__dict__.update({name: cut(value) for name, value in vars(state).items()})
        return copied
