"""The autoencoder: loaded from a folder, and pictures as it takes and gives them.

Legend: B batch, H W pixels.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from instdiff.networks import loading
from instdiff.networks.device import PLAIN, Place


def pixels(pictures_BHWC: npt.NDArray[np.uint8]) -> Tensor:
    """Pictures as the autoencoder takes them: (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1


def pictures(pixels_BCHW: Tensor, *, rounded: bool = True) -> npt.NDArray[np.uint8]:
    """The way back: (B, H, W, 3) uint8, rounded to the nearest level, or down."""
    scaled = (pixels_BCHW.clamp(-1, 1) + 1) * 127.5
    levels = scaled.round() if rounded else scaled.floor()
    array: npt.NDArray[np.uint8] = levels.byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def load(folder: Path, where: Place = PLAIN) -> AutoencoderKL:
    """The frozen autoencoder of a folder, in evaluation mode."""
    device = where.device
    vae: AutoencoderKL = loading.from_folder(AutoencoderKL, folder, where.dtype)
    return vae.to(device)
