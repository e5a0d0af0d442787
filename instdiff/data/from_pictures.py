"""Samples encoded by the frozen encoders when they are needed, from the pictures in the shards; nothing is cached.

Legend: B batch, V views, C channels, h w latent cells, L tokens, D features.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from instdiff.data.embeddings import Empty
from instdiff.data.encoders import Texts, latents, pixels
from instdiff.data.from_shards import ShardIndex, ShardSet
from instdiff.data.samples import Gathered, gathered
from instdiff.layouts.prompts import Prompts, prompt
from instdiff.model.unifusion import UniFusionConfig
from instdiff.networks import clip, vae
from instdiff.schema import Compat


class Encoders(NamedTuple):
    """Folders of what turns texts and pictures into what the base reads."""

    text: Path
    vae: Path


class FromPictures(ShardIndex):
    """Pictures are read by `threads` at once, texts encoded `batch_size` at once; encoders run where training runs."""

    def __init__(
        self,
        where: Sequence[ShardSet],
        encoders: Encoders,
        batch_size: int,
        prompts: Prompts,
        config: UniFusionConfig,
        compat: Compat | None,
        device: torch.device,
        threads: int,
    ) -> None:
        super().__init__(where)
        self.prompts, self.config, self.compat = prompts, config, compat
        encoder = clip.load_text(encoders.text)
        encoder.model.to(device)
        self.tokens, self.pooled = (
            Texts(encode, batch_size, torch.float32) for encode in (encoder.tokens, encoder.pooled)
        )
        self.vae = vae.load(encoders.vae).to(device)
        self.empty = Empty(self.tokens([""])[0], self.pooled([""])[0], prompts.rule)
        self.readers = ThreadPoolExecutor(max(1, threads))

    def gather(self, chosen_B: Tensor, mirrored_B: Tensor) -> Gathered:
        """These samples, mirrored or not."""
        samples = list(self.readers.map(self.sample, chosen_B.tolist()))
        layouts = [sample.layout for sample in samples]
        prompt_BLD = self.tokens([prompt(layout, self.prompts) for layout in layouts])
        phrases = [[instance.phrase for instance in layout.instances] for layout in layouts]
        names = [[instance.category or instance.phrase for instance in layout.instances] for layout in layouts]
        self.pooled(
            [text for texts in (*phrases, *names) for text in texts] or [""]
        )  # all at once; the cache serves the lines below
        captions, categories = ([self._features(texts) for texts in of_all] for of_all in (phrases, names))
        for texts in (self.tokens, self.pooled):
            texts.clear()
        seen_BCHW = pixels(samples, self.vae)
        shown_BCHW = torch.where(mirrored_B.to(seen_BCHW.device)[:, None, None, None], seen_BCHW.flip(-1), seen_BCHW)
        mean_BChw, std_BChw = latents(shown_BCHW, self.vae)
        on_cpu = mean_BChw.cpu(), std_BChw.cpu()
        return gathered(layouts, captions, categories, on_cpu, prompt_BLD, mirrored_B, self.config, self.compat)

    def _features(self, phrases: Sequence[str]) -> Tensor:
        return self.pooled(["", *phrases])[1:]
