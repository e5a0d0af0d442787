"""What is counted of prepared data in one pass, and which of its pictures are to be seen.

Memory: a number for each category, and eight bytes a picture, by which equal files are found.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.prepared import Chunk
from instdiff.layouts.formats import FORMATS
from instdiff.randomness import derive
from instdiff.schema import Box

Bins = tuple[tuple[str, float], ...]  # each with its upper limit, which it includes

COUNTS: Bins = (("0", 0), ("1", 1), ("2–3", 3), ("4–8", 8), ("9–30", 30), ("more than 30", np.inf))
WORDS: Bins = (("0", 0), ("1–2", 2), ("3–5", 5), ("6–10", 10), ("11–20", 20), ("21–50", 50), ("more than 50", np.inf))
SHARES: Bins = (("under 1 %", 0.01), ("1–4 %", 0.04), ("4–16 %", 0.16), ("16–50 %", 0.5), ("over 50 %", np.inf))
SIDES: Bins = (("up to 128", 128), ("129–256", 256), ("257–512", 512), ("513–1024", 1024), ("over 1024", np.inf))
SIZES: Bins = (("small", 0.04), ("medium", 0.16), ("large", np.inf))  # of an instance: share of the picture
MOST_CATEGORIES = 100_000  # beyond so many, those seen once are counted together


class Draw(NamedTuple):
    """A picture that is to be shown: the lower its number, the sooner."""

    number: int
    place: int


class Short(NamedTuple):
    """A caption of so few words that it says nearly nothing."""

    key: str
    text: str


class Tally:
    """Counts, chunk by chunk."""

    def __init__(self, seed: int, num_drawn: int, num_each_category: int, short: int, num_short: int) -> None:
        self._seed, self._num_drawn, self._num_each = seed, num_drawn, num_each_category
        self._short, self._num_short = short, num_short
        self.pictures = self.instances = 0
        self.categories: Counter[str] = Counter()
        self.rare = 0  # instances whose categories were seen once, where there are too many of them
        self.located: Counter[str] = Counter()  # instances that have each location format
        self.histograms: dict[str, Counter[str]] = {
            name: Counter() for name in ("instances", "boxes", "captions", "phrases", "sides")
        }
        self.short_captions, self.short_phrases = 0, 0
        self.examples: dict[str, list[Short]] = {"captions": [], "phrases": []}
        self._drawn: list[tuple[int, int]] = []  # a heap, the largest draw first
        self._by_category: dict[str, list[tuple[int, int]]] = {}
        self._digests: list[NDArray[np.uint64]] = []

    def add(self, chunk: Chunk) -> None:
        """Count a chunk, which follows those before."""
        images, instances = chunk
        start, keys = self.pictures, list(images["key"])
        self.pictures += len(images)
        self.instances += len(instances)
        sums = images["sha256"].to_list()
        self._digests.append(np.array([int(digest[:16], 16) for digest in sums], dtype=np.uint64))
        per_picture = instances["key"].value_counts().reindex(keys, fill_value=0)
        self._histogram("instances", per_picture.to_numpy(), COUNTS)
        self._histogram("sides", images[["width", "height"]].min(axis=1).to_numpy(), SIDES)
        self._words("captions", keys, images["caption"].to_list())
        self._words("phrases", list(instances["key"]), instances["caption"].to_list())
        boxes = instances["box"][instances["box"].notna()]
        self._histogram("boxes", np.array([Box(*box).area for box in boxes]), SHARES)
        for name in FORMATS:
            self.located[name] += int(instances[name].notna().sum())
        self._draw(start, keys, instances)
        named = instances["category"].dropna()
        self.categories.update(named)
        if len(self.categories) > MOST_CATEGORIES:
            self._forget_rare()

    def draws(self) -> list[Draw]:
        """Pictures entry from all, in the order of their draws: the first so many are a sample of any size."""
        return sorted(Draw(-number, place) for number, place in self._drawn)

    def draws_of(self, category: str) -> list[Draw]:
        """Pictures entry from those that have an instance of a category."""
        return sorted(Draw(-number, place) for number, place in self._by_category.get(category, ()))

    def same_files(self) -> list[list[int]]:
        """The places of pictures whose files are the same bytes, a list for each such file, the longest first."""
        digests = np.concatenate(self._digests) if self._digests else np.zeros(0, np.uint64)
        order = np.argsort(digests, kind="stable")
        borders = np.flatnonzero(np.diff(digests[order])) + 1
        ends = np.concatenate([borders, [len(order)]])
        starts = np.concatenate([[0], borders])
        several = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > 1]
        return sorted(
            (sorted(order[start:end].tolist()) for start, end in several), key=lambda places: (-len(places), places)
        )

    def _draw(self, start: int, keys: Sequence[str], instances: pd.DataFrame) -> None:
        draws = {key: (-derive(self._seed, "look", key), start + place) for place, key in enumerate(keys)}
        for entry in draws.values():
            _push(self._drawn, entry, self._num_drawn)
        pairs = instances[["category", "key"]].dropna().drop_duplicates()
        for category, key in pairs.itertuples(index=False):
            _push(self._by_category.setdefault(category, []), draws[key], self._num_each)

    def _forget_rare(self) -> None:
        rare = [name for name, count in self.categories.items() if count == 1]
        self.rare += len(rare)
        for name in rare:
            del self.categories[name]
            self._by_category.pop(name, None)

    def _words(self, name: str, keys: Sequence[str], texts: Sequence[str | None]) -> None:
        lengths = np.array([len((text or "").split()) for text in texts], dtype=np.int64)
        self._histogram(name, lengths, WORDS)
        few = np.flatnonzero(lengths <= self._short)
        if name == "captions":
            self.short_captions += len(few)
        else:
            self.short_phrases += len(few)
        room = self._num_short - len(self.examples[name])
        self.examples[name] += [Short(keys[place], texts[place] or "") for place in few[:room]]

    def _histogram(self, name: str, values: NDArray[np.generic], bins: Bins) -> None:
        limits = [limit for _, limit in bins]
        counts = np.bincount(np.searchsorted(limits, values, side="left"), minlength=len(bins))
        self.histograms[name].update({label: int(count) for (label, _), count in zip(bins, counts, strict=True)})


def label_of(value: float, bins: Bins) -> str:
    """The bin that a value falls into."""
    return next(label for label, limit in bins if value <= limit)


def _push(heap: list[tuple[int, int]], entry: tuple[int, int], most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif most:
        heapq.heappushpop(heap, entry)
