"""Samples as they are stored, and what the model is shown of them.

Legend: B samples, N slots, D features, L tokens, C channels, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from instdiff.data.embeddings import Empty
from instdiff.model import conditions
from instdiff.model.conditions import Compat, Conditions, collate
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Layout


@dataclass(frozen=True)
class Gathered:
    """Some samples as they are stored, in the views asked for."""

    latent_mean_BChw: Tensor
    latent_std_BChw: Tensor
    prompt_BLD: Tensor
    conditions: Conditions
    category_BND: Tensor  # features of the categories, where `conditions` has those of the captions


class Source(Protocol):
    """Where samples come from."""

    empty: Empty
    sizes: tuple[int, ...]  # samples in each shard

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        ...


def fitting(layout: Layout, slots: int) -> list[int]:
    """Places of the instances a model is shown: all, in their order, or of too many those with the largest boxes."""
    places = list(range(len(layout.instances)))
    if len(places) <= slots:
        return places
    areas = [0.0 if one.box is None else one.box.area for one in layout.instances]
    return sorted(places, key=lambda place: -areas[place])[:slots]


def laid_out(
    layouts: Sequence[Layout], captions: Sequence[Tensor], config: UniFusionConfig, compat: Compat | None
) -> Conditions:
    """Conditions of layouts, a (instances, D) tensor of phrase features each; as many instances as there are slots."""
    features = {
        instance.phrase: feature
        for layout, of_layout in zip(layouts, captions, strict=True)
        for instance, feature in zip(layout.instances, of_layout, strict=True)
    }
    shown = [
        layout.model_copy(
            update={"instances": tuple(layout.instances[place] for place in fitting(layout, config.max_instances))}
        )
        for layout in layouts
    ]
    return collate(
        [conditions.complete(layout, compat) for layout in shown],
        features or {"": torch.zeros(config.text_width)},
        max_instances=config.max_instances,
        mask_size=config.mask_size,
        num_scribble_points=config.num_scribble_points,
        num_outline_points=config.num_outline_points,
        compat=compat,
    )


def turned(drawn: Conditions, mirrored_B: Tensor) -> Conditions:
    """Each row as drawn, or mirrored."""
    both = conditions.cat([drawn, conditions.mirrored(drawn)])
    return both.rows(torch.arange(len(drawn)) + len(drawn) * mirrored_B.long())


def padded(features: Sequence[Tensor], like_BND: Tensor) -> Tensor:
    """(B, N, D): each (instances, D) filled up with zeros."""
    filled_BND = torch.zeros_like(like_BND)
    for row, one in enumerate(features):
        filled_BND[row, : len(one)] = one.float()
    return filled_BND
