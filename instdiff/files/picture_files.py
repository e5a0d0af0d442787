"""Picture files that people bring, opened by one rule: upright, on white, 8 bits a channel."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from instdiff.files.texts import one_line

Size = tuple[int, int]  # width, height

FORMATS = (  # the decoders a stranger's bytes may reach: pictures with a signature, none that starts another program
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TIFF",
    "WEBP",
)
_READ = """
.apng .avif .avifs .bmp .bw .dib .gif .ico .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .pbm .pcx .pfm .pgm
.png .pnm .ppm .qoi .rgb .rgba .sgi .tif .tiff .webp
"""
_OTHERS = ".arw .cr2 .cr3 .dng .eps .exr .hdr .heic .heif .jxl .nef .orf .pdf .psd .raf .raw .svg .tga .xcf"
SUFFIXES = frozenset(_READ.split())  # of FORMATS
UNREAD = frozenset(_OTHERS.split())  # of pictures that no decoder here reads: named wherever a picture could stand
ORIENTATION, UPRIGHT = 0x0112, 1  # of EXIF
ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)  # of decoders on damaged bytes


def opened(source: Path | bytes, size: Size | None = None) -> Image.Image:
    """The picture in RGB, upright, what is transparent on white; ValueError if it cannot be read.

    `size` is the size that is stated of it elsewhere: a picture that has this size as it lies is not turned.
    """
    image = raw(source, size)
    try:
        return rgb(image)
    except ValueError as error:
        raise ValueError(f"{_name(source)}: not a readable picture ({error})") from error


def raw(source: Path | bytes, size: Size | None = None) -> Image.Image:
    """As `opened`, but in its own mode: palettes, transparency and 16 bits as they are."""
    try:
        with warnings.catch_warnings():  # of half a bomb, and of odd metadata
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                image.load()
                return upright(image, size)
    except ERRORS as error:
        raise ValueError(f"{_name(source)}: not a readable picture ({_why(error)})") from error


def upright(image: Image.Image, size: Size | None) -> Image.Image:
    """The picture turned as its EXIF tag says, unless it has the stated size as it lies."""
    return image.copy() if size == image.size else ImageOps.exif_transpose(image)


def rgb(image: Image.Image) -> Image.Image:
    """8 bits a channel: 16 bits at their high byte, what is transparent on white; ValueError for 32 bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ValueError(f"mode {image.mode}: neither 8 nor 16 bits a channel")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _name(source: Path | bytes) -> str:
    return "the picture" if isinstance(source, bytes) else str(source)


def _why(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "it is a folder"
        case UnidentifiedImageError():
            return f"none of {', '.join(FORMATS)}"
    return one_line(error)
