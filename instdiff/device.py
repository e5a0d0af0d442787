"""Which device computes."""

from collections.abc import Callable

import torch

_COUNTS: dict[str, Callable[[], int]] = {
    "cuda": torch.cuda.device_count,
    "mps": lambda: int(torch.backends.mps.is_available()),
    "xpu": torch.xpu.device_count,
}


def resolve(name: str) -> torch.device:
    """The device of this name; ValueError says in one sentence why this machine has none such."""
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


def _there() -> str:
    names = [f"{kind}:{number}" for kind, count in _COUNTS.items() for number in range(count())]
    return f"take {' or '.join(['cpu', *names])}"
