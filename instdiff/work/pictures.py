"""A picture of the images table, and its pixels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image


class UnreadablePicture(ValueError):
    """The file is no picture, or not the one its table describes."""


@dataclass(frozen=True)
class Picture:
    """A row of the IMAGES table and where its file is."""

    key: str
    path: Path
    height: int
    width: int
    caption: str

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) RGB; UnreadablePicture names the file."""
        try:
            with Image.open(self.path) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadablePicture(f"{self.path}: {error}") from error
        if pixels.shape[:2] != (self.height, self.width):
            raise UnreadablePicture(f"{self.path}: {pixels.shape[1]}x{pixels.shape[0]}, not {self.width}x{self.height}")
        return pixels


def pictures_of(folder: Path, images: pd.DataFrame) -> list[Picture]:
    """The pictures of an IMAGES table, in its order."""
    return [
        Picture(row["key"], folder / row["file"], row["height"], row["width"], row["caption"])
        for row in images.to_dict("records")
    ]
