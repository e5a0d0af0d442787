"""Draw the picture of the README: `python docs/picture.py`, with the layers that weights/miniature ships.

Above what is said (docs/first.json), below what is drawn.
"""

from pathlib import Path

import torch
from PIL import Image

from instdiff.app.pipeline import pipeline
from instdiff.layouts import files
from instdiff.layouts.overlay import SIDE, overlay

DOCS = Path(__file__).parent
SHIPPED = DOCS.parent / "weights" / "miniature"
SEED, GAP, TILE = 0, 8, SIDE // 2
PAPER, GREY = (255, 255, 255), (70, 70, 70)


def sheet(above: list[Image.Image], below: list[Image.Image]) -> Image.Image:
    """Two rows of square tiles."""
    step = TILE + GAP
    whole = Image.new("RGB", (len(above) * step - GAP, 2 * step - GAP), PAPER)
    for row, pictures in enumerate((above, below)):
        for column, picture in enumerate(pictures):
            tile = picture.resize((TILE, TILE), Image.Resampling.LANCZOS if row == 0 else Image.Resampling.BICUBIC)
            whole.paste(tile, (column * step, row * step))
    return whole


def main() -> None:
    """Write docs/first.png."""
    layouts = files.read(DOCS / "first.json")
    pipe = pipeline(SHIPPED, instance=SHIPPED / "instance")
    pictures = [pipe(layout, generator=torch.Generator().manual_seed(SEED)).images[0] for layout in layouts]
    overlays = [overlay(Image.new("RGB", (SIDE, SIDE), GREY), layout) for layout in layouts]
    sheet(overlays, pictures).save(DOCS / "first.png", optimize=True)


if __name__ == "__main__":
    main()
