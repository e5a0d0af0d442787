"""The solvers there are, by name, and any deterministic scheduler of diffusers as one.

Shapes: R rows of a batch, C x H x W latents.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, PNDMScheduler, UniPCMultistepScheduler
from torch import Tensor

from instdiff.model.noise_schedule import BETA_END, BETA_START, NUM_TIMESTEPS, PREDICTIONS, Prediction
from instdiff.sampling.few_steps import Lcm
from instdiff.sampling.plms import Plms
from instdiff.sampling.protocol import Denoise, Solver

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
    names = _DETERMINISTIC | {"LCMScheduler"}
    if name not in names or str(scheduler.config.get("algorithm_type", "")).startswith("sde"):
        raise ValueError(f"{name} draws noise on the way or is not known; these work: {', '.join(sorted(names))}")
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type is {prediction!r}, only {' and '.join(PREDICTIONS)} are supported")
    if name == "PNDMScheduler":
        return Plms.of(num_steps, scheduler.alphas_cumprod, prediction)
    if name == "LCMScheduler":
        return Lcm.of(num_steps, scheduler.alphas_cumprod, prediction)
    return Scheduled.of(scheduler, num_steps)


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
