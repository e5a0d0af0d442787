"""Batches: the samples of each training step, as a function of the seed and the step alone.

The samples of a run lie in memory or stay in the shards; the batches are the same to the bit. A batch is chosen whole
and cut into equal shares, one for each part of each process: how many there are changes nothing but rounding.

Legend: S samples, V 2 views (stored, mirrored), B batch, N slots, C channels, h w latent cells, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from instdiff.data.format_dropout import DropChances, keep_from_draws, withhold
from instdiff.data.samples import Gathered, Source
from instdiff.layouts.prompts import Prompts
from instdiff.model.conditions import Conditions
from instdiff.model.noise_schedule import stratified_timesteps, uniform_timesteps
from instdiff.progress import Watch
from instdiff.randomness import generator, torch_generator
from instdiff.schema import Compat, Strict


class Recipe(Strict):
    """What of a sample the model is shown."""

    batch_size: int  # of all processes together
    order: Literal["anywhere", "epochs"]  # "epochs" shows each sample once before any comes again
    window: int  # shards read at a time, whose samples are mixed, in epochs
    mirror: float  # share of samples shown mirrored
    latent_spread: float  # 1 draws latents from the autoencoder's posterior, 0 takes its mean, as the base was trained
    prompts: Prompts
    drop_caption: float  # share of samples without the prompt
    instance_captions: float  # share of instances described by caption, the rest by category ("random_blip")
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
        if self._every < least:
            raise ValueError(f"{self._every} samples to train on; {least} are needed")

    def __getitem__(self, number: int) -> Batch:
        step, part = divmod(number, self.accumulate)
        size = self.recipe.batch_size // self._shares
        start = (part * self.num_processes + self.rank) * size
        return self._batch(step, slice(start, start + size))

    @property
    def _shares(self) -> int:
        return self.num_processes * self.accumulate

    @property
    def _every(self) -> int:
        return sum(self.source.sizes) - self.held_out

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
        count = self.recipe.batch_size
        if self.recipe.order == "anywhere":
            return draw.integers(self._every, size=count)
        epoch, place = divmod(step, self._every // count)  # what fills no batch is left out: others in every epoch
        order = epoch_order(self.seed, epoch, self.source.sizes, self.recipe.window, self._every)
        return order[place * count : (place + 1) * count]

    def _described(self, gathered: Gathered, draw: np.random.Generator, share: slice) -> Conditions:
        """Each instance described by its caption or by its category."""
        slots = gathered.category_BND.shape[1]
        by_caption = draw.random((self.recipe.batch_size, slots))[share] < self.recipe.instance_captions
        text_BND = torch.where(
            torch.from_numpy(by_caption)[..., None], gathered.conditions.text_BND, gathered.category_BND
        )
        return replace(gathered.conditions, text_BND=text_BND)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, sizes: tuple[int, ...], window: int, every: int) -> NDArray[np.int64]:
    """Each of the first `every` samples once: shards in a drawn order, the samples of `window` neighbours mixed."""
    draw = generator(seed, "epoch", epoch)
    starts, order = np.cumsum([0, *sizes]), draw.permutation(len(sizes))
    windows = [order[first : first + window] for first in range(0, len(order), window)]
    mixed = [
        draw.permutation(np.concatenate([np.arange(starts[i], starts[i + 1]) for i in shards])) for shards in windows
    ]
    whole = np.concatenate(mixed)
    return whole[whole < every]


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
