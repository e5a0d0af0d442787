"""Guidance: one denoiser of conditional and null rows, and how much instances count in each step.

Shapes: R rows of a batch (pictures, then instances drawn alone), C x H x W latents, L text positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from instdiff.model.grounding import Grounding, cat_rows
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.solvers import Denoise


def with_guidance(
    unet: InstanceUNet,
    text_RLD: Tensor,
    grounding: Grounding | None,
    null_text_RLD: Tensor,
    null_grounding: Grounding | None,
    *,
    guidance: float,
    max_rows: int,
    picture_R: Tensor | None = None,
) -> Denoise:
    """Classifier-free guidance, conditional and null rows in one batch, at most `max_rows` of them in a forward pass.

    Keys and values of text and tokens are computed here, once for all steps. Latents may have fewer rows than there are
    texts: the first. `null_text_RLD` may have one row for all; `null_grounding` has one row, from `null(conditions)`.
    Give both groundings or neither. At guidance 1 the null rows are not computed; where rows of one picture
    (`picture_R`) still hold the same latents, they share one. Latents keep their precision: only the network runs in
    its own.
    """
    cached = unet.with_cached_keys(text_RLD, grounding)
    if guidance != 1:
        nothing = None if null_grounding is None else null_grounding.rows([0] * len(null_text_RLD))
        cached = cat_rows([cached, unet.with_cached_keys(null_text_RLD, nothing)])
    num_conditional, precision = len(text_RLD), unet.conv_in.weight.dtype
    num_pictures = num_conditional if picture_R is None or len(null_text_RLD) > 1 else int(picture_R.max()) + 1

    def denoise(x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
        rows_in = list(range(len(x_RCHW)))
        shared = picture_R if num_pictures < len(rows_in) == num_conditional and _same(x_RCHW, picture_R) else None
        null_rows = [] if guidance == 1 else rows_in if shared is None else rows_in[:num_pictures]
        latents = x_RCHW[rows_in + null_rows].to(precision)
        rows_of_pass = rows_in + [num_conditional + row % (len(cached) - num_conditional) for row in null_rows]
        parts = []
        for start in range(0, len(rows_of_pass), max_rows):
            rows = cached.rows(rows_of_pass[start : start + max_rows])
            seen = None if rows.grounding is None or gate == 0 else rows.grounding.at(gate)
            inputs = latents[start : start + max_rows], timestep, rows.text_RLD, seen, rows.keys
            parts.append(unet(*inputs, return_dict=False)[0])
        noise = torch.cat(parts).to(x_RCHW.dtype)
        if guidance == 1:
            return noise
        conditional, unconditional = noise[: len(rows_in)], noise[len(rows_in) :]
        unconditional = unconditional if shared is None else unconditional[shared]
        return unconditional + guidance * (conditional - unconditional)

    return denoise


def _same(x_RCHW: Tensor, picture_R: Tensor | None) -> bool:
    """Do all rows of a picture hold the same latents? Its own row comes first."""
    return picture_R is not None and torch.equal(x_RCHW, x_RCHW[picture_R])


def with_reloaded_first_conv(
    own: Denoise, reloaded: Denoise, gates: Sequence[float], split: int, num_pictures: int
) -> Denoise:
    """Reproduces the released bug: the first convolution, reloaded at gate 0, is never restored.

    The released code draws the picture first, then each instance: where a gate of the `split` separate steps is 0, it
    draws every instance with `reloaded` alone. Both denoisers take all rows; the first `num_pictures` are the pictures.
    """
    used_up = 0 in gates[:split]

    def denoise(x_RCHW: Tensor, timestep: Tensor, gate: float) -> Tensor:
        if gate == 0:
            return reloaded(x_RCHW, timestep, gate)
        noise_RCHW = own(x_RCHW, timestep, gate)
        if used_up and len(x_RCHW) > num_pictures:
            others_RCHW = reloaded(x_RCHW, timestep, gate)[num_pictures:]
            noise_RCHW = torch.cat([noise_RCHW[:num_pictures], others_RCHW])
        return noise_RCHW

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
