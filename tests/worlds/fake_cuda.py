"""A GPU that is not there: networks of any size on fake tensors, and the law that a loop neither waits for it nor
copies to or from it.

A value that is read back (`.item()`, `nonzero`, `torch.equal`) is an error of FakeTensorMode; a copy between devices,
which makes the CPU wait, is one of `NoCopies`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from instdiff.model import noise_schedule


class Copied(AssertionError):
    """A tensor went from one device to another where none may."""


class NoCopies(TorchDispatchMode):
    """Entered, a copy between the CPU and the GPU is an error; numbers of no dimension are arguments of a kernel."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the operator, and compares where its tensors lie."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in {torch.ops.aten._to_copy, torch.ops.aten.copy_}:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            if len({tensor.device.type for tensor in tensors}) > 1:
                raise Copied(f"{func}: {[(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]}")
        return out


_MODE = FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def running() -> Iterator[None]:
    """Entered, tensors have shapes and devices and no numbers."""
    with _MODE:
        try:
            yield
        finally:
            noise_schedule.alphas_on.cache_clear()


@contextmanager
def fake_gpu() -> Iterator[None]:
    """The same, and new tensors lie on "cuda" unless a device is named."""
    with running(), torch.device("cuda"):
        yield


def for_real(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function outside of the pretence, on the CPU: what the host alone works out before anything is on a GPU."""

    def outside(*args: Any, **options: Any) -> Any:
        with unset_fake_temporarily(), torch.device("cpu"):
            return function(*args, **options)

    return outside


def all_on_gpu(*tensors: Tensor) -> bool:
    """Whether all of them lie there."""
    return all(tensor.device.type == "cuda" for tensor in tensors)
