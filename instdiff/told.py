"""What the rows of a batch are told, and what each attention layer makes of it: the same in every step.

Shapes: R rows, L text positions, D features, T tokens, heads x E channels of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from instdiff import fuser
from instdiff.fuser import Grounding, Keys


@dataclass(frozen=True)
class Told:
    """Text, instances, and keys and values of the text by the name of the cross-attention that looks at them."""

    text_RLD: Tensor
    grounding: Grounding | None = None
    keys: Keys = field(default_factory=dict)

    def rows(self, index: Tensor | slice | Sequence[int]) -> Told:
        """The rows at `index`."""
        grounding = None if self.grounding is None else self.grounding.rows(index)
        return Told(self.text_RLD[index], grounding, fuser.rows_of(self.keys, index))

    def to(self, device: torch.device | str) -> Told:
        """The same on another device."""
        grounding = None if self.grounding is None else self.grounding.to(device)
        return Told(self.text_RLD.to(device), grounding, fuser.keys_to(self.keys, device))

    def __len__(self) -> int:
        return len(self.text_RLD)


def cat(parts: Sequence[Told]) -> Told:
    """The rows of several, one after the other; all have a grounding or none has."""
    text_RLD = torch.cat([part.text_RLD for part in parts])
    known = [part.grounding for part in parts if part.grounding is not None]
    if len(known) not in {0, len(parts)}:
        raise ValueError("give a grounding and a null grounding, or neither")
    return Told(text_RLD, fuser.cat(known) if known else None, fuser.cat_keys([part.keys for part in parts]))


class RememberedText(AttnProcessor2_0):
    """Attention whose keys and values of the text may have been made before: `keys` holds them by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        keys: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """(R, L, channels), as AttnProcessor2_0 gives it."""
        if keys is None or self.name not in keys or attention_mask is not None:
            plain: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        taken = F.scaled_dot_product_attention(fuser.heads(attn, attn.to_q(hidden_states)), *keys[self.name])
        looked: Tensor = attn.to_out[0](taken.transpose(1, 2).flatten(2))
        return looked
