"""The forward process of Stable Diffusion and the loss that trains a network to undo it (eps-prediction).

Legend: B batch, C channels, h w latent cells.
"""

import functools
from typing import Literal, get_args

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]  # what a network gives: noise or velocity
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
NUM_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012  # of a schedule that is linear in sqrt(beta)


def alphas_cumprod() -> Tensor:
    """(1000,) float32: the share of signal in the variance after each step, computed in float64."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


@functools.cache
def alphas_on(device: torch.device) -> Tensor:
    """The same there, where it stays: a copy in each step would make the CPU wait for the device."""
    return alphas_cumprod().to(device)


def stratified_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """`count` timesteps, each uniform over its own share of [0, 1000): the same law, a smaller variance."""
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (shares * NUM_TIMESTEPS).long().clamp(max=NUM_TIMESTEPS - 1)


def uniform_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """`count` timesteps, each uniform over [0, 1000) by itself."""
    return (torch.rand(count, generator=generator) * NUM_TIMESTEPS).long().clamp(max=NUM_TIMESTEPS - 1)


def noised(latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, equation 4)."""
    kept_B111 = alphas_on(timesteps_B.device)[timesteps_B].view(-1, 1, 1, 1)
    return kept_B111.sqrt() * latents_BChw + (1 - kept_B111).sqrt() * noise_BChw


def eps_loss(predicted_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor, min_snr: float | None) -> Tensor:
    """Mean squared error of the noise; with `min_snr` each sample weighs min(SNR, gamma) / SNR.

    Source: Hang et al. 2023, equation 6.
    """
    error_B = (predicted_BChw - noise_BChw).square().flatten(1).mean(1)
    if min_snr is None:
        return error_B.mean()
    kept_B = alphas_on(timesteps_B.device)[timesteps_B]
    snr_B = kept_B / (1 - kept_B)
    return (error_B * snr_B.clamp(max=min_snr) / snr_B).mean()
