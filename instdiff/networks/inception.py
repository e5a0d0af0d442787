"""The Inception network that FID and KID are defined with, from a local file of its weights.

The file is the one pytorch-fid reads (`pt_inception-2015-12-05-6726825d.pth`): TensorFlow's network of 2015 with
1008 classes, which differs from torchvision's in three poolings. Features are the 2048 numbers before the classes.
Legend: N pictures, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from instdiff.networks import loading, weight_files
from instdiff.networks.device import PLAIN, Place

Pixels = NDArray[np.uint8]

WEIGHTS = "inception.pth"
SIDE, NUM_CLASSES = 299, 1008
BATCH_SIZE = 32  # pictures, on a GPU


class _A(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        *others, _ = super()._forward(x)
        return [*others, self.branch_pool(_inner_mean(x))]


class _C(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        *others, _ = super()._forward(x)
        return [*others, self.branch_pool(_inner_mean(x))]


class _E(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        *others, _ = super()._forward(x)
        return [*others, self.branch_pool(_inner_mean(x))]


class _LastE(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        *others, _ = super()._forward(x)
        return [*others, self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))]


def _inner_mean(x: Tensor) -> Tensor:
    """TensorFlow's average pooling: what is beyond the border does not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def build() -> Inception3:
    """The network, without weights."""
    network = Inception3(num_classes=NUM_CLASSES, aux_logits=False, transform_input=False, init_weights=False)
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
    for name, channels in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        setattr(network, name, _C(768, channels))
    network.Mixed_7b, network.Mixed_7c = _E(1280), _LastE(2048)
    return network


@dataclass(frozen=True)
class Inception:
    """Pictures into the features before the classes."""

    network: Inception3
    where: Place = PLAIN

    @torch.no_grad()
    def image_features(self, pictures: Sequence[Pixels]) -> NDArray[np.float64]:
        """(N, 2048); each picture resized to 299 a side bilinearly, without smoothing, values in [-1, 1]."""
        size = 1 if self.where.device.type == "cpu" else BATCH_SIZE  # more gain nothing on a CPU
        starts = range(0, len(pictures), size)
        return np.concatenate([self._features(pictures[start : start + size]) for start in starts])

    def _features(self, pictures: Sequence[Pixels]) -> NDArray[np.float64]:
        x_NCHW = torch.cat([self._seen(pixels) for pixels in pictures])
        features_NC = self.network((2 * x_NCHW - 1).to(self.where.dtype))
        return np.asarray(features_NC.to("cpu", torch.float32).numpy(), np.float64)

    def _seen(self, pixels: Pixels) -> Tensor:
        x_1CHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        return F.interpolate(x_1CHW.to(self.where.device), (SIDE, SIDE), mode="bilinear", align_corners=False)


def load(path: Path, where: Place = PLAIN) -> Inception:
    """The network of a file of weights; ValueError when there is none or it is another network's."""
    device = where.device
    if not path.is_file():
        raise ValueError(f"{path}: no such file; fid with Inception's features needs its weights there")
    network = build()
    loading.fill(network, weight_files.read(path), f"{path}: not the weights of FID's Inception")
    network.fc = torch.nn.Identity()
    return Inception(network.eval().requires_grad_(False).to(device, where.dtype), where)
