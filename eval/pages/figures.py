"""What the report draws: pictures as data URIs, layouts as SVG over them, training curves as SVG.

Coordinates of overlays are fractions (a viewBox of 1 by 1), so they fit a picture at any size.
"""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from eval.inputs.pictures import Pixels
from instdiff.layouts import masks
from instdiff.schema import Instance

WIDTH, HEIGHT = 300.0, 120.0  # of a curve, in SVG units
MAX_KNOTS = 400  # of a curve; longer logs are averaged


class Curve(NamedTuple):
    """A column of the training log."""

    name: str
    path: str  # SVG, in WIDTH x HEIGHT
    first: str  # labels of the axes' ends
    last: str
    low: str
    high: str
    final: str


def data_uri(pixels: Pixels, max_side: int) -> str:
    """The picture as lossless WebP, or made smaller and lossy where a side is longer than `max_side`."""
    picture = Image.fromarray(pixels)
    written = io.BytesIO()
    if max(picture.size) > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
        picture.save(written, "webp", quality=85)
    else:
        picture.save(written, "webp", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def overlay(instances: Sequence[Instance]) -> Markup:
    """SVG groups `boxes`, `masks`, `points` and `scribbles`, for a viewBox of 0 0 1 1."""
    parts = {
        "boxes": [_rectangle(instance) for instance in instances if instance.box is not None],
        "masks": [_outline(instance) for instance in instances if instance.mask is not None],
        "points": [_dots([instance.point], 0.02) for instance in instances if instance.point is not None],
        "scribbles": [_dots(instance.scribble, 0.009) for instance in instances if instance.scribble is not None],
    }
    return Markup("").join(Markup('<g class="{}">{}</g>').format(name, Markup("").join(p)) for name, p in parts.items())


def curves(log: pd.DataFrame) -> list[Curve]:
    """One curve for each numeric column of a training log but step and seconds."""
    numbers = log.select_dtypes("number")
    steps = numbers["step"] if "step" in numbers else pd.Series(range(len(log)), dtype=float)
    names = [name for name in numbers.columns if name not in {"step", "seconds"} and numbers[name].notna().sum() > 1]
    return [_curve(str(name), steps[numbers[name].notna()], numbers[name].dropna()) for name in names]


def _curve(name: str, steps: pd.Series, values: pd.Series) -> Curve:
    """Averaged to at most MAX_KNOTS, so that neither noise nor a long log fills the page."""
    pieces = min(MAX_KNOTS, len(values))
    x = np.array([part.mean() for part in np.array_split(steps.to_numpy(float), pieces)])
    y = np.array([part.mean() for part in np.array_split(values.to_numpy(float), pieces)])
    low, high = float(y.min()), float(y.max())
    across = (x - x[0]) / ((x[-1] - x[0]) or 1) * WIDTH
    down = HEIGHT - (y - low) / ((high - low) or 1) * HEIGHT
    knots = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    labels = (f"{steps.iloc[0]:g}", f"{steps.iloc[-1]:g}", f"{low:.3g}", f"{high:.3g}", f"{y[-1]:.3g}")
    return Curve(name, "M" + knots, *labels)


def _rectangle(instance: Instance) -> Markup:
    assert instance.box is not None
    x0, y0, x1, y1 = instance.box
    return Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(*map(_short, (x0, y0, x1 - x0, y1 - y0)))


def _outline(instance: Instance) -> Markup:
    """The mask's contours: a frame of one pixel around it, and pixels' middles at a half, leave half a pixel."""
    assert instance.mask is not None
    mask_HW = masks.decode(instance.mask)
    height, width = mask_HW.shape
    paths = []
    for contour in find_contours(np.pad(mask_HW, 1).astype(float), 0.5):
        knots = (approximate_polygon(contour, 0.3) - 0.5) / (height, width)
        paths.append("M" + " ".join(f"{_short(x)},{_short(y)}" for y, x in knots) + "Z")
    return Markup('<path d="{}"/>').format("".join(paths))


def _dots(points: Sequence[tuple[float, float]] | None, radius: float) -> Markup:
    circle = Markup('<circle cx="{}" cy="{}" r="{}"/>')
    return Markup("").join(circle.format(_short(x), _short(y), radius) for x, y in points or ())


def _short(number: float) -> str:
    return f"{number:.4f}".rstrip("0").rstrip(".")
