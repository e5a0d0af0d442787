"""Which shapes of a scene go where: arrangements, each chosen to stress something."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instdiff.schema import Box
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES

SIZE = 64  # pixels, a picture's width and height
GROUPS = ("mixed", "crowded", "overlapping", "same_shape", "small", "large", "off_centre")


@dataclass(frozen=True)
class Placed:
    """Where and what to paint: centre and sides in pixels, rotation in radians."""

    category: str
    colour: str
    texture: str
    x: float
    y: float
    width: float
    height: float
    angle: float

    @property
    def box(self) -> Box:
        """The upright box before rotation and occlusion, in pixels."""
        half_width, half_height = self.width / 2, self.height / 2
        return Box(self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height)


def _words(rng: np.random.Generator) -> tuple[str, str, str]:
    category, colour, texture = (rng.choice(list(names)) for names in (SHAPES, COLOURS, TEXTURES))
    return str(category), str(colour), str(texture)


def _scattered(
    rng: np.random.Generator, count: int, sides: tuple[float, float], overlap: tuple[float, float]
) -> list[Placed]:
    """`count` instances of random sides (pixels) whose largest mutual IoU lies within `overlap`."""
    while True:
        placed: list[Placed] = []
        for _ in range(count * 30):
            side, ratio = rng.uniform(*sides), np.exp(rng.uniform(-0.2, 0.2))
            width, height = min(side * ratio, SIZE - 4), min(side / ratio, SIZE - 4)
            x, y = (rng.uniform(extent / 2 + 1, SIZE - extent / 2 - 1) for extent in (width, height))
            candidate = Placed(*_words(rng), x, y, width, height, rng.uniform(-0.25, 0.25))
            if max((_iou(candidate.box, other.box) for other in placed), default=0.0) <= overlap[1]:
                placed.append(candidate)
            if len(placed) == count:
                break
        worst = max((_iou(a.box, b.box) for n, a in enumerate(placed) for b in placed[:n]), default=0.0)
        if len(placed) == count and (count == 1 or worst >= overlap[0]):
            return placed


def _iou(a: Box, b: Box) -> float:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    shared = max(width, 0.0) * max(height, 0.0)
    return float(shared / (a.area + b.area - shared))


def _mixed(rng: np.random.Generator) -> list[Placed]:
    count = int(rng.choice(6, p=[0.2, 0.2, 0.2, 0.16, 0.14, 0.1])) + 1
    largest = {1: 46, 2: 40, 3: 34, 4: 30, 5: 27, 6: 25}[count]
    return _scattered(rng, count, (20, largest), (0.0, 0.2))


def _single(rng: np.random.Generator) -> list[Placed]:
    """One instance of any size: what a base model learns words from, as it does from the web's pictures."""
    return _scattered(rng, 1, (22, 50), (0.0, 0.0))


def _overlapping(rng: np.random.Generator) -> list[Placed]:
    return _scattered(rng, int(rng.integers(2, 5)), (22, 32), (0.12, 0.3))


def _small(rng: np.random.Generator) -> list[Placed]:
    return _scattered(rng, int(rng.integers(2, 6)), (16, 19), (0.0, 0.05))


def _large(rng: np.random.Generator) -> list[Placed]:
    return _scattered(rng, int(rng.integers(1, 3)), (38, 50), (0.0, 0.3))


def _off_centre(rng: np.random.Generator) -> list[Placed]:
    """One to three instances, each pushed into a corner of its own."""
    corners = rng.permutation([(0, 0), (1, 0), (0, 1), (1, 1)])[: int(rng.integers(1, 4))]
    placed = []
    for right, down in corners:
        width, height = rng.uniform(20, 28), rng.uniform(20, 28)
        x = SIZE - width / 2 - 1 if right else width / 2 + 1
        y = SIZE - height / 2 - 1 if down else height / 2 + 1
        placed.append(Placed(*_words(rng), x, y, width, height, rng.uniform(-0.25, 0.25)))
    return placed


def _crowded(rng: np.random.Generator) -> list[Placed]:
    """Four touching tiles of one shape and texture in four colours: where colours leak if they can."""
    category, _, texture = _words(rng)
    colours = rng.choice(list(COLOURS), 4, replace=False)
    side = rng.uniform(18, 28)  # no larger: a prompt that names four alike must not tell where they stand
    x0, y0 = (rng.uniform(side, SIZE - side) for _ in range(2))
    centres = [(x0 + dx * side / 2, y0 + dy * side / 2) for dy in (-1, 1) for dx in (-1, 1)]
    return [
        Placed(category, str(colour), texture, x, y, side, side, rng.uniform(-0.1, 0.1))
        for colour, (x, y) in zip(colours, centres, strict=True)
    ]


def _same_shape(rng: np.random.Generator) -> list[Placed]:
    """Two to four instances of one shape, each of another colour."""
    placed = _scattered(rng, int(rng.integers(2, 5)), (21, 29), (0.0, 0.1))
    colours = rng.choice(list(COLOURS), len(placed), replace=False)
    return [
        Placed(
            placed[0].category,
            str(colour),
            instance.texture,
            instance.x,
            instance.y,
            instance.width,
            instance.height,
            instance.angle,
        )
        for instance, colour in zip(placed, colours, strict=True)
    ]


ARRANGEMENTS: dict[str, Callable[[np.random.Generator], list[Placed]]] = {
    "mixed": _mixed,
    "single": _single,
    "crowded": _crowded,
    "overlapping": _overlapping,
    "same_shape": _same_shape,
    "small": _small,
    "large": _large,
    "off_centre": _off_centre,
}
