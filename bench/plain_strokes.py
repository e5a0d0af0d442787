"""Scribbles and outlines drawn the plain way, and masks to draw them for: what two benches compare with."""

import random

import numpy as np
from skimage.measure import find_contours

from instdiff.layouts import strokes
from instdiff.layouts.masks import Mask
from instdiff.randomness import generator

SIZE, NUM_SCRIBBLE, NUM_OUTLINE = 512, 20, 256


def plainly(mask: Mask) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Scribble and outline in pixels, as spec and paper tell it, with a key function for every pixel."""
    pixels = [(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)]
    chosen = [pixels[i] for i in np.random.default_rng(0).choice(len(pixels), NUM_SCRIBBLE, replace=False)]
    scribble = [(column, row) for row, column in sorted(chosen, key=np.linalg.norm)]
    vertices = [
        (max(0.0, x), max(0.0, y)) for contour in find_contours(np.pad(mask, 1).astype(float), 0.0) for y, x in contour
    ]
    half = NUM_OUTLINE // 2
    edge = [vertices[int(i)] for i in np.linspace(0, len(vertices) - 1, half)]
    middle = np.mean(pixels, axis=0)
    outwards = sorted(pixels, key=lambda pixel: np.linalg.norm(np.array(pixel) - middle))
    step = len(outwards) // half
    inside = [outwards[i * step : (i + 1) * step][step // 2] for i in range(half)]
    return scribble, sorted([(c, r) for r, c in inside] + edge, key=np.linalg.norm)


def ours(mask: Mask) -> None:
    """The strokes of the stage."""
    strokes.scribble(mask, NUM_SCRIBBLE, generator(0))
    strokes.outline(mask, NUM_OUTLINE, generator(0))


def blobs(count: int) -> list[Mask]:
    """Wobbly discs that cover 2 to 30 % of the picture, as instances in photographs do."""
    draw = random.Random(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    masks = []
    for _ in range(count):
        radius, lobes, depth = draw.uniform(45, 150), draw.randint(2, 7), draw.uniform(0, 0.35)
        dy, dx = y - draw.uniform(radius, SIZE - radius), x - draw.uniform(radius, SIZE - radius)
        masks.append(np.hypot(dy, dx) < radius * (1 + depth * np.sin(lobes * np.arctan2(dy, dx))))
    return masks
