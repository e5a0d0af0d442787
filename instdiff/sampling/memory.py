"""How much memory a drawing needs, from shapes alone, so that too much is refused before the machine runs out of it.

What grows is counted: the masks of the attention (places times places of the finest level) and the features of the
widest level; weights are not. Seen on a CPU with the miniature, masked: 0.31 GB at 256 x 256 (estimated 0.29), 1.35 GB
at 384 x 384 (1.31), 0.55 GB at 256 x 256 with two instances drawn apart for one step (0.83, for more).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

GB = 1e9
_USED = 6  # bytes a pair of places and a row of a forward pass: the mask, its copy in float32, and what makes it
_FEATURES = 24  # tensors of the finest level that live at once in a transformer block
_DECODED = 8  # tensors of the pictures' size that live at once in the autoencoder
_LIMIT, _TAKEN = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


class Size(NamedTuple):
    """What is drawn at once; `rows` of a forward pass, `alone` pictures or instances that are not the null row."""

    height: int  # pixels
    width: int
    rows: int
    alone: int
    masked: bool  # whether the attention is


def rows(pictures: int, instances: int, guidance: float, max_rows: int) -> tuple[int, int]:
    """Rows of a forward pass, and rows with a mask of their own; `instances` are those drawn apart."""
    alone = pictures + instances
    return min(max_rows, alone if guidance == 1 else 2 * alone), alone


def needed(unet: Mapping[str, Any], vae: Mapping[str, Any], size: Size, bytes_per_number: int = 4) -> int:
    """Bytes beside the weights, for networks of these configurations."""
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    places = (size.height // scale) * (size.width // scale)
    levels = sum(16.0**-depth for depth in range(len(unet["block_out_channels"])))
    masks = places**2 * ((size.alone + 1) * levels + _USED * size.rows)
    features = places * unet["block_out_channels"][0] * size.rows * _FEATURES * bytes_per_number
    pixels = size.height * size.width * vae["block_out_channels"][0] * _DECODED * bytes_per_number
    return int(max(masks * size.masked + features, pixels))


def available(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nobody says."""
    if device.type == "cuda" and torch.cuda.is_available():
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    if device.type != "cpu":
        return None
    free = int(psutil.virtual_memory().available)
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    return free if limit == "max" else min(free, int(limit) - int(_TAKEN.read_text()))


def refuse_too_large(
    unet: Mapping[str, Any], vae: Mapping[str, Any], size: Size, device: torch.device, bytes_per_number: int = 4
) -> None:
    """ValueError where more is needed than is free, with both numbers and what helps."""
    need, free = needed(unet, vae, size, bytes_per_number), available(device)
    if free is not None and need > free:
        helps = ["a smaller height and width"]
        helps += [f"max_rows below {size.rows}"] if size.rows > 1 else []
        helps += ["no masked_attention, where the layers were trained without"] if size.masked else []
        raise ValueError(
            f"{size.width} x {size.height} needs about {need / GB:.1f} GB for {size.rows} rows at once, and "
            f"{free / GB:.1f} GB are free: take {', or '.join(helps)}"
        )
