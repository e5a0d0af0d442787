"""What a denoiser is, and a solver: a way to walk from noise to a picture, one step at a time.

Shapes: R rows of a batch, C x H x W latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor, float], Tensor]  # latents, timestep, gate -> predicted noise
State = TypeVar("State")


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


def on_host(number: float, like: Tensor) -> Tensor:
    """The number in the precision of `like`, where the CPU reckons with it: a kernel takes it as an argument.

    A number that is copied to a GPU makes the CPU wait for all that the GPU was asked for before.
    """
    return torch.tensor(number, dtype=like.dtype, device="cpu")
