"""The base network of Stable Diffusion's kind, without instance layers."""

from pathlib import Path

from diffusers import UNet2DConditionModel

from instdiff.networks import loading
from instdiff.networks.device import PLAIN, Place


def load(folder: Path, where: Place = PLAIN) -> UNet2DConditionModel:
    """The frozen base model of a folder, on the CPU, in the precision that it is for."""
    unet: UNet2DConditionModel = loading.from_folder(UNet2DConditionModel, folder, where.dtype)
    return unet
