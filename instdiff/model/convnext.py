"""ConvNeXt's trunk (Liu et al., 2022), without the final norm and the classifier.

Shapes: B pictures, C channels, H and W; channels come first between blocks and last within them.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAYER_SCALE = 0.1  # the paper's 1e-6 suits long training from scratch of far deeper trunks


class ConvNeXt(nn.Module):
    """(B, C, H, W) -> (B, widths[-1], H / stride, W / stride), stride = 4 * 2**(stages - 1)."""

    def __init__(self, in_channels: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        between = [
            nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2))
            for narrow, wide in itertools.pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The last stage's feature map."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            image_BCHW = stage(downsample(image_BCHW))
        return image_BCHW


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a channels-first map."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """The same shape, each place normalised."""
        return super().forward(map_BCHW.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """Depthwise 7x7 convolution, LayerNorm, MLP of four times the width, layer scale, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), _LAYER_SCALE))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """The same shape."""
        change_BHWC: Tensor = self.norm(self.dwconv(map_BCHW).movedim(1, -1))
        change_BHWC = self.pwconv2(F.gelu(self.pwconv1(change_BHWC))) * self.gamma
        return map_BCHW + change_BHWC.movedim(-1, 1)
