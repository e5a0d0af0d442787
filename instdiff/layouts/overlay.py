"""A picture with its layout on it: masks, boxes, strokes, points and the first words of each phrase."""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from instdiff.layouts import geometry, masks
from instdiff.layouts.formats import POINT_FORMATS, points_of
from instdiff.schema import Instance, Layout, Point

Colour = tuple[int, int, int]
Frame = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

SIDE = 512  # pixels of the longer side, at least
_TURN = 0.618034  # of the colour circle, from one instance to the next
_COVER = 0.35  # of a mask
_MAX_WORDS = 40  # characters
_BLACK = (0, 0, 0)


def overlay(picture: Image.Image, layout: Layout) -> Image.Image:
    """A copy of the picture with the layout on it, each instance in a colour of its own.

    Its longer side has `SIDE` pixels or more, so that words fit: a smaller picture is enlarged by a whole factor.
    """
    factor = max(1, -(-SIDE // max(picture.size)))
    canvas = picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    colours = [colour(number) for number in range(len(layout.instances))]
    for instance, shade in zip(layout.instances, colours, strict=True):
        if instance.mask is not None:
            canvas = _covered(canvas, masks.decode(instance.mask), shade)
    pen = ImageDraw.Draw(canvas)
    for instance, shade in zip(layout.instances, colours, strict=True):
        _place(pen, canvas.size, instance, shade)
    occupied: list[Frame] = []
    for instance, shade in zip(layout.instances, colours, strict=True):
        _word(pen, canvas.size, instance, shade, occupied)
    return canvas


def colour(number: int) -> Colour:
    """A bright colour, far from those of the numbers near it."""
    red, green, blue = colorsys.hsv_to_rgb(number * _TURN % 1, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _covered(picture: Image.Image, mask_HW: masks.Mask, shade: Colour) -> Image.Image:
    cover = Image.fromarray(np.where(mask_HW, np.uint8(255 * _COVER), np.uint8(0))).resize(picture.size, 0)
    return Image.composite(Image.new("RGB", picture.size, shade), picture, cover)


def _place(pen: ImageDraw.ImageDraw, size: tuple[int, int], instance: Instance, shade: Colour) -> None:
    width, height = size

    def at(point: Point) -> tuple[float, float]:
        return point.x * (width - 1), point.y * (height - 1)

    if instance.box is not None and geometry.clamp(instance.box).area > 0:
        box = geometry.clamp(instance.box)
        edges = [at(Point(box.x0, box.y0)), at(Point(box.x1, box.y1))]
        pen.rectangle(edges, outline=shade, width=max(1, height // 256))
    entries = [entry for entry in POINT_FORMATS if entry.reach is not None]  # an outline hides what it surrounds
    thick = max(1, height // 256)
    dots = [(at(point), thick) for entry in entries if entry.kind == "points" for point in points_of(instance, entry)]
    dots += [
        (at(point), 3 * thick) for entry in entries if entry.kind == "point" for point in points_of(instance, entry)
    ]
    for rim, ink in ((1, _BLACK), (0, shade)):  # a single rim around all: dots of a scribble lie on each other
        for place, radius in dots:
            _dot(pen, place, radius + rim, ink)


def _word(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], instance: Instance, shade: Colour, occupied: list[Frame]
) -> None:
    """The phrase where the instance begins, moved down until it covers no other; its frame joins `occupied`."""
    width, height = size
    words = instance.phrase[:_MAX_WORDS].encode("latin-1", "replace").decode("latin-1")  # what the built-in font has
    if not words:
        return
    letters = max(10, height // 22)
    x, y = start(instance)
    _, _, right, bottom = pen.textbbox((0, 0), words, font_size=letters)
    right, bottom = math.ceil(right) + 3, math.ceil(bottom) + 2
    lower = 1 if instance.box is not None or instance.mask is not None else 5 * max(1, height // 256)  # below a point
    left = round(min(x * (width - 1) + 3, max(0, width - right)))
    top = round(min(y * (height - 1) + lower, max(0, height - bottom)))
    frame = (left, top, left + right, top + bottom)
    while (hit := next((other for other in occupied if _meet(frame, other)), None)) is not None:
        if hit[3] + bottom > height:
            break  # the picture is full of words here
        frame = (left, hit[3], left + right, hit[3] + bottom)
    occupied.append(frame)
    inner = (frame[0], frame[1], frame[2] - 1, frame[3] - 1)  # a rectangle has both of its ends
    pen.rectangle(inner, fill=shade)  # whatever lies behind, it can be read
    pen.text((frame[0] + 1, frame[1]), words, fill=_BLACK, font_size=letters)


def start(instance: Instance) -> Point:
    """Where an instance begins: the corner of its box or mask, its point, or the first of its scribble."""
    box = instance.box
    if box is None and instance.mask is not None and (mask_HW := masks.decode(instance.mask)).any():
        box = masks.box_of(mask_HW)
    if box is not None and (inside := geometry.clamp(box)).area > 0:
        return Point(inside.x0, inside.y0)
    if instance.point is not None:
        return instance.point
    return instance.scribble[0] if instance.scribble else Point(0.0, 0.0)


def _meet(frame: Frame, other: Frame) -> bool:
    return frame[0] < other[2] and other[0] < frame[2] and frame[1] < other[3] and other[1] < frame[3]


def _dot(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: int, shade: Colour) -> None:
    x, y = at
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=shade)
