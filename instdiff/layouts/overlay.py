"""A layout drawn over a picture: masks, boxes, strokes, points and the first words of each phrase."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from instdiff.formats import POINT_FORMATS, points_of
from instdiff.layouts import geometry, masks
from instdiff.schema import Instance, Layout, Point

Colour = tuple[int, int, int]
Frame = tuple[float, float, float, float]  # left, top, right, bottom, in pixels

_TURN = 0.618034  # of the colour circle, from one instance to the next
_COVER = 0.35  # of a mask
_MAX_WORDS = 40  # characters
_BLACK = (0, 0, 0)


def overlay(picture: Image.Image, layout: Layout) -> Image.Image:
    """A copy of the picture with the layout on it, each instance in a colour of its own."""
    drawn = picture.convert("RGB")
    colours = [colour(number) for number in range(len(layout.instances))]
    for one, shade in zip(layout.instances, colours, strict=True):
        if one.mask is not None:
            drawn = _covered(drawn, masks.decode(one.mask), shade)
    pen = ImageDraw.Draw(drawn)
    for one, shade in zip(layout.instances, colours, strict=True):
        _place(pen, drawn.size, one, shade)
    taken: list[Frame] = []
    for one, shade in zip(layout.instances, colours, strict=True):
        _word(pen, drawn.size, one, shade, taken)
    return drawn


def colour(number: int) -> Colour:
    """A bright colour, far from those of the numbers near it."""
    red, green, blue = colorsys.hsv_to_rgb(number * _TURN % 1, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _covered(picture: Image.Image, mask_HW: masks.Mask, shade: Colour) -> Image.Image:
    cover = Image.fromarray(np.where(mask_HW, np.uint8(255 * _COVER), np.uint8(0))).resize(picture.size, 0)
    return Image.composite(Image.new("RGB", picture.size, shade), picture, cover)


def _place(pen: ImageDraw.ImageDraw, size: tuple[int, int], one: Instance, shade: Colour) -> None:
    width, height = size

    def at(point: Point) -> tuple[float, float]:
        return point.x * (width - 1), point.y * (height - 1)

    if one.box is not None and geometry.clamp(one.box).area > 0:
        box = geometry.clamp(one.box)
        edges = [at(Point(box.x0, box.y0)), at(Point(box.x1, box.y1))]
        pen.rectangle(edges, outline=shade, width=max(1, height // 256))
    shown = [entry for entry in POINT_FORMATS if entry.reach is not None]  # an outline hides what it surrounds
    dots = [(at(point), 1) for entry in shown if entry.kind == "points" for point in points_of(one, entry)]
    dots += [(at(point), 3) for entry in shown if entry.kind == "point" for point in points_of(one, entry)]
    for rim, ink in ((1, _BLACK), (0, shade)):  # one rim around all: dots of a scribble lie on each other
        for place, radius in dots:
            _dot(pen, place, radius + rim, ink)


def _word(pen: ImageDraw.ImageDraw, size: tuple[int, int], one: Instance, shade: Colour, taken: list[Frame]) -> None:
    """The phrase where the instance begins, moved down until it covers no other, and its frame added to those taken."""
    width, height = size
    words = one.phrase[:_MAX_WORDS].encode("latin-1", "replace").decode("latin-1")  # what the built-in font has
    letters = max(10, height // 32)
    x, y = start(one)
    _, _, right, bottom = pen.textbbox((0, 0), words, stroke_width=1, font_size=letters)
    left, top = min(x * (width - 1) + 3, max(0.0, width - right)), min(y * (height - 1) + 1, max(0.0, height - bottom))
    frame = (left, top, left + right, top + bottom)
    while (hit := next((other for other in taken if _meet(frame, other)), None)) is not None:
        if hit[3] + bottom > height:
            break  # the picture is full of words here
        frame = (left, hit[3], left + right, hit[3] + bottom)
    taken.append(frame)
    pen.text(frame[:2], words, fill=shade, stroke_width=1, stroke_fill=_BLACK, font_size=letters)


def start(one: Instance) -> Point:
    """The corner of what is drawn of an instance: its box or mask, its point, or where its scribble begins."""
    box = one.box
    if box is None and one.mask is not None and (mask_HW := masks.decode(one.mask)).any():
        box = masks.box_of(mask_HW)
    if box is not None and (inside := geometry.clamp(box)).area > 0:
        return Point(inside.x0, inside.y0)
    if one.point is not None:
        return one.point
    return one.scribble[0] if one.scribble else Point(0.0, 0.0)


def _meet(one: Frame, other: Frame) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _dot(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: int, shade: Colour) -> None:
    x, y = at
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=shade)
