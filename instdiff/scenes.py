"""The miniature world: procedural pictures of coloured, textured shapes whose boxes and masks are known exactly.

Legend: H, W pixels of a picture; u, v coordinates of an instance, [-1, 1] along the sides of its upright box.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instdiff.randomness import generator
from instdiff.schema import Box

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIZE = 64
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
BACKGROUNDS = {
    "plain": (140, 140, 143),
    "sandy": (184, 160, 116),
    "grassy": (110, 142, 100),
    "tiled": (158, 168, 174),
    "striped": (152, 132, 126),
    "cloudy": (142, 172, 202),
}
GROUPS = ("mixed", "crowded", "overlapping", "same_shape", "small", "large", "off_centre")


@dataclass(frozen=True)
class SceneInstance:
    """One shape: its words, the tight box and the mask of what can be seen of it."""

    category: str
    colour: str
    texture: str
    box: Box
    mask: Mask

    @property
    def caption(self) -> str:
        """The phrase that names colour, texture and shape."""
        return phrase(self.colour, self.texture, self.category)


@dataclass(frozen=True)
class Scene:
    """A picture (SIZE, SIZE, 3) uint8, its words, and its instances from back to front."""

    picture: npt.NDArray[np.uint8]
    background: str
    instances: tuple[SceneInstance, ...]

    @property
    def caption(self) -> str:
        """The prompt that names every instance and the background, and no place."""
        return " and ".join(one.caption for one in self.instances) + f" on a {self.background} background"


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


def phrase(colour: str, texture: str, category: str) -> str:
    """How an instance is named."""
    return f"a {colour} {texture} {category}"


def scene(seed: int, index: int, group: str = "mixed") -> Scene:
    """Scene number `index` of a group: the same picture whatever ran before, on any machine."""
    rng = generator(seed, "scene", group, index)
    arrange = ARRANGEMENTS[group]
    while True:
        painted = paint(arrange(rng), str(rng.choice(list(BACKGROUNDS))), rng)
        if painted is not None:
            return painted


def paint(placed: list[Placed], background: str, rng: np.random.Generator) -> Scene | None:
    """Paint from back to front; None where too little of an instance would be seen."""
    canvas = _background(background, rng)
    owner = np.full((SIZE, SIZE), -1)
    whole = []
    for number, one in enumerate(placed):
        alpha, rgb, mask = _instance(one, rng)
        canvas = canvas * (1 - alpha[..., None]) + rgb * alpha[..., None]
        owner[mask] = number
        whole.append(int(mask.sum()))
    seen = [owner == number for number in range(len(placed))]
    if any(mask.sum() < max(MIN_PIXELS, MIN_VISIBLE * area) for mask, area in zip(seen, whole, strict=True)):
        return None
    instances = tuple(
        SceneInstance(one.category, one.colour, one.texture, _tight(mask), mask)
        for one, mask in zip(placed, seen, strict=True)
    )
    return Scene(np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8), background, instances)


MIN_VISIBLE = 0.55  # share of an instance that must stay uncovered
MIN_PIXELS = 40


def _tight(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(columns[0] / SIZE, rows[0] / SIZE, (columns[-1] + 1) / SIZE, (rows[-1] + 1) / SIZE)


# ---- arrangements: which shapes go where ------------------------------------------------------------------------


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
            one = Placed(*_words(rng), x, y, width, height, rng.uniform(-0.25, 0.25))
            if max((_iou(one.box, other.box) for other in placed), default=0.0) <= overlap[1]:
                placed.append(one)
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
        Placed(placed[0].category, str(colour), one.texture, one.x, one.y, one.width, one.height, one.angle)
        for one, colour in zip(placed, colours, strict=True)
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
    return _shade(s, 0.7 * (_smooth_noise(s.rng, s.u.shape, 3.5) - 0.5))


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


# ---- painting ----------------------------------------------------------------------------------------------------


def _grid() -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) + 0.5
    return x, y


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cell: float) -> Floats:
    """Value noise in [0, 1] with features `cell` pixels wide."""
    height, width = shape
    nodes = rng.random((int(height / cell) + 2, int(width / cell) + 2))
    rows, columns = np.arange(height) / cell, np.arange(width) / cell
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None]
    upper = nodes[top][:, left] * (1 - right) + nodes[top][:, left + 1] * right
    lower = nodes[top + 1][:, left] * (1 - right) + nodes[top + 1][:, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def _background(name: str, rng: np.random.Generator) -> Floats:
    x, y = _grid()
    tone = np.array(BACKGROUNDS[name]) / 255 * (1 + 0.12 * (rng.random(3) - 0.5))
    phase = rng.uniform(0, 2 * np.pi)
    relief: dict[str, Callable[[], Floats]] = {
        "plain": lambda: 0.1 * (y / SIZE - 0.5),
        "sandy": lambda: 0.08 * (_smooth_noise(rng, x.shape, 3) - 0.5),
        "grassy": lambda: 0.12 * (_smooth_noise(rng, x.shape, 4) - 0.5) + 0.03 * np.sin(x + phase),
        "tiled": lambda: 0.05 * np.sign(np.sin(x * np.pi / 12 + phase) * np.sin(y * np.pi / 12 + phase)),
        "striped": lambda: 0.05 * np.sign(np.sin(x * np.pi / 6 + phase)),
        "cloudy": lambda: 0.2 * (_smooth_noise(rng, x.shape, 16) - 0.5),
    }
    return np.asarray(tone + relief[name]()[..., None])


def _instance(one: Placed, rng: np.random.Generator) -> tuple[Floats, Floats, Mask]:
    """Opacity (H, W), colour (H, W, 3) and mask (H, W) of one instance on an empty canvas."""
    x, y = _grid()
    dx, dy = x - one.x, y - one.y
    cosine, sine = np.cos(one.angle), np.sin(one.angle)
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    u, v = along / (one.width / 2), across / (one.height / 2)
    distance = SHAPES[one.category](u, v) * min(one.width, one.height) / 2
    if one.texture == "fluffy":
        distance = distance + 1.6 * (_smooth_noise(rng, distance.shape, 1.6) - 0.5)
    cover = np.clip(0.5 - distance, 0, 1)
    light, white, opacity = TEXTURES[one.texture](Surface(u, v, along, across, np.clip(-distance, 0, None), rng))
    rgb = np.array(COLOURS[one.colour]) / 255 * (1 + light[..., None]) + 0.3 * light[..., None]
    rgb = np.clip(rgb, 0, 1)
    rgb = rgb + (1 - rgb) * white[..., None] * 0.85
    return cover * opacity, rgb, cover > 0.5


def scenes(seed: int, start: int, count: int, group: str = "mixed") -> Iterator[Scene]:
    """`count` scenes of a group from number `start` on."""
    return (scene(seed, index, group) for index in range(start, start + count))
