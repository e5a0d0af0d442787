"""Sampling as pure functions: a denoiser, a solver that takes one step, and the multi-instance sampler around them.

Shapes: B pictures, R rows of a batch (pictures, then instances drawn alone), C x H x W latents, L text positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from instdiff.conditions import Compat, Conditions, cat, select
from instdiff.fuser import Grounding
from instdiff.fuser import cat as cat_groundings
from instdiff.solvers import Denoise, Solver, State
from instdiff.unet import InstanceUNet


def sample(
    denoise: Denoise,
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
    denoise_rows: Denoise,
    denoise_pictures: Denoise,
    noise_BCHW: Tensor,
    solver: Solver[State],
    gates: Sequence[float],
    *,
    picture_R: Tensor,
    share: float,
    clean_BCHW: Tensor | None = None,
    first: int = 0,
    after_step: Callable[[], object] | None = None,
    compat: Compat | None = None,
) -> Tensor:
    """Draw pictures and instances apart for the first `share` of the steps, then go on from their mean (paper, 3.4).

    Row r belongs to picture `picture_R[r]`; the first B rows are the pictures themselves, in order, and their history
    goes on after the merge. At share 1 the mean is returned; the released code returned the last instance (compat).
    """
    num_pictures, last = len(noise_BCHW), solver.num_steps
    split = num_steps_apart(last, share)
    if split <= first:
        return sample(
            denoise_pictures, noise_BCHW, solver, gates, clean_BCHW=clean_BCHW, first=first, after_step=after_step
        )
    clean_RCHW = None if clean_BCHW is None else clean_BCHW[picture_R]
    x_RCHW, state = solver.start(noise_BCHW[picture_R], clean_RCHW, first)
    x_RCHW, state = _walk(denoise_rows, x_RCHW, state, solver, gates, range(first, split), after_step)
    if split == last and compat == "reference":
        return x_RCHW[[int((picture_R == picture).nonzero()[-1]) for picture in range(num_pictures)]]
    merged_BCHW = mean_by_picture(x_RCHW, picture_R, num_pictures)
    state = solver.rows(state, slice(num_pictures))
    return _walk(denoise_pictures, merged_BCHW, state, solver, gates, range(split, last), after_step)[0]


def num_steps_apart(num_steps: int, share: float) -> int:
    """Steps in which instances are drawn apart: the share, rounded down."""
    if not 0 <= share <= 1:
        raise ValueError(f"mis {share}: the share of steps must lie in 0..1")
    return int(num_steps * share)


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
    groundings or neither. At guidance 1 the null rows are not computed. Latents keep their precision: only the network
    runs in its own.
    """
    if (grounding is None) != (null_grounding is None):
        raise ValueError("give a grounding and a null grounding, or neither")
    num_rows, precision = len(text_RLD), unet.conv_in.weight.dtype
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
            parts.append(unet(x_RCHW[rows].to(precision), timestep, text_RLD[rows], told, return_dict=False)[0])
        noise_RCHW = torch.cat(parts).to(x_RCHW.dtype)
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


def _walk(
    denoise: Denoise,
    x_RCHW: Tensor,
    state: State,
    solver: Solver[State],
    gates: Sequence[float],
    steps: range,
    after_step: Callable[[], object] | None,
) -> tuple[Tensor, State]:
    if len(gates) != solver.num_steps:
        raise ValueError(f"{len(gates)} gates for {solver.num_steps} steps")
    for index in steps:
        x_RCHW, state = solver.step(denoise, x_RCHW, index, gates[index], state)
        if after_step is not None:
            after_step()
    return x_RCHW, state
