"""Where networks run, how finely they reckon and whether they are compiled: one home for every stage and command.

    device = resolve(params.device)          # a sentence if it is not there, before anything is loaded
    network = place(load(folder), device)

"auto" takes the GPU that is there. Weights and arithmetic are in `precision`; latents, and what metrics are computed
from, stay in float32. What changes numbers stands in params, and so in provenance.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from instdiff.schema import Strict

if TYPE_CHECKING:  # torch takes seconds to import, and stages that only name a place need none
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
Compile = Literal["no", "blocks", "whole"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Network = TypeVar("Network")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _apples() -> int:
    import torch

    return int(torch.backends.mps.is_available())


def _intels() -> int:
    import torch

    return torch.xpu.device_count()


_COUNTS: dict[str, Callable[[], int]] = {"cuda": _gpus, "mps": _apples, "xpu": _intels}


class Place(Strict):
    """Where networks run and how."""

    name: str  # auto, cpu, cuda, cuda:N, mps or xpu
    precision: Precision  # of weights and arithmetic of networks
    tf32: bool  # whether a GPU may cut float32 to 10 bits of mantissa in products and convolutions
    compile: Compile  # torch.compile: of the transformer blocks, once for all of them, or of whole networks
    channels_last: bool  # weights and maps in the order that convolutions on tensor cores read

    @property
    def device(self) -> torch.device:
        """The device; ValueError if it is not there."""
        return resolve(self.name)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and arithmetic."""
        return dtype_of(self.precision)

    def settled(self) -> Place:
        """The same with the device that is meant by "auto", and with tf32 set for this process."""
        import torch

        settled = self.model_copy(update={"name": str(self.device)})
        backends: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
        for backend in backends:
            backend.allow_tf32 = self.tf32
        return settled


PLAIN = Place(name="cpu", precision="float32", tf32=False, compile="no", channels_last=False)


def resolve(name: str) -> torch.device:
    """The device of this name, `auto` being the first GPU or else the CPU.

    ValueError says in one sentence why this machine has none such.
    """
    import torch

    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if _COUNTS[kind]()), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} names no device: {_there()}") from None
    if device.type == "cpu":
        return device
    if device.type not in _COUNTS:
        raise ValueError(f"{name!r} is no device that draws: {_there()}")
    if (device.index or 0) >= _COUNTS[device.type]():
        raise ValueError(f"torch sees no device {name!r} on this machine: {_there()}")
    return device


def kind_of(device: torch.device) -> str:
    """What pictures are drawn on, as records state it: the model of a GPU, such as "NVIDIA H200", or "cpu"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def dtype_of(precision: Precision) -> torch.dtype:
    """Torch's own of this name."""
    import torch

    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _there() -> str:
    names = [f"{kind}:{number}" for kind, count in _COUNTS.items() for number in range(count())]
    return f"take {' or '.join(['cpu', *names])}"


def place(network: Network, where: Place) -> Network:
    """The network on its device, in its precision and order, compiled as a whole where that is asked for."""
    import torch

    module: Any = network
    torch.nn.Module.to(module, where.device, where.dtype)
    if where.channels_last:
        torch.nn.Module.to(module, memory_format=torch.channels_last)
    compile_network(network, where)
    return network


def compile_network(network: Any, where: Place) -> None:
    """Compile the network: what its blocks have in common where it knows of such, or all of it."""
    # Frozen, weights lie as a CPU's kernels want them, in a second copy.
    options = {"options": {"freezing": True}} if where.device.type == "cpu" else {}
    if where.compile == "blocks" and hasattr(network, "compile_repeated_blocks"):
        network.compile_repeated_blocks(dynamic=False)
    elif where.compile != "no":
        network.compile(dynamic=False, **options)


def arithmetic(where: Place) -> AbstractContextManager[Any]:
    """In which training computes its loss: weights stay in float32, products in the precision that is asked for."""
    if where.precision == "float32":
        return nullcontext()
    if where.precision == "float16":
        raise ValueError("precision float16: networks are trained in float32 or bfloat16; float16 is for drawing")
    import torch

    return torch.autocast(where.device.type, where.dtype)
