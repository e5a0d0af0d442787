"""One picture of samples: a column a layout, its phrases and boxes at the top, below them what each row drew.

The ground is transparent and the letters are grey, so that the sheet reads on a light page and on a dark one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.inputs.pictures import Pixels
from instdiff.layouts import overlay
from instdiff.schema import Layout

MARGIN, LABEL, LETTERS, LINE = 6, 92, 15, 20  # pixels: between pictures, for rows' names, of letters, of a line
INK, PANEL = (125, 125, 125, 255), (38, 38, 38)  # of letters, and what the boxes of a layout are drawn on
CLEAR = (0, 0, 0, 0)


def sheet(rows: Mapping[str, Sequence[Pixels]], layouts: Sequence[Layout], side: int) -> Image.Image:
    """RGBA; every picture is `side` pixels wide and high, pixels enlarged as squares."""
    step = side + MARGIN
    top = MARGIN + LINE * max(len(layout.instances) for layout in layouts)
    canvas = Image.new("RGBA", (LABEL + step * len(layouts), top + step * (len(rows) + 1)), CLEAR)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(LETTERS)
    for down, name in enumerate(("layout", *rows)):
        pen.text((MARGIN, top + step * down + side // 2), name, fill=INK, font=font, anchor="lm")
    for across, layout in enumerate(layouts):
        left = LABEL + across * step
        _phrases(pen, layout, left, top - MARGIN, side, font)
        canvas.paste(boxes(layout, side), (left, top))
        for down, pictures in enumerate(rows.values(), start=1):
            picture = Image.fromarray(np.asarray(pictures[across])).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + step * down))
    return canvas


def boxes(layout: Layout, side: int) -> Image.Image:
    """The layout's boxes, each in the colour of its phrase."""
    panel = Image.new("RGB", (side, side), PANEL)
    pen = ImageDraw.Draw(panel)
    for number, instance in enumerate(layout.instances):
        if instance.box is not None:
            x0, y0, x1, y1 = (edge * side for edge in instance.box)
            pen.rectangle([x0, y0, x1 - 1, y1 - 1], outline=overlay.colour(number), width=max(1, side // 64))
    return panel


def _phrases(
    pen: ImageDraw.ImageDraw,
    layout: Layout,
    left: int,
    bottom: int,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """One line a phrase, behind a square of its colour; the last line stands on the picture."""
    for number, instance in enumerate(layout.instances):
        middle = bottom - LINE * (len(layout.instances) - number) + LINE // 2
        pen.rectangle([left, middle - 5, left + 9, middle + 4], fill=overlay.colour(number))
        pen.text(
            (left + 14, middle), _fitting(pen, instance.phrase, width - 14, font), fill=INK, font=font, anchor="lm"
        )


def _fitting(
    pen: ImageDraw.ImageDraw, words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The words, or as many letters of them as fit before an ellipsis."""
    if pen.textlength(words, font=font) <= width:
        return words
    shorter = (words[:end].rstrip() + "…" for end in range(len(words) - 1, 0, -1))
    return next((part for part in shorter if pen.textlength(part, font=font) <= width), "")
