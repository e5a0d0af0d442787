"""What a page without network is made of: its template, pictures as data URIs, and SVG over them.

Coordinates of overlays are fractions (a viewBox of 1 by 1), so they fit a picture at any size.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from instdiff.layouts import masks
from instdiff.layouts.geometry import Pixels
from instdiff.schema import Instance


def page(template: Path, content: Mapping[str, object]) -> str:
    """The page of a Jinja template; a value that the template asks for and does not get is an error."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(content)


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
