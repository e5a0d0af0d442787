"""The seeded plain UNet and noisy latents that the laws of the model are tried on."""

import tiny_pipeline
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


def base() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return tiny_pipeline.base().eval()


def noisy(count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, text = torch.randn(count, 4, 8, 8, generator=generator), torch.randn(count, 5, 16, generator=generator)
    return x, torch.arange(count) * 100, text
