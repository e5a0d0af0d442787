"""UniFusion: every way of saying where an instance is, as tokens for the gated self-attention (paper, section 3.2).

Shapes: B pictures, N slots, D features of a phrase, F Fourier features, T tokens, W width of a token, H x H masks.
Order of the tokens: N for boxes, N for points, N for scribbles, N for outlines, then those of the masks.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from instdiff.layouts.formats import BY_NAME, Format, Slots
from instdiff.model.conditions import Conditions
from instdiff.model.convnext import ConvNeXt

NUM_FREQUENCIES = 16
_TEMPERATURE = 100.0  # of the frequencies: 100 ** (f / 16)
_STRIPS = 4  # a mask token gathers this many places of the ConvNeXt map
_NULL_SCALE, _POSITION_SCALE = 0.02, 0.02


class UniFusionConfig(Slots):
    """Sizes; the masks are brought to mask_size x mask_size before ConvNeXt sees them."""

    text_width: PositiveInt  # numbers of a phrase's embedding, as the text encoder gives them
    token_width: PositiveInt  # numbers of a token, as the base's attention reads them
    hidden_width: PositiveInt  # numbers between the layers of the networks that make tokens
    mask_widths: tuple[int, ...]  # channels of each stage of the ConvNeXt that reads masks
    mask_depths: tuple[int, ...]  # blocks of each of its stages

    @model_validator(mode="after")
    def _masks_make_whole_tokens(self) -> "UniFusionConfig":
        if len(self.mask_widths) != len(self.mask_depths):
            raise ValueError("mask_widths and mask_depths must name the same number of stages")
        if self.mask_size % self.mask_stride or (self.mask_size // self.mask_stride) ** 2 % _STRIPS:
            raise ValueError(f"mask_size must be an even multiple of {self.mask_stride}, the stride of its ConvNeXt")
        return self

    @property
    def mask_stride(self) -> int:
        """Pixels of a mask per place of the ConvNeXt map, along one side."""
        return int(4 * 2 ** (len(self.mask_widths) - 1))

    @property
    def num_mask_tokens(self) -> int:
        """Tokens that stand for all masks of a picture."""
        return int((self.mask_size // self.mask_stride) ** 2 // _STRIPS)

    @property
    def num_tokens(self) -> int:
        """Tokens of a picture."""
        return len(self.located) * self.max_instances + self.num_mask_tokens


class UniFusion(nn.Module):
    """Conditions -> (B, T, W) tokens; a format that is not given is read as its learned null vector."""

    def __init__(self, config: UniFusionConfig) -> None:
        super().__init__()
        self.config = config
        widths: dict[str, int] = {name: 2 * NUM_FREQUENCIES * BY_NAME[name].shape(config)[0] for name in config.located}
        mask_width = _STRIPS * config.mask_widths[-1]
        nulls = {"text": config.text_width, **widths, "mask": mask_width}
        self.null = nn.ParameterDict({name: torch.randn(size) * _NULL_SCALE for name, size in nulls.items()})
        self.mlps = nn.ModuleDict({name: self._mlp(config.text_width + width) for name, width in widths.items()})
        self.mlps["mask"] = self._mlp(mask_width)
        self.mask_in = nn.Conv2d(config.max_instances, 3, 3, padding=1)
        self.mask_trunk = ConvNeXt(3, config.mask_widths, config.mask_depths)
        self.mask_position = nn.Parameter(torch.randn(1, config.num_mask_tokens, mask_width) * _POSITION_SCALE)

    def forward(self, conditions: Conditions) -> Tensor:
        """(B, T, W); a picture's tokens depend on that picture alone."""
        if conditions.filled_BN.shape[1] != self.config.max_instances:
            slots = conditions.filled_BN.shape[1]
            raise ValueError(f"conditions have {slots} slots, the model {self.config.max_instances}")
        located = [self._located(name, conditions) for name in self.config.located]
        return torch.cat([*located, self._masks(conditions)], dim=1)

    def _mlp(self, in_width: int) -> nn.Sequential:
        hidden, out = self.config.hidden_width, self.config.token_width
        layers = [nn.Linear(in_width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out)]
        return nn.Sequential(*layers)

    def _located(self, name: Format, conditions: Conditions) -> Tensor:
        """(B, N, W): one token a slot; on a CPU, what empty slots share is computed once."""
        given_BN = conditions.given(name)
        if not counts_first(given_BN):
            every_BNW: Tensor = self.mlps[name](self._inputs(name, conditions, ...))
            return every_BNW
        used_BN = conditions.filled_BN | given_BN
        empty = torch.cat([self.null["text"], self.null[name]])[None]
        outputs: Tensor = self.mlps[name](torch.cat([empty, self._inputs(name, conditions, used_BN)]))
        row_BN = torch.where(used_BN, used_BN.flatten().cumsum(0).view_as(used_BN), 0)  # 0 is the empty slot
        return outputs[row_BN]

    def _inputs(self, name: Format, conditions: Conditions, slots: Any) -> Tensor:
        """(..., D + F): phrase and place of these slots, null vectors where they have none."""
        filled, is_given = (flags[slots][..., None] for flags in (conditions.filled_BN, conditions.given(name)))
        null_text, null_place = self.null["text"], self.null[name]
        text = torch.where(filled, conditions.text_BND[slots].to(null_text.dtype), null_text)
        place = torch.where(is_given, fourier(conditions.numbers(name)[slots]).to(null_place.dtype), null_place)
        return torch.cat([text, place], dim=-1)

    def _masks(self, conditions: Conditions) -> Tensor:
        """(B, T, W): tokens of all masks of a picture; on a CPU, ConvNeXt sees only pictures that have one."""
        seen_B = conditions.mask_given_BN.any(dim=1)
        num_tokens = self.config.num_mask_tokens
        features_BTC = self.null["mask"].expand(len(seen_B), num_tokens, -1)
        if not counts_first(seen_B):
            every_BTC = self.mask_features(conditions.mask_BNHW & conditions.mask_given_BN[:, :, None, None])
            features_BTC = torch.where(seen_B[:, None, None], every_BTC, features_BTC)
        elif seen_B.any():
            image_BNHW = conditions.mask_BNHW[seen_B] & conditions.mask_given_BN[seen_B][:, :, None, None]
            features_BTC = features_BTC.index_put((seen_B.nonzero()[:, 0],), self.mask_features(image_BNHW))
        tokens_BTW: Tensor = self.mlps["mask"](features_BTC + self.mask_position)
        return tokens_BTW

    def mask_features(self, mask_BNHW: Tensor) -> Tensor:
        """(B, T, C): token t gathers, from each channel, the places at t of four strips of rows of the ConvNeXt map."""
        size = self.config.mask_size
        image_BNHW = F.interpolate(mask_BNHW.to(self.mask_in.weight.dtype), size=(size, size), mode="nearest")
        map_BCHW: Tensor = self.mask_trunk(self.mask_in(image_BNHW))
        return map_BCHW.reshape(len(map_BCHW), -1, self.config.num_mask_tokens).transpose(1, 2)


def counts_first(tensor: Tensor) -> bool:
    """Is it worth finding out what a batch holds, and then computing no more? Elsewhere the CPU would have to wait."""
    return tensor.device.type == "cpu"


@torch.no_grad()
def fourier(values: Tensor) -> Tensor:
    """(..., D) -> (..., 32 D) float32: for each of 16 frequencies all sines, then all cosines (no factor of 2 pi)."""
    steps = torch.arange(NUM_FREQUENCIES, device=values.device) / NUM_FREQUENCIES
    angles = values.float()[..., None, :] * (_TEMPERATURE**steps)[:, None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
