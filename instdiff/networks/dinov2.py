"""DINOv2's features of pictures, through transformers: what FD is measured in beside Inception's (Stein et al. 2023).

The class token after the last norm, of pictures squeezed to 224 a side, bicubic, with ImageNet's mean and spread. The
paper's network is the large one with patches of 14 (facebook/dinov2-large).
Legend: N pictures, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import Dinov2Model, Dinov2WithRegistersModel

from instdiff.networks import loading
from instdiff.networks.clip import Picture, Preparation
from instdiff.networks.device import PLAIN, Place

SIDE = 224
IMAGENET = Preparation(mean=(0.485, 0.456, 0.406), spread=(0.229, 0.224, 0.225))
CLASSES = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}


@dataclass(frozen=True)
class Dinov2:
    """Pictures into features."""

    network: Dinov2Model | Dinov2WithRegistersModel

    @torch.no_grad()
    def image_features(self, pictures: Sequence[Picture]) -> Tensor:
        """(N, D) of pictures of any size, (H, W, 3) uint8."""
        pixels_NCHW = IMAGENET(pictures, SIDE).to(self.network.device, self.network.dtype)
        features: Tensor = self.network(pixels_NCHW).pooler_output.float()
        return features


def load(folder: Path, where: Place = PLAIN) -> Dinov2:
    """The network of a folder; ValueError where it is missing or another."""
    network = loading.from_folder(CLASSES[loading.model_type(folder, CLASSES)], folder, where.dtype)
    return Dinov2(network.to(where.device))
