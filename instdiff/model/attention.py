"""Gated self-attention: visual tokens attend to each other and to the tokens of the instances (GLIGEN, eq. 7-8).

Keys and values of the instance tokens do not depend on the picture, so they can be computed once for all steps; the
cache holds them under the name of the layer.

Shapes: B pictures, L visual tokens, T instance tokens, K = L + T, C channels, W width of an instance token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from instdiff.model.grounding import Grounding, KeyValues, heads

_ONLY = ""  # name of the keys in the grounding of one layer


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
        """(B, L, C): the visual tokens plus gate * tanh(alpha) times attention, then times the feed-forward network."""
        if grounding.gate == 0:
            return visual_BLC
        attended_BLC = self._attend(visual_BLC, grounding)
        visual_BLC = visual_BLC + grounding.gate * self.alpha_attn.tanh() * attended_BLC
        fed_BLC: Tensor = self.ff(self.norm2(visual_BLC))
        return visual_BLC + grounding.gate * self.alpha_dense.tanh() * fed_BLC

    def own(self, grounding: Grounding) -> Grounding:
        """What of a grounding this layer reads: in code that is compiled once for all layers, names may not differ."""
        keys = {_ONLY: grounding.keys[self.name]} if self.name in grounding.keys else {}
        return replace(grounding, keys=keys)

    def keys(self, tokens_BTW: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the instance tokens; norms act on each token alone, so the picture plays no part."""
        tokens_BTC = self.norm1(self.linear(tokens_BTW))
        return heads(self.attn, self.attn.to_k(tokens_BTC)), heads(self.attn, self.attn.to_v(tokens_BTC))

    def _attend(self, visual_BLC: Tensor, grounding: Grounding) -> Tensor:
        """(B, L, C): visual tokens attend to all tokens; no instance token has a query: nothing reads its output."""
        cached = grounding.keys.get(_ONLY) or self.keys(grounding.tokens_BTW.to(visual_BLC.dtype))
        queries_BLC = self.norm1(visual_BLC)
        q, k, v = (heads(self.attn, layer(queries_BLC)) for layer in (self.attn.to_q, self.attn.to_k, self.attn.to_v))
        k, v = torch.cat([k, cached[0]], dim=2), torch.cat([v, cached[1]], dim=2)
        allowed_BLK = grounding.allowed.get(visual_BLC.shape[1])
        mask = None if allowed_BLK is None else allowed_BLK[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended_BLC: Tensor = self.attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return attended_BLC


class CachedCrossAttention(AttnProcessor2_0):
    """Attention that reads the keys and values of the text from `keys`, where they are given."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        keys: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(R, L, channels), as AttnProcessor2_0 gives it."""
        if keys is None or attention_mask is not None:
            plain: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        attended = F.scaled_dot_product_attention(heads(attn, attn.to_q(hidden_states)), *keys)
        output: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return output


class InstanceBlock(BasicTransformerBlock):
    """A transformer block with a fuser between self-attention and cross-attention; parameters keep their names.

    What is in diffusers' block of Stable Diffusion is written out here, since the place that diffusers had for a fuser
    is deprecated there. A grounding comes as `grounding` of `cross_attention_kwargs`; without it the fuser is skipped.
    The block's own keys and grounding are picked before `evaluate`, which is the same code for all blocks and can be
    compiled once for all.
    """

    fuser: GatedSelfAttention
    name: str

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(R, L, channels); arguments are those of BasicTransformerBlock."""
        options = dict(cross_attention_kwargs or {})
        grounding: Grounding | None = options.pop("grounding", None)
        keys: KeyValues = options.pop("keys", None) or {}
        own = None if grounding is None else self.fuser.own(grounding)
        of_text = keys.get(f"{self.name}.attn2")
        masks = attention_mask, encoder_attention_mask
        return self.evaluate(hidden_states, encoder_hidden_states, own, of_text, masks, options)

    def evaluate(
        self,
        visual_RLC: Tensor,
        text_RLD: Tensor | None,
        grounding: Grounding | None,
        keys: tuple[Tensor, Tensor] | None,
        masks: tuple[Tensor | None, Tensor | None],
        options: dict[str, Any],
    ) -> Tensor:
        """(R, L, channels): self-attention, fuser, cross-attention, feed-forward network."""
        visual_RLC = visual_RLC + self.attn1(self.norm1(visual_RLC), attention_mask=masks[0], **options)
        if grounding is not None:
            visual_RLC = self.fuser(visual_RLC, grounding)
        if keys is not None:
            options = {**options, "keys": keys}
        visual_RLC = visual_RLC + self.attn2(
            self.norm2(visual_RLC), encoder_hidden_states=text_RLD, attention_mask=masks[1], **options
        )
        output_RLC: Tensor = visual_RLC + self.ff(self.norm3(visual_RLC))
        return output_RLC


def attach_fuser(name: str, block: BasicTransformerBlock, token_width: int) -> None:
    """Make a block of diffusers one of ours, with a fuser whose gates are 0; ValueError for blocks of another kind."""
    is_plain = block.norm_type == "layer_norm" and block.attn2 is not None and block.pos_embed is None
    if not is_plain or block.only_cross_attention or block.double_self_attention:
        raise ValueError(f"{name}: not a transformer block as Stable Diffusion 1.5 has them")
    block.__class__ = InstanceBlock
    block.name = name
    block.fuser = GatedSelfAttention(f"{name}.fuser", block.attn1.query_dim, token_width, block.attn1.heads)
    for part in (block.attn1, block.attn2):
        part.set_processor(CachedCrossAttention())
