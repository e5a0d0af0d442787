"""Batches: the samples of each training step, as a function of the seed and the step alone.

The samples of a run lie in memory or stay in the shards; the batches are the same to the bit. A batch is chosen whole
and cut into equal shares, one for each part of each process: how many there are changes nothing but rounding.

Legend: S samples, V 2 views (stored, mirrored), B batch, N slots, C channels, h w latent cells, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from instdiff.data import order
from instdiff.data.format_dropout import DropChances, keep_from_draws, withhold
from instdiff.data.samples import Gathered, Source
from instdiff.layouts.prompts import Prompts
from instdiff.model.conditions import Conditions
from instdiff.model.noise_schedule import stratified_timesteps, uniform_timesteps
from instdiff.progress import Watch
from instdiff.randomness import generator, torch_generator
from instdiff.schema import Compat, Share, Strict


class Recipe(Strict):
    """What of a sample the model is shown."""

    batch_size: PositiveInt  # of all processes together
    order: Literal["anywhere", "epochs"]  # "epochs" shows each sample once before any comes again
    window: PositiveInt  # shards read at a time, whose samples are mixed, in epochs
    mirror: Share  # share of samples shown mirrored
    latent_spread: NonNegativeFloat  # 1 draws latents from the autoencoder's posterior, 0 takes its mean
    prompts: Prompts
    drop_caption: Share  # share of samples without the prompt
    instance_captions: Share  # share of instances described by caption, the rest by category ("random_blip")
    odds: DropChances  # of withholding formats
    timesteps: Literal["stratified", "uniform"]  # noise levels: spread over each batch, or each at random
    compat: Compat | None  # "reference" withholds formats from a whole share at once, and reads zeros as given


@dataclass(frozen=True)
class Batch:
    """What the loss is computed from."""

    latents_BChw: Tensor
    noise_BChw: Tensor
    timesteps_B: Tensor
    prompts_BLD: Tensor
    conditions: Conditions

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same where a GPU can fetch it by itself (a name that torch's loader looks for)."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """`change` applied to every tensor."""
        return Batch(
            change(self.latents_BChw),
            change(self.noise_BChw),
            change(self.timesteps_B),
            change(self.prompts_BLD),
            self.conditions.map(change),
        )


@dataclass(frozen=True)
class Batches:
    """Batch number k of a process: its share of part k % accumulate of step k // accumulate."""

    source: Source
    recipe: Recipe
    seed: int
    rank: int
    num_processes: int
    accumulate: int  # batches whose gradients make one step
    held_out: int  # samples at the end that are not shown

    def __post_init__(self) -> None:
        if self.recipe.batch_size % self._shares:
            raise ValueError(
                f"train.recipe.batch_size {self.recipe.batch_size} cannot be shared equally by "
                f"{self.num_processes} processes in {self.accumulate} parts"
            )
        least = self.recipe.batch_size if self.recipe.order == "epochs" else 1
        shown = sum(self._shown)
        if shown < least:
            raise ValueError(f"{shown} samples to train on; {least} are needed")
        if not all(self._shown) or not all(order.quotas(self._weights)):
            raise ValueError(
                f"of the sets of train.data.mixture, with {self._shown} samples to train on and the weights "
                f"{self._weights}, one would never be shown"
            )

    def __getitem__(self, number: int) -> Batch:
        step, part = divmod(number, self.accumulate)
        size = self.recipe.batch_size // self._shares
        start = (part * self.num_processes + self.rank) * size
        return self._batch(step, slice(start, start + size))

    @property
    def _shares(self) -> int:
        return self.num_processes * self.accumulate

    @property
    def _weights(self) -> tuple[float, ...]:
        return tuple(sample_set.weight for sample_set in self.source.sets)

    @property
    def _shown(self) -> tuple[int, ...]:
        """Samples of each set, without those that are held out."""
        sizes = np.array([sum(sample_set.sizes) for sample_set in self.source.sets])
        left = sizes.sum() - self.held_out
        return tuple(np.clip(left - (sizes.cumsum() - sizes), 0, sizes).tolist())

    def _batch(self, step: int, share: slice) -> Batch:
        """Do not reorder these draws: every trained model depends on them."""
        how, count = self.recipe, self.recipe.batch_size
        draw, noise = generator(self.seed, "train", step), torch_generator(self.seed, "train", step)
        chosen = torch.from_numpy(self._chosen(step, draw))[share]
        mirrored = torch.from_numpy(draw.random(count) < how.mirror)[share]
        silent_B = torch.from_numpy(draw.random(count) < how.drop_caption)[share]
        gathered = self.source.gather(chosen, mirrored)
        shape = (count, *gathered.latent_mean_BChw.shape[1:])
        spread_BChw = how.latent_spread * torch.randn(shape, generator=noise)[share]
        uniforms = torch.rand(self._shares if how.compat else count, len(DropChances.model_fields), generator=noise)
        uniforms_B10 = uniforms.repeat_interleave(count // len(uniforms), 0)[share]
        noise_BChw = torch.randn(shape, generator=noise)[share]
        draw_timesteps = stratified_timesteps if how.timesteps == "stratified" else uniform_timesteps
        timesteps_B = draw_timesteps(count, noise)[share]
        described = self._described(gathered, draw, share)
        return Batch(
            latents_BChw=gathered.latent_mean_BChw + spread_BChw * gathered.latent_std_BChw,
            noise_BChw=noise_BChw,
            timesteps_B=timesteps_B,
            prompts_BLD=torch.where(silent_B[:, None, None], self.source.empty.prompt_LD.float(), gathered.prompt_BLD),
            conditions=withhold(described, keep_from_draws(uniforms_B10, how.odds)),
        )

    def _chosen(self, step: int, draw: np.random.Generator) -> NDArray[np.int64]:
        how, sets = self.recipe, self.source.sets
        places = np.arange(step * how.batch_size, (step + 1) * how.batch_size)
        set_B, before_B = order.mixed(self.seed, self._weights, places)
        chosen_B, first = np.empty_like(places), 0
        for number, (sample_set, shown) in enumerate(zip(sets, self._shown, strict=True)):
            own = set_B == number
            if how.order == "anywhere":
                chosen_B[own] = first + draw.integers(shown, size=own.sum())
            else:
                in_set = order.in_epochs(self.seed, number, sample_set.sizes, how.window, shown, before_B[own])
                chosen_B[own] = first + in_set
            first += sum(sample_set.sizes)
        return chosen_B

    def _described(self, gathered: Gathered, draw: np.random.Generator, share: slice) -> Conditions:
        """Each instance described by its caption or by its category."""
        slots = gathered.category_BND.shape[1]
        by_caption = draw.random((self.recipe.batch_size, slots))[share] < self.recipe.instance_captions
        text_BND = torch.where(
            torch.from_numpy(by_caption)[..., None], gathered.conditions.text_BND, gathered.category_BND
        )
        return replace(gathered.conditions, text_BND=text_BND)


class Feed:
    """Batches in order, prepared ahead by worker processes; the time spent waiting goes to `watch`."""

    def __init__(self, batches: Batches, stop: int, workers: int, device: torch.device, watch: Watch) -> None:
        self.batches, self.stop, self.workers = batches, stop, workers
        self.device, self.watch = device, watch
        self.next = -1
        self.batches_ahead: Iterator[Batch] = iter(())

    def __call__(self, number: int) -> Batch:
        """Batch `number` on the device; quickest if it follows the last one."""
        began = perf_counter()
        if self.workers == 0:
            batch = self.batches[number]
        else:
            if number != self.next:
                self.batches_ahead = iter(self._loader(number))
            batch, self.next = next(self.batches_ahead), number + 1
        on_device = batch.to(self.device)
        self.watch.waited += perf_counter() - began
        return on_device

    def _loader(self, start: int) -> DataLoader[Batch]:
        return DataLoader(
            self.batches,  # type: ignore[arg-type]
            sampler=range(start, self.stop),
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=self.device.type == "cuda",
        )


def _as_it_is(batch: Any) -> Any:
    return batch
