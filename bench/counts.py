"""FLOP and bytes of the full size, counted on shapes alone: no GPU, no weights. `python bench/counts.py` prints them.

docs/full-size.md is arithmetic on these numbers. A row is one picture or instance in one forward pass, with or without
its condition.
"""

from __future__ import annotations

import json
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from instdiff.checkpoints import official
from instdiff.formats import LOCATION_FORMATS
from instdiff.model.conditions import Conditions
from instdiff.model.unet import InstanceUNet

SLOTS = official.OFFICIAL_UNIFUSION
HALF = torch.bfloat16
Counts = dict[str, float]


class LiveBytes(TorchDispatchMode):
    """Entered, the most bytes that tensors made inside held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: Counter[int] = Counter()  # live tensors of each storage
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the operator and counts what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "cuda":
                self._hold(tensor)
        return out

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if not self.holders[key]:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.most = max(self.most, self.now)
        self.holders[key] += 1
        weakref.finalize(tensor, self._release, key)

    def _release(self, key: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= self.sizes.pop(key)


def everything(rows: int) -> Conditions:
    """Conditions of thirty instances with all formats, masks of 512."""
    flags = torch.ones(rows, SLOTS.max_instances, dtype=torch.bool)
    parts: dict[str, Tensor] = {}
    for entry in LOCATION_FORMATS:
        dtype = torch.bool if entry.kind == "mask" else torch.float32
        parts[entry.tensor] = torch.zeros(*flags.shape, *entry.shape(SLOTS), dtype=dtype)
        parts[f"{entry.name}_given_BN"] = flags
    return Conditions(text_BND=torch.zeros(*flags.shape, SLOTS.text_width), filled_BN=flags, **parts)


def weights(*networks: nn.Module) -> int:
    """Numbers in their parameters."""
    return sum(weight.numel() for network in networks for weight in network.parameters())


def flop(run: Callable[[], object]) -> float:
    """Of one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def live(run: Callable[[], object]) -> float:
    """Bytes that one run held at most, beside its inputs."""
    with LiveBytes() as counter:
        run()
    return float(counter.most)


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    """Entered, new floats are of this precision: fake networks cannot be converted."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def counts(rows: Sequence[int] = (1, 2, 8)) -> Counts:
    """FLOP of each part, numbers in the weights, and bytes that passes of some rows hold in half precision."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), default(HALF):
        config = SLOTS.model_dump(mode="json")
        unet = InstanceUNet(**official.SD15_UNET, unifusion_config=config, scale_u=True).eval()
        vae = AutoencoderKL(**official.SD15_VAE).eval()
        text = CLIPTextModel(CLIPTextConfig(**official.SD15_TEXT)).eval()
        grounding = unet.ground(everything(1))
        cached = unet.with_cached_keys(torch.zeros(1, 77, 768, dtype=HALF), grounding)
        timestep = torch.full((), 500)

        def a_pass(count: int, *, grounded: bool = True) -> Callable[[], object]:
            x, seen = torch.zeros(count, 4, 64, 64, dtype=HALF), cached.rows([0] * count)
            return lambda: unet(x, timestep, seen.text_RLD, seen.grounding if grounded else None, seen.keys).sample

        kept = [*cached.keys.values(), *(cached.grounding.keys.values() if cached.grounding else ())]
        image, latent = torch.zeros(1, 3, 512, 512, dtype=HALF), torch.zeros(1, 4, 64, 64, dtype=HALF)
        ids = torch.zeros(1, 77, dtype=torch.int64)
        return {
            "row, instances count": flop(a_pass(1)),
            "row, gate 0": flop(a_pass(1, grounded=False)),
            "UniFusion of a layout": flop(lambda: unet.ground(everything(1))),
            "text": flop(lambda: text(ids)),
            "decode": flop(lambda: vae.decode(latent)),
            "encode": flop(lambda: vae.encode(image)),
            "weights of the UNet": weights(unet),
            "of them instance layers": sum(weight.numel() for weight in unet.instance_layers().values()),
            "weights of the others": weights(vae, text),
            "bytes of keys a row": float(sum(one.numel() * one.element_size() for pair in kept for one in pair)),
            **{f"bytes held by a pass of {count} rows": live(a_pass(count)) for count in rows},
            "bytes held by decoding": live(lambda: vae.decode(latent)),
        }


if __name__ == "__main__":
    json.dump(counts(), sys.stdout, indent=2)
