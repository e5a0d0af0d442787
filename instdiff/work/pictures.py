"""A picture of the images table, and its pixels."""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image


class UnreadablePicture(ValueError):
    """The file is no picture, or not the one its table describes."""


@dataclass(frozen=True)
class Picture:
    """A row of the IMAGES table and where its file is: by itself, or inside a pack's tar."""

    key: str
    path: Path
    height: int
    width: int
    caption: str
    offset: int | None = None  # of the file's first byte in the tar at `path`; None: `path` is the file
    length: int = 0  # bytes of the file in the tar
    file: str = ""  # its name in the tar

    @property
    def name(self) -> str:
        """The file, as a sentence names it."""
        return str(self.path) if self.offset is None else f"{self.path}: {self.file}"

    @property
    def kind(self) -> str:
        """The file's suffix without its dot: "png", "jpg"."""
        return (self.file or self.path.name).rpartition(".")[2]

    def encoded(self) -> bytes:
        """The file's bytes."""
        if self.offset is None:
            return self.path.read_bytes()
        with self.path.open("rb") as tar:
            tar.seek(self.offset)
            return tar.read(self.length)

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width, 3) RGB; UnreadablePicture names the file."""
        try:
            with Image.open(io.BytesIO(self.encoded())) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadablePicture(f"{self.name}: {error}") from error
        if pixels.shape[:2] != (self.height, self.width):
            raise UnreadablePicture(f"{self.name}: {pixels.shape[1]}x{pixels.shape[0]}, not {self.width}x{self.height}")
        return pixels


def pictures_of(folder: Path, images: pd.DataFrame) -> list[Picture]:
    """The pictures of an IMAGES table that lie in a folder, in its order."""
    return [
        Picture(row["key"], folder / row["file"], row["height"], row["width"], row["caption"])
        for row in images.to_dict("records")
    ]


def pictures_of_pack(tar: Path, images: pd.DataFrame) -> list[Picture]:
    """The pictures of a pack by its part of the PICTURES table; those without an offset lie beside the tar."""
    beside = pictures_of(tar.parent, images)
    places = zip(images["offset"], images["length"], images["file"], strict=True)
    return [
        picture if pd.isna(offset) else replace(picture, path=tar, offset=int(offset), length=int(length), file=file)
        for picture, (offset, length, file) in zip(beside, places, strict=True)
    ]
