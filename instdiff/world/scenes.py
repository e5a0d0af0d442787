"""The miniature world: procedural pictures of coloured, textured shapes whose boxes and masks are known exactly.

Legend: H, W pixels of a picture; u, v coordinates of an instance, [-1, 1] along the sides of its upright box.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instdiff.layouts import masks
from instdiff.randomness import generator
from instdiff.schema import Box
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES, Floats, Surface, smooth_noise
from instdiff.world.arrangements import ARRANGEMENTS, SIZE, Placed

Mask = npt.NDArray[np.bool_]

BACKGROUNDS = {
    "plain": (140, 140, 143),
    "sandy": (184, 160, 116),
    "grassy": (110, 142, 100),
    "tiled": (158, 168, 174),
    "striped": (152, 132, 126),
    "cloudy": (142, 172, 202),
}
MIN_VISIBLE = 0.55  # share of an instance that must stay uncovered
MIN_PIXELS = 40


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
        return " and ".join(instance.caption for instance in self.instances) + f" on a {self.background} background"


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
    for number, placed_instance in enumerate(placed):
        alpha, rgb, mask = _instance(placed_instance, rng)
        canvas = canvas * (1 - alpha[..., None]) + rgb * alpha[..., None]
        owner[mask] = number
        whole.append(int(mask.sum()))
    seen = [owner == number for number in range(len(placed))]
    if any(mask.sum() < max(MIN_PIXELS, MIN_VISIBLE * area) for mask, area in zip(seen, whole, strict=True)):
        return None
    instances = tuple(
        SceneInstance(
            placed_instance.category, placed_instance.colour, placed_instance.texture, masks.box_of(mask), mask
        )
        for placed_instance, mask in zip(placed, seen, strict=True)
    )
    return Scene(np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8), background, instances)


def _grid() -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64) + 0.5
    return x, y


def _background(name: str, rng: np.random.Generator) -> Floats:
    x, y = _grid()
    tone = np.array(BACKGROUNDS[name]) / 255 * (1 + 0.12 * (rng.random(3) - 0.5))
    phase = rng.uniform(0, 2 * np.pi)
    relief: dict[str, Callable[[], Floats]] = {
        "plain": lambda: 0.1 * (y / SIZE - 0.5),
        "sandy": lambda: 0.08 * (smooth_noise(rng, x.shape, 3) - 0.5),
        "grassy": lambda: 0.12 * (smooth_noise(rng, x.shape, 4) - 0.5) + 0.03 * np.sin(x + phase),
        "tiled": lambda: 0.05 * np.sign(np.sin(x * np.pi / 12 + phase) * np.sin(y * np.pi / 12 + phase)),
        "striped": lambda: 0.05 * np.sign(np.sin(x * np.pi / 6 + phase)),
        "cloudy": lambda: 0.2 * (smooth_noise(rng, x.shape, 16) - 0.5),
    }
    return np.asarray(tone + relief[name]()[..., None])


def _instance(placed: Placed, rng: np.random.Generator) -> tuple[Floats, Floats, Mask]:
    """Opacity (H, W), colour (H, W, 3) and mask (H, W) of one instance on an empty canvas."""
    x, y = _grid()
    dx, dy = x - placed.x, y - placed.y
    cosine, sine = np.cos(placed.angle), np.sin(placed.angle)
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    u, v = along / (placed.width / 2), across / (placed.height / 2)
    distance = SHAPES[placed.category](u, v) * min(placed.width, placed.height) / 2
    if placed.texture == "fluffy":
        distance = distance + 1.6 * (smooth_noise(rng, distance.shape, 1.6) - 0.5)
    cover = np.clip(0.5 - distance, 0, 1)
    light, white, opacity = TEXTURES[placed.texture](Surface(u, v, along, across, np.clip(-distance, 0, None), rng))
    rgb = np.array(COLOURS[placed.colour]) / 255 * (1 + light[..., None]) + 0.3 * light[..., None]
    rgb = np.clip(rgb, 0, 1)
    rgb = rgb + (1 - rgb) * white[..., None] * 0.85
    return cover * opacity, rgb, cover > 0.5
