"""Samples as they are stored, and as the model reads them.

Legend: B samples, N slots, D features, L tokens, C channels, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from instdiff.data.embeddings import Empty
from instdiff.data.order import SampleSet
from instdiff.layouts.complete import complete
from instdiff.model import conditions
from instdiff.model.conditions import Conditions, collate
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Compat, Layout


@dataclass(frozen=True)
class Gathered:
    """Some samples, each as stored or mirrored; float32."""

    latent_mean_BChw: Tensor
    latent_std_BChw: Tensor
    prompt_BLD: Tensor
    conditions: Conditions
    category_BND: Tensor  # features of the categories, where `conditions` has those of the captions


class Source(Protocol):
    """Where samples come from."""

    empty: Empty
    sets: tuple[SampleSet, ...]  # whose samples are numbered one set after the other

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        ...


def gathered(
    layouts: Sequence[Layout],
    captions: Sequence[Tensor],
    categories: Sequence[Tensor],
    latents: tuple[Tensor, Tensor],
    prompt_BLD: Tensor,
    mirrored_B: Tensor,
    config: UniFusionConfig,
    compat: Compat | None,
) -> Gathered:
    """Samples from what is stored of them.

    `captions` and `categories` hold a (instances, D) tensor of features a layout; `latents` are mean and standard
    deviation, in the view of the picture that `mirrored_B` says.
    """
    stored = laid_out(layouts, captions, config, compat)
    as_seen = conditions.where(mirrored_B, conditions.mirrored(stored), stored)
    category_BND = torch.zeros_like(stored.text_BND)
    for row, (layout, features_ID) in enumerate(zip(layouts, categories, strict=True)):
        places = fitting(layout, config.max_instances)
        category_BND[row, : len(places)] = features_ID[places].float()
    mean_BChw, std_BChw = latents
    return Gathered(mean_BChw.float(), std_BChw.float(), prompt_BLD.float(), as_seen, category_BND)


def fitting(layout: Layout, slots: int) -> list[int]:
    """Places of the instances a model is shown: all, in their order, or of too many those with the largest boxes."""
    places = list(range(len(layout.instances)))
    if len(places) <= slots:
        return places
    areas = [0.0 if instance.box is None else instance.box.area for instance in layout.instances]
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
    fitted = [
        layout.model_copy(
            update={"instances": tuple(layout.instances[place] for place in fitting(layout, config.max_instances))}
        )
        for layout in layouts
    ]
    completed = [complete(layout, config, compat) for layout in fitted]
    return collate(completed, features or {"": torch.zeros(config.text_width)}, config)
