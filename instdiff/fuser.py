"""Gated self-attention: visual tokens look at each other and at the tokens of the instances (GLIGEN, eq. 7-8).

Shapes: B pictures, L visual tokens, T instance tokens, K = L + T, C channels, W width of an instance token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


@dataclass(frozen=True)
class Grounding:
    """What a forward pass is told about the instances: tokens (B, T, W), who may look at whom, and how much it counts.

    `allowed[L]` is (B, L, L + T) bool for the level with L visual tokens; a level that is not in it is not masked.
    At gate 0 the fusers are not evaluated.
    """

    tokens_BTW: Tensor
    allowed: Mapping[int, Tensor] = field(default_factory=dict)
    gate: float = 1.0

    def at(self, gate: float) -> Grounding:
        """The same with another gate."""
        return replace(self, gate=gate)

    def to(self, device: torch.device | str) -> Grounding:
        """The same on another device."""
        allowed = {size: mask.to(device) for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW.to(device), allowed=allowed)

    def rows(self, index: Tensor | slice | Sequence[int]) -> Grounding:
        """The pictures at `index`."""
        allowed = {size: mask[index] for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW[index], allowed=allowed)


def cat(groundings: Sequence[Grounding]) -> Grounding:
    """The pictures of several, one after the other; masks and gates must agree in kind."""
    first = groundings[0]
    if any(other.gate != first.gate for other in groundings):
        raise ValueError("groundings of different gates cannot share a forward pass")
    sizes = sorted({size for grounding in groundings for size in grounding.allowed})
    allowed = {size: torch.cat([_allowed(grounding, size) for grounding in groundings]) for size in sizes}
    return Grounding(torch.cat([grounding.tokens_BTW for grounding in groundings]), allowed, first.gate)


def _allowed(grounding: Grounding, size: int) -> Tensor:
    """(B, L, K) of the level; all True where there is no mask."""
    count, num_tokens = grounding.tokens_BTW.shape[:2]
    everything = torch.ones(1, 1, 1, dtype=torch.bool, device=grounding.tokens_BTW.device)
    return grounding.allowed.get(size, everything.expand(count, size, size + num_tokens))


class GatedSelfAttention(nn.Module):
    """One layer; names of parameters are those of diffusers' GLIGEN layer. Both gates start at 0: no effect."""

    def __init__(self, channels: int, token_width: int, num_heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(token_width, channels)
        self.attn = Attention(query_dim=channels, heads=num_heads, dim_head=channels // num_heads)
        self.ff = FeedForward(channels, activation_fn="geglu")
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.alpha_attn = nn.Parameter(torch.tensor(0.0))
        self.alpha_dense = nn.Parameter(torch.tensor(0.0))

    def forward(self, visual_BLC: Tensor, grounding: Grounding) -> Tensor:
        """(B, L, C): the visual tokens, changed by gate * tanh(alpha) times what the layer finds."""
        if grounding.gate == 0:
            return visual_BLC
        looked_BLC = self._look(visual_BLC, grounding)
        visual_BLC = visual_BLC + grounding.gate * self.alpha_attn.tanh() * looked_BLC
        fed_BLC: Tensor = self.ff(self.norm2(visual_BLC))
        return visual_BLC + grounding.gate * self.alpha_dense.tanh() * fed_BLC

    def _look(self, visual_BLC: Tensor, grounding: Grounding) -> Tensor:
        """(B, L, C): what visual tokens take from all tokens; instance tokens ask nothing, no one reads the answer."""
        tokens_BTC = self.linear(grounding.tokens_BTW.to(visual_BLC.dtype))
        asking_BLC = self.norm1(visual_BLC)
        keys_BKC = torch.cat([asking_BLC, self.norm1(tokens_BTC)], dim=1)
        q, k, v = (
            layer(tokens).unflatten(-1, (self.attn.heads, -1)).transpose(1, 2)
            for layer, tokens in (
                (self.attn.to_q, asking_BLC),
                (self.attn.to_k, keys_BKC),
                (self.attn.to_v, keys_BKC),
            )
        )
        allowed_BLK = grounding.allowed.get(visual_BLC.shape[1])
        mask = None if allowed_BLK is None else allowed_BLK[:, None]
        taken = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        looked_BLC: Tensor = self.attn.to_out[0](taken.transpose(1, 2).flatten(2))
        return looked_BLC
