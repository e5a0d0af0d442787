"""Scenes to train a foundation on: rendered once, kept as arrays, drawn by step number."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from instdiff.progress import track
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.scenes import BACKGROUNDS, Scene, scene

CHUNK = 64
# Every word a prompt can hold, often enough to become a token of its own.
SENTENCES = [
    f"a {word} and on a {place} background" for word in (*COLOURS, *TEXTURES, *SHAPES) for place in BACKGROUNDS
]


@dataclass(frozen=True)
class Corpus:
    """Scenes by number; pictures_NHWC is uint8."""

    scenes: tuple[Scene, ...]
    pictures_NHWC: npt.NDArray[np.uint8]

    @property
    def captions(self) -> list[str]:
        """The prompt of each scene."""
        return [scene.caption for scene in self.scenes]


def rendered(seed: int, count: int, groups: Sequence[str], workers: int) -> Corpus:
    """The first `count` scenes of a seed, taking the groups in turn; the same for any number of workers."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    render = partial(_chunk, seed, tuple(groups))
    with ExitStack() as stack:
        ordered: Callable[..., Iterable[list[Scene]]] = map
        if workers > 1:  # a worker starts by importing what this process has: seconds
            ordered = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn"))).map
        scenes = tuple(scene for chunk in track(ordered(render, chunks), len(chunks), "chunk") for scene in chunk)
    return Corpus(scenes, np.stack([scene.picture for scene in scenes]))


def _chunk(seed: int, groups: tuple[str, ...], numbers: range) -> list[Scene]:
    return [scene(seed, number // len(groups), groups[number % len(groups)]) for number in numbers]
