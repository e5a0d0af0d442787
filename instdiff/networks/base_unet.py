"""The base network of Stable Diffusion's kind, without instance layers."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel


def load(folder: Path) -> UNet2DConditionModel:
    """The frozen base model of a folder, in fp32."""
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    return unet.requires_grad_(False).eval()
