"""ScaleU: learned scales of an up-block's two inputs (paper, section 3.3).

Shapes: B pictures, C channels, H and W of the map; K = 7 real waves that span four frequencies.
"""

import math

import torch
from torch import Tensor, nn


class ScaleU(nn.Module):
    """Scale the running features per channel, and the lowest frequencies of the skip features by one number.

    Zero parameters change nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.backbone = nn.Parameter(torch.zeros(channels))
        self.skip = nn.Parameter(torch.zeros(1))

    def forward(self, joined_BCHW: Tensor) -> Tensor:
        """The same shape; the first `channels` are the running features, the others the skip's."""
        channels = len(self.backbone)
        running, skip = joined_BCHW[:, :channels], joined_BCHW[:, channels:]
        running = running * (1 + self.backbone.tanh())[:, None, None].to(running.dtype)
        return torch.cat([running, scale_low_frequencies(skip, 1 + self.skip.tanh())], dim=1)


def scale_low_frequencies(map_BCHW: Tensor, scale: Tensor) -> Tensor:
    """Re IFFT(M FFT(map)) with M = `scale` at the four frequencies {-1, 0} x {-1, 0} and 1 elsewhere, without an FFT.

    The change is (scale - 1) times the real part of the four terms, a projection on 7 cosines and sines, in float32.
    """
    height, width = map_BCHW.shape[-2:]
    waves_KL = _waves(height, width, map_BCHW.device)
    flat_BCL = map_BCHW.flatten(2).float()
    low_BCL = (flat_BCL @ waves_KL.T) @ waves_KL / (height * width)
    changed = flat_BCL + (scale.float() - 1) * low_BCL
    return changed.view(map_BCHW.shape).to(map_BCHW.dtype)


def _waves(height: int, width: int, device: torch.device) -> Tensor:
    """(K, H * W): the constant, and cosine and sine of one turn down, one across, and both."""
    down = 2 * math.pi / height * torch.arange(height, device=device, dtype=torch.float32)[:, None]
    across = 2 * math.pi / width * torch.arange(width, device=device, dtype=torch.float32)[None, :]
    turns = torch.stack([(down + 0 * across), (0 * down + across), down + across]).flatten(1)
    return torch.cat([torch.ones_like(turns[:1]), turns.cos(), turns.sin()])
