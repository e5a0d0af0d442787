"""Pictures from outside: kept as they came, converted once without loss, or refused with a reason.

What is stored must look the same to every later reader, so only 8-bit grey or RGB pictures in common formats, upright
and alone in their file, are kept byte for byte. Anything else becomes a PNG of its first frame, and is counted.
"""

import hashlib
import io
import warnings
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError
from pydantic import NonNegativeInt, PositiveInt

from instdiff.files.picture_files import FORMATS, ORIENTATION, UPRIGHT, rgb, upright
from instdiff.schema import Strict
from instdiff.work.outcomes import Failure

SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # MPO: a JPEG with more pictures behind it


class Limits(Strict):
    """Which pictures are worth having."""

    min_side: NonNegativeInt  # pixels
    max_pixels: PositiveInt  # checked before anything is decoded: a small file may claim to be huge


class Admitted(NamedTuple):
    """A picture as it will be stored."""

    encoded: bytes
    kind: str  # "png", "jpg", "webp": the file's suffix
    width: int
    height: int
    sha256: str
    converted: str | None  # why it is not the file that came; None: it is


def admit(encoded: bytes, size: tuple[int, int] | None, limits: Limits) -> Admitted | Failure:
    """The picture of these bytes, or why there is none; never raises.

    `size` is the (width, height) that annotations were made for, None without any: where a camera noted that it was
    held sideways, the picture is turned upright unless the annotations speak of it as it lies.
    """
    if not encoded:
        return Failure("empty_file", "no bytes")
    try:
        with warnings.catch_warnings():  # of half a bomb, and of odd metadata: the limits speak for themselves
            warnings.simplefilter("ignore")
            return _admitted(encoded, size, limits)
    except Image.DecompressionBombError as error:
        return Failure("too_large", str(error))
    except UnidentifiedImageError:
        return Failure("not_a_picture", f"none of {', '.join(FORMATS)}")
    except MemoryError:
        return Failure("out_of_memory", "while it was decoded")
    except Exception as error:  # decoders raise anything on damaged bytes: SyntaxError, struct.error, KeyError, ...
        return Failure("broken_picture", f"{type(error).__name__}: {error}")


def _admitted(encoded: bytes, size: tuple[int, int] | None, limits: Limits) -> Admitted | Failure:
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        width, height = image.size
        if width * height > limits.max_pixels:
            return Failure("too_large", f"{width}x{height} pixels, {limits.max_pixels} at most")
        if min(width, height) < limits.min_side:
            return Failure("too_small", f"{width}x{height} pixels, {limits.min_side} at least")
        if image.mode in {"I", "F"}:
            return Failure("unusual_depth", f"mode {image.mode}: neither 8 nor 16 bits a channel")
        deep = any(";16" in str(tile.args) for tile in image.tile)  # where the mode says 8 bits, loading cuts them
        image.load()
        why = _why_converted(image) or (f"mode_{image.mode}_16" if deep else None)
        turned = upright(image, size) if why == "rotated" else image
        if size is not None and size != turned.size:
            return Failure("size_mismatch", f"{turned.width}x{turned.height}, but annotated at {size[0]}x{size[1]}")
        kind = "png" if why else SUFFIXES[str(image.format)]
        stored = _png(turned) if why else encoded
    return Admitted(stored, kind, *turned.size, hashlib.sha256(stored).hexdigest(), why)


def _why_converted(image: Image.Image) -> str | None:
    if image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT:
        return "rotated"
    if image.format not in SUFFIXES:
        return "format"
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return "animated"
    return None if image.mode in {"RGB", "L"} else f"mode_{image.mode.replace(';', '_')}"


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    rgb(image).save(stream, "png")
    return stream.getvalue()
