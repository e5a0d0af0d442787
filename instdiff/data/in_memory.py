"""Every sample of a run in memory.

Legend: S samples, V 2 views (as stored, mirrored), B batch, N slots, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from instdiff.data.embeddings import Embedded, Empty, join
from instdiff.data.order import SampleSet
from instdiff.data.samples import Gathered, gathered
from instdiff.model import conditions
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Compat, Layout


class InMemory:
    """Every sample in memory, in both views, its conditions already stacked."""

    def __init__(
        self,
        layouts: Sequence[Layout],
        parts: Sequence[Embedded],
        sets: tuple[SampleSet, ...],
        empty: Empty,
        config: UniFusionConfig,
        compat: Compat | None,
    ) -> None:
        self.empty, self.sets = empty, sets
        whole = join(list(parts))
        captions = [whole.phrases(number) for number in range(len(layouts))]
        categories = [whole.categories(number) for number in range(len(layouts))]

        def view(mirrored: bool) -> Gathered:
            latents = whole.latent_mean_SVChw[:, int(mirrored)], whole.latent_std_SVChw[:, int(mirrored)]
            mirrored_S = torch.full((len(layouts),), mirrored)
            return gathered(layouts, captions, categories, latents, whole.prompt_SLD, mirrored_S, config, compat)

        self.stored, self.mirrored = view(False), view(True)

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        whole_4 = mirrored_B[:, None, None, None]
        stored, mirrored = self.stored, self.mirrored
        return Gathered(
            torch.where(whole_4, mirrored.latent_mean_BChw[chosen_B], stored.latent_mean_BChw[chosen_B]),
            torch.where(whole_4, mirrored.latent_std_BChw[chosen_B], stored.latent_std_BChw[chosen_B]),
            stored.prompt_BLD[chosen_B],
            conditions.where(mirrored_B, mirrored.conditions.rows(chosen_B), stored.conditions.rows(chosen_B)),
            stored.category_BND[chosen_B],
        )
