"""Sampling as pure functions: a denoiser, a solver that takes one step, and the multi-instance sampler around them.

Shapes: B pictures, R rows of a batch (pictures, then instances drawn alone), C x H x W latents, L text positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from instdiff.model.conditions import Conditions, cat, select
from instdiff.sampling.protocol import Denoise, Solver, State
from instdiff.schema import Compat


@runtime_checkable
class Stepwise(Protocol):
    """Denoisers that differ from step to step."""

    def at_step(self, index: int, *, begins: bool, alike: bool) -> Denoise:
        """That of step `index`: does a walk begin there, with the same latents in all rows of a picture?"""


def sample(
    denoise: Denoise | Stepwise,
    noise_BCHW: Tensor,
    solver: Solver[State],
    gates: Sequence[float],
    *,
    clean_BCHW: Tensor | None = None,
    first: int = 0,
    after_step: Callable[[], object] | None = None,
) -> Tensor:
    """Latents after all steps, with one gate a step.

    With `clean_BCHW` the walk begins at step `first`, from these latents under as much of the noise as is left there.
    """
    x_BCHW, state = solver.start(noise_BCHW, clean_BCHW, first)
    return _walk(denoise, x_BCHW, state, solver, gates, range(first, solver.num_steps), after_step)[0]


def sample_multi_instance(
    denoise_rows: Denoise | Stepwise,
    denoise_pictures: Denoise | Stepwise,
    noise_BCHW: Tensor,
    solver: Solver[State],
    gates: Sequence[float],
    *,
    picture_R: Tensor,
    share: float,
    clean_BCHW: Tensor | None = None,
    first: int = 0,
    after_step: Callable[[], object] | None = None,
    region_RHW: Tensor | None = None,
    compat: Compat | None = None,
) -> Tensor:
    """Draw pictures and instances on their own for the first `share` of the steps, then from their mean (paper, 3.4).

    Row r belongs to picture `picture_R[r]`; the first B rows are the pictures themselves, in order, and their history
    goes on after the merge. With `region_RHW` (bool, latent cells) an instance counts in its region only, and there
    instead of the picture. At share 1 what is merged is returned; the released code gave the last instance (compat).
    """
    num_pictures, last = len(noise_BCHW), solver.num_steps
    split = num_separate_steps(last, share)
    if split <= first:
        return sample(
            denoise_pictures, noise_BCHW, solver, gates, clean_BCHW=clean_BCHW, first=first, after_step=after_step
        )
    clean_RCHW = None if clean_BCHW is None else clean_BCHW[picture_R]
    x_RCHW, state = solver.start(noise_BCHW[picture_R], clean_RCHW, first)
    x_RCHW, state = _walk(denoise_rows, x_RCHW, state, solver, gates, range(first, split), after_step, alike=True)
    if split == last and compat == "reference":
        pictures = picture_R.tolist()
        return x_RCHW[[len(pictures) - 1 - pictures[::-1].index(picture) for picture in range(num_pictures)]]
    merged_BCHW = merge(x_RCHW, picture_R, num_pictures, region_RHW)
    state = solver.rows(state, slice(num_pictures))
    return _walk(denoise_pictures, merged_BCHW, state, solver, gates, range(split, last), after_step)[0]


def num_separate_steps(num_steps: int, share: float) -> int:
    """Steps in which instances are drawn on their own: the share, rounded down."""
    if not 0 <= share <= 1:
        raise ValueError(f"mis {share}: the share of steps must lie in 0..1")
    return int(num_steps * share)


def merge(x_RCHW: Tensor, picture_R: Tensor, num_pictures: int, region_RHW: Tensor | None = None) -> Tensor:
    """(B, C, H, W): the mean over the rows of each picture.

    With regions, the mean over the instances whose region a cell lies in, and the picture itself where there is none.
    """
    if region_RHW is None:
        weight_RCHW = torch.ones_like(x_RCHW[:, :1, :1, :1])
    else:
        weight_RCHW = region_RHW[:, None].to(x_RCHW)
        weight_RCHW[:num_pictures] = 0
        covered_BCHW = _sums(weight_RCHW, picture_R, num_pictures) > 0
        weight_RCHW[:num_pictures] = (~covered_BCHW).to(x_RCHW)
    sums_BCHW = _sums(x_RCHW * weight_RCHW, picture_R, num_pictures)
    return sums_BCHW / _sums(weight_RCHW, picture_R, num_pictures)


def _sums(x_RCHW: Tensor, picture_R: Tensor, num_pictures: int) -> Tensor:
    return x_RCHW.new_zeros(num_pictures, *x_RCHW.shape[1:]).index_add(0, picture_R, x_RCHW)


def alone_rows(conditions: Conditions, counts: Sequence[int]) -> tuple[Conditions, list[int]]:
    """Conditions of all rows, pictures first, then every instance alone in slot 0; and the picture of each row.

    `counts` are the instances of each picture, which fill its first slots.
    """
    filled = [(picture, slot) for picture, count in enumerate(counts) for slot in range(count)]
    alone = [select(conditions.rows([picture]), slot) for picture, slot in filled]
    return cat([conditions, *alone]), [*range(len(counts)), *(picture for picture, _ in filled)]


def _walk(
    denoise: Denoise | Stepwise,
    x_RCHW: Tensor,
    state: State,
    solver: Solver[State],
    gates: Sequence[float],
    steps: range,
    after_step: Callable[[], object] | None,
    *,
    alike: bool = False,
) -> tuple[Tensor, State]:
    if len(gates) != solver.num_steps:
        raise ValueError(f"{len(gates)} gates for {solver.num_steps} steps")
    for index in steps:
        begins = index == steps.start
        if isinstance(denoise, Stepwise):
            now = denoise.at_step(index, begins=begins, alike=alike and begins)
        else:
            now = denoise
        x_RCHW, state = solver.step(now, x_RCHW, index, gates[index], state)
        if after_step is not None:
            after_step()
    return x_RCHW, state
