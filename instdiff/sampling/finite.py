"""What comes out of the networks is finite, or an error that names the precision; the autoencoder is tried again first.

Legend: rows of any shape, the first axis counts them.
"""

import warnings
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn


def by_vae(vae: AutoencoderKL, run: Callable[[Tensor], Tensor], rows: Tensor, what: str) -> Tensor:
    """What the autoencoder makes of rows, in float32; rows that overflow half precision go through it once more."""
    precision = vae.dtype
    output = run(rows.to(precision)).float()
    bad = not_finite(output)
    if precision != torch.float32 and bad.any():
        warnings.warn(
            f"the autoencoder overflows {precision_name(precision)}: {int(bad.sum())} of {len(bad)} {what} are "
            "computed in float32 instead",
            stacklevel=2,
        )
        nn.Module.to(vae, torch.float32)
        try:
            output[bad] = run(rows[bad].float())
        finally:
            nn.Module.to(vae, precision)
        precision = torch.float32
    return finite(output, what, precision)


def finite(rows: Tensor, what: str, precision: torch.dtype) -> Tensor:
    """The rows, if all are finite; ValueError names the precision that they were computed in."""
    bad = not_finite(rows)
    if bad.any():
        advice = "the weights are at fault" if precision == torch.float32 else "take bfloat16 or float32"
        raise ValueError(
            f"{int(bad.sum())} of {len(bad)} {what} hold NaN or infinity, computed in {precision_name(precision)}: "
            f"{advice}"
        )
    return rows


def not_finite(rows: Tensor) -> Tensor:
    """Which rows hold a number that is not finite."""
    return ~rows.isfinite().flatten(1).all(1)


def precision_name(dtype: torch.dtype) -> str:
    """As the options name it."""
    return str(dtype).removeprefix("torch.")
