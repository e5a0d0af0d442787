"""Randomness is an argument: a stream of draws belongs to a seed and to the names of what it is drawn for.

The stream of (seed, picture, instance) is the same in any batch, worker, process or order of work.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """The numpy stream of a seed and names, e.g. `generator(params.seed, "scribble", key, index)`."""
    return np.random.default_rng(int.from_bytes(_digest(seed, names), "big"))


def derive(seed: int, *names: str | int) -> int:
    """A seed of its own for something that takes one, e.g. each split's scenes."""
    return int.from_bytes(_digest(seed, names)[:6], "big")


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """The same for torch, on the CPU: noise drawn there is the same whatever device it goes to."""
    import torch

    return torch.Generator().manual_seed(int.from_bytes(_digest(seed, names)[:8], "big", signed=True))


def _digest(seed: int, names: tuple[str | int, ...]) -> bytes:
    """SHA-256 of the JSON of seed and names; JSON keeps ("ab", "c") and ("a", "bc"), 1 and "1" apart."""
    return hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
