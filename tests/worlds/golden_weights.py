"""Weights that need no file: values drawn from the name of each weight, as the golden vectors were made."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_SEED = 20240205


def drawn(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A weight for each official name and shape."""
    return {name: torch.from_numpy(np.asarray(_drawn(name, tuple(shape)))) for name, shape in shapes.items()}


def equal(weights: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Are these the same weights under the same names?"""
    return weights.keys() == other.keys() and all(torch.equal(weights[name], other[name]) for name in weights)


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    stream = np.random.RandomState((zlib.crc32(name.encode()) ^ _SEED) & 0xFFFFFFFF)
    z = stream.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape)
    last = name.rpartition(".")[2]
    if last in {"alpha_attn", "alpha_dense"}:
        return np.float32(0.5) + np.float32(0.25) * z
    if last.startswith("scaleu_"):
        return np.float32(0.3) * z
    if last in {"gamma", "pos_embedding"} or last.startswith("null_"):
        return np.float32(0.5) * z
    if z.ndim >= 2:
        return z / np.float32(np.sqrt(np.prod(shape[1:])))
    return np.float32(1) + np.float32(0.1) * z if last == "weight" else np.float32(0.05) * z
