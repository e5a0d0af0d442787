"""Pictures that look alike: each made so small that compression and resizing hardly show, and compared."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instdiff.files.picture_files import ERRORS

SIDE = 16  # pixels
_ROWS = 512  # compared with all at once


def thumbnail(encoded: bytes) -> NDArray[np.float32]:
    """(SIDE * SIDE,) greys, 0 to 255; ValueError where the picture cannot be read."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except ERRORS as error:
        raise ValueError(f"the picture cannot be read ({error})") from error
    return np.asarray(small, dtype=np.float32).ravel()


def alike(thumbnails: Sequence[NDArray[np.float32]], most: float) -> list[list[int]]:
    """Groups of two and more: the first, and those whose root mean square difference from it is at most `most` levels.

    The numbers are places in the list; none is in two groups; the largest group comes first.
    """
    if not thumbnails:
        return []
    greys_NP = np.stack(thumbnails).astype(np.float64)
    squares_N = (greys_NP**2).sum(1)
    taken_N = np.zeros(len(greys_NP), dtype=np.bool_)
    groups = []
    for start in range(0, len(greys_NP), _ROWS):
        rows_RP = greys_NP[start : start + _ROWS]
        sums_RN = squares_N[start : start + _ROWS, None] + squares_N - 2 * rows_RP @ greys_NP.T
        near_RN = sums_RN <= most**2 * greys_NP.shape[1] + 1e-6
        for row, near_N in enumerate(near_RN):
            members = np.flatnonzero(near_N & ~taken_N)
            if not taken_N[start + row] and len(members) > 1:
                taken_N[members] = True
                groups.append(members.tolist())
    return sorted(groups, key=lambda members: (-len(members), members))
