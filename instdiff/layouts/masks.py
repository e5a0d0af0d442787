"""Masks as arrays, and as COCO's run lengths. Arrays are (height, width), True inside.

A run-length string from outside is checked before anything is built from it: pycocotools itself reads
past its buffers when the runs do not add up to the size.
"""

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from instdiff.schema import Box, Rle

Mask = NDArray[np.bool_]

MAX_PIXELS = 178_956_970  # what Pillow, too, takes for a decompression bomb
_MAX_GROUP = 7  # characters a run may take: 5 bits each, so 35 bits, more than MAX_PIXELS needs
_FIRST, _CONTINUED, _NEGATIVE, _BITS = 48, 0x20, 0x10, 0x1F  # of one character


def encode(mask_HW: Mask) -> Rle:
    """The mask as compressed run lengths."""
    run_lengths = coco.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    height, width = mask_HW.shape
    return Rle(size=(height, width), counts=run_lengths["counts"].decode("ascii"))


def decode(rle: Rle) -> Mask:
    """The run lengths as an array; ValueError says in one sentence what is wrong with them."""
    height, width = rle.size
    runs = checked(rle)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T.copy()


def checked(rle: Rle) -> NDArray[np.int64]:
    """Lengths of the runs, outside first, column by column; ValueError as `decode`, but no pixel is built."""
    height, width = rle.size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"a mask cannot have {height}x{width} pixels ({MAX_PIXELS} at most)")
    runs = _runs(rle.counts)
    if runs.min() < 0 or int(runs.sum()) != height * width:
        raise ValueError(f"the runs of a {height}x{width} mask cover {int(runs.sum())} of its {height * width} pixels")
    return runs


def holds(rle: Rle, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each of these pixels lies inside, read off the run lengths: no pixel is built."""
    ends = np.cumsum(checked(rle))
    return np.asarray(np.searchsorted(ends, columns * rle.size[0] + rows, side="right") % 2 == 1)


def bounds(mask_HW: Mask) -> tuple[slice, slice] | None:
    """Rows and columns of the tightest box around the mask; None when the mask is empty."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def box_of(mask_HW: Mask) -> Box:
    """The tightest box around the mask; ValueError when the mask is empty."""
    tight = bounds(mask_HW)
    if tight is None:
        raise ValueError("an empty mask has no box")
    height, width = mask_HW.shape
    rows, columns = tight
    return Box(columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)


def visible(rle: Rle) -> float:
    """Share of the picture that the mask covers, read off the run lengths; ValueError as `decode`."""
    height, width = rle.size
    return float(checked(rle)[1::2].sum() / (height * width))


def _runs(counts: str) -> NDArray[np.int64]:
    """Lengths of the runs, outside first.

    COCO writes a number as groups of five bits, lowest first, the last one signed; from the fourth run on it
    writes the difference to the run before the last.
    """
    codes = np.frombuffer(counts.encode("utf-8"), np.uint8).astype(np.int64) - _FIRST
    if not len(codes) or codes.min() < 0 or codes.max() > (_CONTINUED | _BITS):
        raise ValueError("counts are not a compressed COCO run-length string")
    last = np.flatnonzero((codes & _CONTINUED) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if not len(last) or last[-1] != len(codes) - 1 or (last - first).max() >= _MAX_GROUP:
        raise ValueError("counts end in the middle of a run or hold a run too long to be real")
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    numbers: NDArray[np.int64] = np.add.reduceat((codes & _BITS) << (5 * place), first)
    numbers -= np.where(codes[last] & _NEGATIVE, np.int64(1) << (5 * (last - first + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
