"""The base network of Stable Diffusion's kind, without instance layers."""

from pathlib import Path

from diffusers import UNet2DConditionModel

from instdiff.networks import loading


def load(folder: Path) -> UNet2DConditionModel:
    """The frozen base model of a folder, in fp32."""
    unet: UNet2DConditionModel = loading.from_folder(UNet2DConditionModel, folder)
    return unet
