"""Gated self-attention: visual tokens look at each other and at the tokens of the instances (GLIGEN, eq. 7-8).

What a layer makes of the instance tokens does not depend on the picture, so it can be made once for all steps: keys and
values of each fuser, under the fuser's name.

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

Keys = Mapping[str, tuple[Tensor, Tensor]]  # layer -> keys and values (B, heads, T, channels of a head)


@dataclass(frozen=True)
class Grounding:
    """What a forward pass is told about the instances: tokens (B, T, W), who may look at whom, and how much it counts.

    `allowed[L]` is (B, L, L + T) bool for the level with L visual tokens; a level that is not in it is not masked.
    At gate 0 the fusers are not evaluated. A fuser that is not in `keys` makes keys and values from the tokens.
    """

    tokens_BTW: Tensor
    allowed: Mapping[int, Tensor] = field(default_factory=dict)
    gate: float = 1.0
    keys: Keys = field(default_factory=dict)

    def at(self, gate: float) -> Grounding:
        """The same with another gate."""
        return replace(self, gate=gate)

    def to(self, device: torch.device | str) -> Grounding:
        """The same on another device."""
        allowed = {size: mask.to(device) for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW.to(device), allowed=allowed, keys=keys_to(self.keys, device))

    def rows(self, index: Tensor | slice | Sequence[int]) -> Grounding:
        """The pictures at `index`."""
        allowed = {size: mask[index] for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW[index], allowed=allowed, keys=rows_of(self.keys, index))


def cat(groundings: Sequence[Grounding]) -> Grounding:
    """The pictures of several, one after the other; masks and gates must agree in kind."""
    first = groundings[0]
    if any(other.gate != first.gate for other in groundings):
        raise ValueError("groundings of different gates cannot share a forward pass")
    sizes = sorted({size for grounding in groundings for size in grounding.allowed})
    allowed = {size: torch.cat([_allowed(grounding, size) for grounding in groundings]) for size in sizes}
    tokens_BTW = torch.cat([grounding.tokens_BTW for grounding in groundings])
    return Grounding(tokens_BTW, allowed, first.gate, cat_keys([grounding.keys for grounding in groundings]))


def rows_of(keys: Keys, index: Tensor | slice | Sequence[int]) -> Keys:
    """The pictures at `index`."""
    return {name: (key[index], value[index]) for name, (key, value) in keys.items()}


def keys_to(keys: Keys, device: torch.device | str) -> Keys:
    """The same on another device."""
    return {name: (key.to(device), value.to(device)) for name, (key, value) in keys.items()}


def cat_keys(several: Sequence[Keys]) -> Keys:
    """The pictures of several, one after the other: layers that all of them have."""
    names = [name for name in several[0] if all(name in keys for keys in several)]
    return {
        name: (torch.cat([keys[name][0] for keys in several]), torch.cat([keys[name][1] for keys in several]))
        for name in names
    }


def heads(attention: Attention, tokens_BTC: Tensor) -> Tensor:
    """(B, heads, T, channels of a head)."""
    split: Tensor = tokens_BTC.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return split


def _allowed(grounding: Grounding, size: int) -> Tensor:
    """(B, L, K) of the level; all True where there is no mask."""
    count, num_tokens = grounding.tokens_BTW.shape[:2]
    everything = torch.ones(1, 1, 1, dtype=torch.bool, device=grounding.tokens_BTW.device)
    return grounding.allowed.get(size, everything.expand(count, size, size + num_tokens))


class GatedSelfAttention(nn.Module):
    """One layer; names of parameters are those of diffusers' GLIGEN layer. Both gates start at 0: no effect."""

    def __init__(self, name: str, channels: int, token_width: int, num_heads: int) -> None:
        super().__init__()
        self.name = name
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

    def keys(self, tokens_BTW: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the instance tokens; norms look at one token at a time, so the picture plays no part."""
        tokens_BTC = self.norm1(self.linear(tokens_BTW))
        return heads(self.attn, self.attn.to_k(tokens_BTC)), heads(self.attn, self.attn.to_v(tokens_BTC))

    def _look(self, visual_BLC: Tensor, grounding: Grounding) -> Tensor:
        """(B, L, C): what visual tokens take from all tokens; instance tokens ask nothing, no one reads the answer."""
        known = grounding.keys.get(self.name) or self.keys(grounding.tokens_BTW.to(visual_BLC.dtype))
        asking_BLC = self.norm1(visual_BLC)
        q, k, v = (heads(self.attn, layer(asking_BLC)) for layer in (self.attn.to_q, self.attn.to_k, self.attn.to_v))
        k, v = torch.cat([k, known[0]], dim=2), torch.cat([v, known[1]], dim=2)
        allowed_BLK = grounding.allowed.get(visual_BLC.shape[1])
        mask = None if allowed_BLK is None else allowed_BLK[:, None]
        taken = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        looked_BLC: Tensor = self.attn.to_out[0](taken.transpose(1, 2).flatten(2))
        return looked_BLC
