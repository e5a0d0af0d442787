"""Sampling as pure functions: a denoiser, a solver that takes one step, and the multi-instance sampler around them.

Shapes: B pictures, R rows of a batch (pictures, then instances drawn alone), C x H x W latents, L text positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from instdiff.conditions import Compat, Conditions, cat, select
from instdiff.diffusion import alphas_cumprod
from instdiff.fuser import Grounding
from instdiff.fuser import cat as cat_groundings
from instdiff.unet import InstanceUNet

Denoise = Callable[[Tensor, Tensor, float], Tensor]  # latents, timestep, gate -> predicted noise
State = TypeVar("State")


class Solver(Protocol[State]):
    """One way to walk from noise to a picture; its state is what a step remembers for the next."""

    @property
    def num_steps(self) -> int:
        """Steps it takes, which need not be what was asked for."""

    def start(self, noise_RCHW: Tensor) -> tuple[Tensor, State]:
        """Latents and state before the first step."""

    def step(self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: State) -> tuple[Tensor, State]:
        """Latents and state after step number `index`."""

    def rows(self, state: State, index: slice) -> State:
        """The state of these rows."""


def sample(denoise: Denoise, noise_RCHW: Tensor, solver: Solver[State], gates: Sequence[float]) -> Tensor:
    """Latents after all steps, with one gate a step."""
    x_RCHW, state = solver.start(noise_RCHW)
    return _walk(denoise, x_RCHW, state, solver, gates, steps=range(solver.num_steps))[0]


def sample_multi_instance(
    denoise_rows: Denoise,
    denoise_pictures: Denoise,
    noise_BCHW: Tensor,
    solver: Solver[State],
    gates: Sequence[float],
    *,
    picture_R: Tensor,
    share: float,
    compat: Compat | None = None,
) -> Tensor:
    """Draw pictures and instances apart for the first `share` of the steps, then go on from their mean (paper, 3.4).

    Row r belongs to picture `picture_R[r]`; the first B rows are the pictures themselves, in order, and their history
    goes on after the merge. At share 1 the mean is returned; the released code returned the last instance (compat).
    """
    num_pictures = len(noise_BCHW)
    split = int(solver.num_steps * share)
    if split == 0:
        return sample(denoise_pictures, noise_BCHW, solver, gates)
    x_RCHW, state = solver.start(noise_BCHW[picture_R])
    x_RCHW, state = _walk(denoise_rows, x_RCHW, state, solver, gates, steps=range(split))
    if split == solver.num_steps and compat == "reference":
        last = [int((picture_R == picture).nonzero()[-1]) for picture in range(num_pictures)]
        return x_RCHW[last]
    merged_BCHW = mean_by_picture(x_RCHW, picture_R, num_pictures)
    state = solver.rows(state, slice(num_pictures))
    return _walk(denoise_pictures, merged_BCHW, state, solver, gates, steps=range(split, solver.num_steps))[0]


def mean_by_picture(x_RCHW: Tensor, picture_R: Tensor, num_pictures: int) -> Tensor:
    """(B, C, H, W): the mean over the rows of each picture."""
    sums = x_RCHW.new_zeros(num_pictures, *x_RCHW.shape[1:]).index_add(0, picture_R, x_RCHW)
    counts = torch.bincount(picture_R, minlength=num_pictures).to(x_RCHW)
    return sums / counts[:, None, None, None]


def apart(conditions: Conditions) -> tuple[Conditions, Tensor]:
    """The conditions of all rows: the pictures, then every instance alone in slot 0; and (R,) whose row it is."""
    filled = conditions.filled_BN.nonzero().tolist()
    alone = [select(conditions.rows([picture]), slot) for picture, slot in filled]
    pictures = [*range(len(conditions)), *(picture for picture, _ in filled)]
    return cat([conditions, *alone]), torch.tensor(pictures, device=conditions.filled_BN.device)


def guided(
    unet: InstanceUNet,
    text_RLD: Tensor,
    grounding: Grounding | None,
    null_text_RLD: Tensor,
    null_grounding: Grounding | None,
    *,
    guidance: float,
    max_rows: int,
) -> Denoise:
    """Classifier-free guidance, conditional and null rows in one batch, at most `max_rows` of them in a forward pass.

    `null_text_RLD` may have one row for all; `null_grounding` has one row, from `null(conditions)`. Give both
    groundings or neither. At guidance 1 the null rows are not computed.
    """
    if (grounding is None) != (null_grounding is None):
        raise ValueError("give a grounding and a null grounding, or neither")
    num_rows = len(text_RLD)
    if guidance != 1:
        text_RLD = torch.cat([text_RLD, null_text_RLD.expand(num_rows, -1, -1)])
        if grounding is not None and null_grounding is not None:
            grounding = cat_groundings([grounding, null_grounding.rows([0] * num_rows)])

    def denoise(x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
        x_RCHW = x_RCHW if guidance == 1 else torch.cat([x_RCHW, x_RCHW])
        parts = []
        for start in range(0, len(x_RCHW), max_rows):
            rows = slice(start, start + max_rows)
            told = None if grounding is None or gate == 0 else grounding.rows(rows).at(gate)
            parts.append(unet(x_RCHW[rows], timestep, text_RLD[rows], told, return_dict=False)[0])
        noise_RCHW = torch.cat(parts)
        if guidance == 1:
            return noise_RCHW
        conditional, unconditional = noise_RCHW.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return denoise


def gates(num_steps: int, on: float, fading: float = 0.0) -> list[float]:
    """One gate a step: 1 for a share `on` of them, falling to 0 over a share `fading`, then 0.

    Steps are counted by rounding down.
    """
    if not (0 <= on <= 1 and 0 <= fading <= 1 and on + fading <= 1 + 1e-9):
        raise ValueError(f"shares of steps {on} and {fading} must lie in 0..1, and so must their sum")
    num_on, num_fading = int(on * num_steps), int(fading * num_steps)
    falling = [number * (1 / num_fading) for number in reversed(range(num_fading))]
    return [1.0] * num_on + falling + [0.0] * (num_steps - num_on - num_fading)


@dataclass(frozen=True)
class Plms:
    """Pseudo linear multistep (Liu et al., 2022) as the released sampler has it; the state holds up to three noises.

    The first step costs a second evaluation. A number of steps that does not divide 1000 gives a few more.
    """

    timesteps: tuple[int, ...]  # falling
    alphas: tuple[float, ...]  # of each timestep: the share of signal in the variance
    previous: tuple[float, ...]  # after each step

    @classmethod
    def of(cls, num_steps: int, alphas: Tensor | None = None) -> Plms:
        """Timesteps 1, 1 + c, 1 + 2c, ... with c = 1000 // num_steps, from the last to the first."""
        signal = alphas_cumprod() if alphas is None else alphas
        if not 1 <= num_steps <= len(signal):
            raise ValueError(f"{num_steps} steps: there must be 1 to {len(signal)}")
        rising = [start + 1 for start in range(0, len(signal), len(signal) // num_steps)]
        rising = [min(timestep, len(signal) - 1) for timestep in rising]
        previous = [float(signal[0]), *(float(signal[timestep]) for timestep in rising[:-1])]
        here = [float(signal[timestep]) for timestep in rising]
        return cls(tuple(reversed(rising)), tuple(reversed(here)), tuple(reversed(previous)))

    @property
    def num_steps(self) -> int:
        """Steps it takes."""
        return len(self.timesteps)

    def start(self, noise_RCHW: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The noise, and nothing to remember."""
        return noise_RCHW, ()

    def step(
        self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step along a mixture of this noise and the last ones."""
        noise = denoise(x_RCHW, self._timestep(index, x_RCHW), gate)
        if state:
            mixed = adams_bashforth((noise, *state))
        else:
            tried = self.move(x_RCHW, noise, index)
            after = min(index + 1, self.num_steps - 1)
            mixed = (noise + denoise(tried, self._timestep(after, x_RCHW), gate)) / 2
        return self.move(x_RCHW, mixed, index), (noise, *state)[:3]

    def rows(self, state: tuple[Tensor, ...], index: slice) -> tuple[Tensor, ...]:
        """The noises of these rows."""
        return tuple(noise[index] for noise in state)

    def move(self, x: Tensor, noise: Tensor, index: int) -> Tensor:
        """Where step `index` leads if `noise` is in x (DDIM without randomness)."""
        signal, after = x.new_tensor(self.alphas[index]), x.new_tensor(self.previous[index])
        clean = (x - (1 - signal).sqrt() * noise) / signal.sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * noise

    def _timestep(self, index: int, x: Tensor) -> Tensor:
        return torch.tensor(self.timesteps[index], device=x.device)


def adams_bashforth(noises: Sequence[Tensor]) -> Tensor:
    """The noise to follow, given up to four, the newest first."""
    weights = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
    terms = [weight * noise for weight, noise in zip(weights[len(noises) - 1], noises, strict=True)]
    return torch.stack(terms).sum(0)


@dataclass(frozen=True)
class Scheduled:
    """Any deterministic noise-predicting scheduler of diffusers (DPM-Solver++, UniPC, DDIM, ...); it is not changed."""

    scheduler: Any  # with its timesteps set

    @classmethod
    def of(cls, scheduler: Any, num_steps: int) -> Scheduled:
        """A copy of the scheduler, set to this number of steps."""
        scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(num_steps)
        return cls(scheduler)

    @property
    def num_steps(self) -> int:
        """Steps it takes."""
        return len(self.scheduler.timesteps)

    def start(self, noise_RCHW: Tensor) -> tuple[Tensor, Any]:
        """The noise at the scheduler's scale, and a scheduler that will remember."""
        return noise_RCHW * self.scheduler.init_noise_sigma, copy.deepcopy(self.scheduler)

    def step(self, denoise: Denoise, x_RCHW: Tensor, index: int, gate: float, state: Any) -> tuple[Tensor, Any]:
        """One step of the scheduler."""
        timestep = state.timesteps[index].to(x_RCHW.device)
        noise = denoise(state.scale_model_input(x_RCHW, timestep), timestep, gate)
        return state.step(noise, timestep, x_RCHW, return_dict=False)[0], state

    def rows(self, state: Any, index: slice) -> Any:
        """A scheduler that remembers these rows only: latents and noises are its only tensors of four axes."""

        def cut(held: Any) -> Any:
            if isinstance(held, Tensor):
                return held[index] if held.ndim == 4 else held
            return [cut(item) for item in held] if isinstance(held, list) else held

        kept = copy.copy(state)
        kept.__dict__.update({name: cut(held) for name, held in vars(state).items()})
        return kept


def _walk(
    denoise: Denoise, x_RCHW: Tensor, state: State, solver: Solver[State], gates: Sequence[float], *, steps: range
) -> tuple[Tensor, State]:
    if len(gates) != solver.num_steps:
        raise ValueError(f"{len(gates)} gates for {solver.num_steps} steps")
    for index in steps:
        x_RCHW, state = solver.step(denoise, x_RCHW, index, gates[index], state)
    return x_RCHW, state
