"""Strokes of an instance: a point, a scribble and an outline, drawn from its mask.

A mask is (height, width), True inside; points are rows of (x, y) fractions. Pixel (row, column) stands at
(column / width, row / height), its upper left corner: the released weights were trained on pixel indices
divided by the size, and `geometry.pixel` finds the very pixel back.

Orders and choices follow the released training data (the model reads points by position in the list): points
ascend by their distance from the origin in pixels, the earlier of two equally far first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from instdiff.layouts.masks import Mask, bounds

Points = NDArray[np.float64]  # (count, 2): x, y


def box_centre(mask_HW: Mask) -> Points | None:
    """(1, 2): the centre of the mask's box, which may lie outside the mask; None for an empty mask."""
    tight = bounds(mask_HW)
    if tight is None:
        return None
    rows, columns = tight
    return _fractions(np.array([[columns.start + columns.stop, rows.start + rows.stop]]) / 2, mask_HW)


def inner_centre(mask_HW: Mask) -> Points | None:
    """(1, 2): the middle of the pixel of the mask that is nearest to its box's centre; None for an empty mask."""
    rows, columns = np.nonzero(mask_HW)
    if not len(rows):
        return None
    middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    nearest = _distance(columns - middle[0], rows - middle[1]).argmin()
    return _fractions(np.array([[columns[nearest] + 0.5, rows[nearest] + 0.5]]), mask_HW)


def scribble(mask_HW: Mask, num_points: int, rng: np.random.Generator | np.random.RandomState) -> Points | None:
    """(num_points, 2) pixels of the mask drawn at random, none twice while there are enough; None if it is empty."""
    inside = np.flatnonzero(mask_HW)
    if not len(inside):
        return None
    chosen = inside[rng.choice(len(inside), num_points, replace=len(inside) < num_points)]
    rows, columns = np.divmod(chosen, mask_HW.shape[1])
    return _fractions(_ascending(np.stack([columns, rows], axis=1)), mask_HW)


def outline(mask_HW: Mask, num_points: int, rng: np.random.Generator) -> Points | None:
    """(num_points, 2): half along the mask's edge, half inside from its centroid outwards; None without an edge.

    `rng` is used only where the mask has fewer pixels than the half inside needs. Edge points lie on the first
    pixel outside, one further right and down than drawn (at most two), as in the released training data; those
    beyond the picture are moved onto its border.
    """
    tight = bounds(mask_HW)
    if tight is None:
        return None
    rows, columns = tight
    cut_HW = mask_HW[tight]  # what follows then costs the instance, not the picture
    edge = _edge(cut_HW)
    if not len(edge):
        return None
    num_edge = num_points // 2
    along = edge[np.linspace(0, len(edge) - 1, num_edge).astype(np.int64)]
    points = np.concatenate([_interior(cut_HW, num_points - num_edge, rng), along])
    return _fractions(_ascending(points + np.array([columns.start, rows.start])), mask_HW)


def reorder(points: Points, num_points: int) -> Points:
    """(num_points, 2): points someone drew, in the order of the training data, repeated or thinned evenly."""
    if not len(points):
        raise ValueError("a scribble needs at least one point")
    ascending = _ascending(points)
    count = len(points)
    step = np.arange(num_points)
    chosen = ascending[step * (count // num_points) if count >= num_points else (step * count) // num_points]
    return _ascending(chosen)


def _distance(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.sqrt(x * x + y * y)
    return distance


def _ascending(points: NDArray[Any]) -> Points:
    """The points by rising distance from the origin; equally far points keep their order."""
    return points[np.argsort(_distance(points[:, 0], points[:, 1]), kind="stable")].astype(np.float64)


def _interior(mask_HW: Mask, count: int, rng: np.random.Generator) -> Points:
    """(count, 2): pixels in equal steps from the centroid outwards; drawn at random where there are too few."""
    rows, columns = np.nonzero(mask_HW)
    if len(rows) < count:
        chosen = rng.integers(len(rows), size=count)
    else:
        step = len(rows) // count
        outwards = _distance(columns - columns.mean(), rows - rows.mean())
        chosen = _at_ranks(outwards, np.arange(count) * step + step // 2)
    return np.stack([columns[chosen], rows[chosen]], axis=1).astype(np.float64)


def _at_ranks(values: NDArray[np.float64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the elements that a stable sort of values >= 0 would put at these ranks, without sorting the rest.

    A radix sort into 65536 bins, which costs a tenth of a full sort, and a full one of the bins that hold a rank.
    """
    bins = (values * (np.iinfo(np.uint16).max / max(values.max(), 1.0))).astype(np.uint16)
    order = np.argsort(bins, kind="stable")
    wanted = np.zeros(np.iinfo(np.uint16).max + 1, dtype=np.bool_)
    wanted[bins[order[ranks]]] = True
    places = np.flatnonzero(wanted[bins[order]])
    candidates = order[places]  # those of a bin in the order of their indices, as a radix sort is stable
    order[places] = candidates[np.argsort(values[candidates], kind="stable")]
    return order[ranks]


def _edge(mask_HW: Mask) -> Points:
    """(count, 2): the closed contours at level 0 of the mask inside a frame of zeros, one after the other.

    The frame's pixel is not taken off again: the released training data was made that way.
    """
    contours = find_contours(np.pad(mask_HW, 1).astype(np.float64), 0.0)
    closed = [c if np.array_equal(c[0], c[-1]) else np.concatenate([c, c[:1]]) for c in contours]
    return np.concatenate([np.zeros((0, 2)), *(c[:, ::-1] for c in closed if len(c) >= 3)])


def _fractions(points: Points, mask_HW: Mask) -> Points:
    height, width = mask_HW.shape
    return np.clip(points / (width, height), 0.0, 1.0)
