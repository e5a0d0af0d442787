"""The order of samples: which one stands at each place of a run, by the seed and the place alone.

No list of all samples is ever made. Several sets are mixed in cycles, in each of which every set has its share to the
sample. In epochs the shards of a set come in a drawn order, and the samples of `window` neighbours are mixed: so the
disk is read shard by shard, or a store file by file, and what is in memory is one window. A window as wide as the set
mixes everything, for eight bytes a sample.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from instdiff.randomness import generator

CYCLE = 10_000  # samples; a set with less than a share of one in so many cannot be shown
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class SampleSet:
    """Shards that belong together."""

    sizes: tuple[int, ...]  # samples in each shard
    weight: float = 1.0  # the set's share of the samples shown is its weight over the sum of all


def mixed(seed: int, weights: tuple[float, ...], places: Numbers) -> tuple[Numbers, Numbers]:
    """Which set the sample at each place of a run is of, and how many of that set came before it."""
    sets, before = np.empty_like(places), np.empty_like(places)
    cycles, within = np.divmod(places, CYCLE)
    for cycle in np.unique(cycles):
        here = cycles == cycle
        set_at, ranks = _cycle(seed, int(cycle), weights)
        sets[here] = set_at[within[here]]
        before[here] = cycle * quotas(weights)[sets[here]] + ranks[within[here]]
    return sets, before


@lru_cache(maxsize=64)
def quotas(weights: tuple[float, ...]) -> Numbers:
    """How many samples of a cycle are of each set, nearest to the weights."""
    exact = np.array(weights) / sum(weights) * CYCLE
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: CYCLE - whole.sum()]] += 1
    return whole


@lru_cache(maxsize=4)
def _cycle(seed: int, cycle: int, weights: tuple[float, ...]) -> tuple[Numbers, Numbers]:
    """The set at each place of a cycle, and how many of that set the cycle had before."""
    sets = generator(seed, "mixture", cycle).permutation(np.repeat(np.arange(len(weights)), quotas(weights)))
    ranks = np.empty_like(sets)
    for number in range(len(weights)):
        ranks[sets == number] = np.arange((sets == number).sum())
    return sets, ranks


def in_epochs(seed: int, number: int, sizes: tuple[int, ...], window: int, every: int, places: Numbers) -> Numbers:
    """The samples at these places of set `number`: the first `every` once in an epoch, then again in another order."""
    samples = np.empty_like(places)
    epochs, within = np.divmod(places, every)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ends = _windows(seed, number, int(epoch), sizes, window, every)[1]
        windows = np.searchsorted(ends, within[here], side="right")
        numbers = np.empty_like(windows)
        for place in np.unique(windows):
            inside = windows == place
            in_window = _window(seed, number, int(epoch), sizes, window, every, int(place))
            numbers[inside] = in_window[within[here][inside] - (ends[place] - len(in_window))]
        samples[here] = numbers
    return samples


@lru_cache(maxsize=8)
def _windows(
    seed: int, number: int, epoch: int, sizes: tuple[int, ...], window: int, every: int
) -> tuple[Numbers, Numbers]:
    """The order of the shards in an epoch, and the places at which its windows end."""
    order = generator(seed, "epoch", number, epoch).permutation(len(sizes))
    first = np.cumsum([0, *sizes[:-1]])
    shown = np.clip(every - first, 0, sizes)
    return order, np.cumsum(np.add.reduceat(shown[order], np.arange(0, len(order), window)))


@lru_cache(maxsize=8)
def _window(seed: int, number: int, epoch: int, sizes: tuple[int, ...], window: int, every: int, place: int) -> Numbers:
    """The samples of a window, mixed."""
    order, _ = _windows(seed, number, epoch, sizes, window, every)
    first = np.cumsum([0, *sizes])
    shards = order[place * window : (place + 1) * window]
    samples = np.concatenate([np.arange(first[shard], first[shard + 1]) for shard in shards])
    order_of_all: Numbers = generator(seed, "epoch", number, epoch, place).permutation(samples)
    return order_of_all[order_of_all < every]
