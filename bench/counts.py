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
from instdiff.layouts.formats import LOCATION_FORMATS
from instdiff.model.conditions import Conditions
from instdiff.model.grounding import Grounding
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
            if isinstance(tensor, Tensor):
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


def networks() -> tuple[InstanceUNet, AutoencoderKL, CLIPTextModel]:
    """Of Stable Diffusion 1.5's size with the released instance layers, in half precision."""
    config = SLOTS.model_dump(mode="json")
    unet = InstanceUNet(**official.SD15_UNET, unifusion_config=config, scale_u=True).eval()
    return unet, AutoencoderKL(**official.SD15_VAE).eval(), CLIPTextModel(CLIPTextConfig(**official.SD15_TEXT)).eval()


def a_pass(unet: InstanceUNet, rows: int, *, grounded: bool = True) -> Callable[[], object]:
    """A forward pass with cached keys."""
    tokens = Grounding(torch.zeros(1, SLOTS.num_tokens, SLOTS.token_width))
    cached = unet.with_cached_keys(torch.zeros(1, 77, 768), tokens).rows([0] * rows)
    x, timestep = torch.zeros(rows, 4, 64, 64), torch.full((), 500)
    seen = cached.grounding if grounded else None
    return lambda: unet(x, timestep, cached.text_RLD, seen, cached.keys).sample


@torch.no_grad()
def work() -> Counts:
    """FLOP of each part, numbers in the weights, bytes of keys and values."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), default(HALF):
        unet, vae, text = networks()
        ids, image, latent = (
            torch.zeros(1, 77, dtype=torch.int64),
            torch.zeros(1, 3, 512, 512),
            torch.zeros(1, 4, 64, 64),
        )
        tokens = Grounding(torch.zeros(1, SLOTS.num_tokens, SLOTS.token_width))
        cached = unet.with_cached_keys(torch.zeros(1, 77, 768), tokens)
        pairs = [*cached.keys.values(), *(cached.grounding.keys.values() if cached.grounding else ())]
        return {
            "row": flop(a_pass(unet, 1)),
            "row at gate 0": flop(a_pass(unet, 1, grounded=False)),
            "UniFusion of a layout": flop(lambda: unet.ground(everything(1))),
            "text": flop(lambda: text(ids)),
            "decoding": flop(lambda: vae.decode(latent)),
            "encoding": flop(lambda: vae.encode(image)),
            "weights": weights(unet, vae, text),
            "weights of the instance layers": sum(weight.numel() for weight in unet.instance_layers().values()),
            "bytes of keys a row": sum(
                float(tensor.numel() * tensor.element_size()) for pair in pairs for tensor in pair
            ),
        }


@torch.no_grad()
def memory(rows: Sequence[int] = (2, 8)) -> Counts:
    """Bytes that passes of some rows and decoding hold at most, beside weights and keys.

    Counted on the CPU's shapes: there, as on a GPU that is there, attention holds no matrix of scores.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), default(HALF):
        unet, vae, _ = networks()
        passes = {f"pass of {count} rows": live(a_pass(unet, count)) for count in rows}
        latent = torch.zeros(1, 4, 64, 64)
        return passes | {"decoding": live(lambda: vae.decode(latent))}


if __name__ == "__main__":
    json.dump({"work": work(), "bytes": memory()}, sys.stdout, indent=2)
