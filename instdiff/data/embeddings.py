"""Embeddings: what training would otherwise compute in every epoch, one file beside each shard.

Legend: S samples of a shard, V = 2 views (as drawn; mirrored left to right), C channels, h, w latent cells,
L tokens of a prompt, D features, I instances of all samples, one after the other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

EMPTY_FILE = "empty.safetensors"


@dataclass(frozen=True)
class Embedded:
    """One shard: latents are the VAE's mean and standard deviation times its scaling factor."""

    keys: tuple[str, ...]
    latent_mean_SVChw: Tensor
    latent_std_SVChw: Tensor
    prompt_SLD: Tensor
    phrase_ID: Tensor
    category_ID: Tensor
    start_S: Tensor  # of each sample's instances, and at the end where the last one's stop

    def phrases(self, sample: int) -> Tensor:
        """(instances of that sample, D)."""
        start, stop = self.start_S[sample : sample + 2].tolist()
        return self.phrase_ID[start:stop]

    def categories(self, sample: int) -> Tensor:
        """(instances of that sample, D)."""
        start, stop = self.start_S[sample : sample + 2].tolist()
        return self.category_ID[start:stop]


TENSORS = tuple(field.name for field in fields(Embedded) if field.name != "keys")


@dataclass(frozen=True)
class Empty:
    """The empty text: what the model reads where prompt or phrase is withheld."""

    prompt_LD: Tensor
    phrase_D: Tensor
    rule: str = ""  # by which the prompts beside it were composed of layouts; empty: they are the layouts' own


def read(folder: Path) -> Iterator[Embedded]:
    """The shards of a folder, in order."""
    for path in files(folder):
        yield read_one(path)


def files(folder: Path) -> list[Path]:
    """One a shard, in the order of the shards."""
    return sorted(path for path in folder.glob("*.safetensors") if path.name != EMPTY_FILE)


def read_one(path: Path) -> Embedded:
    """The embeddings of one shard."""
    with safe_open(path, framework="pt") as stored:
        return Embedded(keys_of(stored), **{name: stored.get_tensor(name) for name in TENSORS})


def keys_of(stored: Any) -> tuple[str, ...]:
    """The samples of an open file, in order."""
    return tuple(json.loads(stored.metadata()["keys"]))


def read_empty(folder: Path) -> Empty:
    """The empty text of a folder."""
    with safe_open(folder / EMPTY_FILE, framework="pt") as stored:
        rule = (stored.metadata() or {}).get("prompts", "")
        return Empty(stored.get_tensor("prompt_LD"), stored.get_tensor("phrase_D"), rule)


def write_one(path: Path, embedded: Embedded) -> None:
    """The embeddings of one shard, the same bytes for the same values."""
    tensors = {name: getattr(embedded, name).contiguous() for name in TENSORS}
    save_file(tensors, path, {"keys": json.dumps(embedded.keys)})


def write_empty(folder: Path, empty: Empty) -> None:
    """The empty text of a folder."""
    tensors = {"prompt_LD": empty.prompt_LD.contiguous(), "phrase_D": empty.phrase_D.contiguous()}
    save_file(tensors, folder / EMPTY_FILE, {"prompts": empty.rule} if empty.rule else None)


def join(parts: list[Embedded]) -> Embedded:
    """All shards as one."""
    counts = torch.cat([part.start_S.diff() for part in parts])
    start_S = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    keys = tuple(key for part in parts for key in part.keys)
    long = {name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS if name != "start_S"}
    return Embedded(keys, **long, start_S=start_S)
