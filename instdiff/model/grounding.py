"""Text and instance conditioning of a batch, with keys and values cached for all steps.

Shapes: B pictures, R rows, L visual tokens or text positions, T instance tokens, K = L + T, D features,
W width of an instance token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

KeyValues = Mapping[str, tuple[Tensor, Tensor]]  # layer -> keys and values (B, heads, T, channels of a head)


@dataclass(frozen=True)
class Grounding:
    """The instances of a forward pass: tokens (B, T, W), attention masks, and the gate that scales what they add.

    `allowed[L]` is (B, L, L + T) bool for the level with L visual tokens; a level without an entry is not masked.
    At gate 0 the fusers are not evaluated. A fuser without an entry in `keys` computes keys and values from the tokens.
    """

    tokens_BTW: Tensor
    allowed: Mapping[int, Tensor] = field(default_factory=dict)
    gate: float = 1.0
    keys: KeyValues = field(default_factory=dict)

    def at(self, gate: float) -> Grounding:
        """The same with another gate."""
        return replace(self, gate=gate)

    def to(self, device: torch.device | str) -> Grounding:
        """The same on another device."""
        allowed = {size: mask.to(device) for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW.to(device), allowed=allowed, keys=kv_to(self.keys, device))

    def rows(self, index: Tensor | slice | Sequence[int]) -> Grounding:
        """The pictures at `index`."""
        allowed = {size: mask[index] for size, mask in self.allowed.items()}
        return replace(self, tokens_BTW=self.tokens_BTW[index], allowed=allowed, keys=kv_rows(self.keys, index))


def cat(groundings: Sequence[Grounding]) -> Grounding:
    """The pictures of several, one after the other; masks and gates must agree in kind."""
    first = groundings[0]
    if any(other.gate != first.gate for other in groundings):
        raise ValueError("groundings of different gates cannot share a forward pass")
    sizes = sorted({size for grounding in groundings for size in grounding.allowed})
    allowed = {size: torch.cat([_allowed(grounding, size) for grounding in groundings]) for size in sizes}
    tokens_BTW = torch.cat([grounding.tokens_BTW for grounding in groundings])
    return Grounding(tokens_BTW, allowed, first.gate, kv_cat([grounding.keys for grounding in groundings]))


def kv_rows(keys: KeyValues, index: Tensor | slice | Sequence[int]) -> KeyValues:
    """The pictures at `index`."""
    return {name: (key[index], value[index]) for name, (key, value) in keys.items()}


def kv_to(keys: KeyValues, device: torch.device | str) -> KeyValues:
    """The same on another device."""
    return {name: (key.to(device), value.to(device)) for name, (key, value) in keys.items()}


def kv_cat(several: Sequence[KeyValues]) -> KeyValues:
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


@dataclass(frozen=True)
class TextAndGrounding:
    """Text, instances, and the text's cached keys and values by the name of the cross-attention that reads them."""

    text_RLD: Tensor
    grounding: Grounding | None = None
    keys: KeyValues = field(default_factory=dict)

    def rows(self, index: Tensor | slice | Sequence[int]) -> TextAndGrounding:
        """The rows at `index`."""
        grounding = None if self.grounding is None else self.grounding.rows(index)
        return TextAndGrounding(self.text_RLD[index], grounding, kv_rows(self.keys, index))

    def to(self, device: torch.device | str) -> TextAndGrounding:
        """The same on another device."""
        grounding = None if self.grounding is None else self.grounding.to(device)
        return TextAndGrounding(self.text_RLD.to(device), grounding, kv_to(self.keys, device))

    def __len__(self) -> int:
        return len(self.text_RLD)


def cat_rows(parts: Sequence[TextAndGrounding]) -> TextAndGrounding:
    """The rows of several, one after the other; all have a grounding or none has."""
    text_RLD = torch.cat([part.text_RLD for part in parts])
    groundings = [part.grounding for part in parts if part.grounding is not None]
    if len(groundings) not in {0, len(parts)}:
        raise ValueError("give a grounding and a null grounding, or neither")
    return TextAndGrounding(text_RLD, cat(groundings) if groundings else None, kv_cat([part.keys for part in parts]))
