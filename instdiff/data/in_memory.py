"""Every sample of a run in memory.

Legend: S samples, V 2 views (as stored, mirrored), B batch, N slots, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from instdiff.data.embeddings import Embedded, Empty, join
from instdiff.data.samples import Gathered, fitting, laid_out, padded
from instdiff.model import conditions
from instdiff.model.conditions import Compat
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Layout


class Memory:
    """Every sample in memory, both views laid out as conditions."""

    def __init__(
        self,
        layouts: Sequence[Layout],
        parts: Sequence[Embedded],
        empty: Empty,
        config: UniFusionConfig,
        compat: Compat | None,
    ) -> None:
        self.empty, self.sizes = empty, tuple(len(part.keys) for part in parts)
        self.embedded = embedded = join(list(parts))
        captions = [embedded.phrases(number) for number in range(len(layouts))]
        self.drawn = laid_out(layouts, captions, config, compat)
        self.views = (self.drawn, conditions.mirrored(self.drawn))
        categories = [
            embedded.categories(number)[fitting(layout, config.max_instances)] for number, layout in enumerate(layouts)
        ]
        self.category_SND = padded(categories, self.drawn.text_BND)

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        view_B = mirrored_B.long()
        both = conditions.cat([view.rows(chosen_B) for view in self.views])
        return Gathered(
            self.embedded.latent_mean_SVChw[chosen_B, view_B].float(),
            self.embedded.latent_std_SVChw[chosen_B, view_B].float(),
            self.embedded.prompt_SLD[chosen_B].float(),
            both.rows(torch.arange(len(chosen_B)) + len(chosen_B) * view_B),
            self.category_SND[chosen_B],
        )
