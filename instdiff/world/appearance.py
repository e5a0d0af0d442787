"""The words of the miniature world and what they look like: shapes, colours, textures.

Legend: u, v coordinates of an instance, [-1, 1] along the sides of its upright box.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

COLOURS = {
    "black": (30, 30, 34),
    "white": (242, 242, 240),
    "red": (210, 34, 38),
    "green": (36, 150, 60),
    "yellow": (240, 210, 36),
    "blue": (40, 84, 218),
    "pink": (248, 140, 192),
    "purple": (126, 46, 170),
}


# ---- shapes: signed distances, negative inside -------------------------------------------------------------------


def _circle(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.hypot(u, v) - 1)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - 0.92


def _triangle(u: Floats, v: Floats) -> Floats:
    return np.maximum(v - 0.9, 0.8944 * np.abs(u) - 0.4472 * (v + 0.98))


def _star(u: Floats, v: Floats) -> Floats:
    """Five points; each edge runs from an outer tip at radius 1.08 to an inner corner at 0.46."""
    wedge = np.pi / 5
    angle = np.abs((np.arctan2(u, -v) + wedge) % (2 * wedge) - wedge)
    along, across = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    inner = 0.46 * np.array([np.cos(wedge), np.sin(wedge)])
    normal = np.array([inner[1], 1.08 - inner[0]]) / np.hypot(inner[1], 1.08 - inner[0])
    return np.asarray((along - 1.08) * normal[0] + across * normal[1])


def _heart(u: Floats, v: Floats) -> Floats:
    lobes = np.hypot(np.abs(u) - 0.46, v + 0.38) - 0.54
    point = np.maximum(0.74 * np.abs(u) + 0.67 * (v - 0.98), -v - 0.38)
    return np.minimum(lobes, np.maximum(point, np.abs(u) - 0.97))


def _ring(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.abs(np.hypot(u, v) - 0.72) - 0.28)


def _cross(u: Floats, v: Floats) -> Floats:
    wide = np.maximum(np.abs(u) - 1, np.abs(v) - 0.34)
    tall = np.maximum(np.abs(u) - 0.34, np.abs(v) - 1)
    return np.asarray(np.minimum(wide, tall))


def _moon(u: Floats, v: Floats) -> Floats:
    return np.asarray(np.maximum(np.hypot(u, v) - 1, 0.78 - np.hypot(u - 0.62, v)))


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "moon": _moon,
}


# ---- textures: how light and how white the colour becomes ---------------------------------------------------------


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cell: float) -> Floats:
    """Value noise in [0, 1] with features `cell` pixels wide."""
    height, width = shape
    nodes = rng.random((int(height / cell) + 2, int(width / cell) + 2))
    rows, columns = np.arange(height) / cell, np.arange(width) / cell
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None]
    upper = nodes[top][:, left] * (1 - right) + nodes[top][:, left + 1] * right
    lower = nodes[top + 1][:, left] * (1 - right) + nodes[top + 1][:, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


@dataclass(frozen=True)
class Surface:
    """What a texture sees: box coordinates, pixel offsets from the centre, depth below the edge in pixels."""

    u: Floats
    v: Floats
    x: Floats
    y: Floats
    depth: Floats
    rng: np.random.Generator


Shade = tuple[Floats, Floats, Floats]  # lightness (-1..1), whiteness (0..1), opacity (0..1)


def _shade(
    surface: Surface, light: Floats | float, white: Floats | float = 0.0, opacity: Floats | float = 1.0
) -> Shade:
    like = np.zeros_like(surface.u)
    return like + light, like + np.clip(white, 0, 1), like + np.clip(opacity, 0, 1)


def _rubber(s: Surface) -> Shade:
    return _shade(s, 0.02 - 0.3 * np.clip(1 - s.depth / 3, 0, 1))


def _fluffy(s: Surface) -> Shade:
    return _shade(s, 0.7 * (smooth_noise(s.rng, s.u.shape, 3.5) - 0.5))


def _metallic(s: Surface) -> Shade:
    band = np.cos((s.x + s.y) * 2 * np.pi / 18)
    return _shade(s, 0.26 * band - 0.04, 1.1 * np.clip(band - 0.45, 0, 1))


def _wooden(s: Surface) -> Shade:
    grain = np.cos((s.y + 1.2 * np.sin(s.x / 5)) * 2 * np.pi / 8)
    return _shade(s, -0.12 + 0.26 * grain)


def _plastic(s: Surface) -> Shade:
    spot = np.exp(-(((s.u + 0.25) / 0.32) ** 2 + ((s.v + 0.35) / 0.26) ** 2))
    return _shade(s, 0.1 - 0.3 * np.clip(s.v, 0, 1), 1.5 * spot)


def _fabric(s: Surface) -> Shade:
    return _shade(s, 0.26 * np.sign(np.sin(s.x * np.pi / 5) * np.sin(s.y * np.pi / 5)))


def _leather(s: Surface) -> Shade:
    """A light skin with dark dots in a slanted lattice."""
    a, b = (s.x + 0.35 * s.y) * 2 * np.pi / 10, (s.y - 0.35 * s.x) * 2 * np.pi / 10
    return _shade(s, 0.1 - 0.7 * np.clip(np.cos(a) * np.cos(b) - 0.15, 0, 1))


def _glass(s: Surface) -> Shade:
    rim = np.clip(1 - s.depth / 3, 0, 1)
    streak = np.exp(-(((s.u - s.v) / 0.25) ** 2))
    return _shade(s, 0.1, 0.6 * rim + 0.45 * streak, 0.6 + 0.4 * rim)


TEXTURES: dict[str, Callable[[Surface], Shade]] = {
    "rubber": _rubber,
    "fluffy": _fluffy,
    "metallic": _metallic,
    "wooden": _wooden,
    "plastic": _plastic,
    "fabric": _fabric,
    "leather": _leather,
    "glass": _glass,
}
