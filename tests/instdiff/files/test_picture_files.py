"""Opening a picture that a person brings: upright, on white, 8 bits, and one sentence where it cannot be."""

import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instdiff.files.picture_files import FORMATS, SUFFIXES, UNREAD, opened, raw

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def saved(path: Path, image: Any, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was_held_unless_it_lies_as_stated(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "phone.png", PIXELS, exif=exif)
    turns = {3: 2, 6: -1, 8: 1}
    if orientation in turns:
        assert np.array_equal(opened(path), np.rot90(PIXELS, turns[orientation]))
    assert opened(path).size == ((24, 32) if orientation > 4 else (32, 24))
    assert np.array_equal(opened(path, (32, 24)), PIXELS)


def test_what_is_transparent_is_white_and_sixteen_bits_are_their_high_byte(tmp_path: Path) -> None:
    half = np.dstack([PIXELS, np.where(np.arange(32) < 16, 0, 255)[None].repeat(24, 0).astype(np.uint8)])
    assert (np.asarray(opened(saved(tmp_path / "clear.png", half)))[:, :16] == 255).all()
    assert np.array_equal(np.asarray(opened(tmp_path / "clear.png"))[:, 16:], PIXELS[:, 16:])
    grey = Image.fromarray(half).convert("LA")
    assert (np.asarray(opened(saved(tmp_path / "grey.png", grey)))[:, :16] == 255).all()
    key = Image.fromarray(np.zeros((4, 4), np.uint8))
    assert (np.asarray(opened(saved(tmp_path / "key.png", key, transparency=0))) == 255).all()
    deep = np.full((4, 4), 0x80FF, np.uint16)
    assert (np.asarray(opened(saved(tmp_path / "deep.png", deep))) == 0x80).all()


def test_every_suffix_of_a_format_that_is_read_is_one_that_is_looked_for() -> None:
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in {*FORMATS, "MPO"}}
    assert suffixes == SUFFIXES
    assert not SUFFIXES & UNREAD


def test_a_large_picture_that_is_no_bomb_is_read_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "large.png", PIXELS)
    for pixels, is_read in ((PIXELS.size // 3 - 1, True), (PIXELS.size // 6 - 1, False)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if is_read:
                assert np.array_equal(opened(path), PIXELS)
            else:
                with pytest.raises(ValueError, match="decompression bomb"):
                    opened(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "QOI"])
def test_formats_are_read(tmp_path: Path, kind: str) -> None:
    assert opened(saved(tmp_path / "some.picture", np.zeros((32, 32, 3), np.uint8), format=kind)).size == (32, 32)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "none of AVIF, BMP"),
        (b"<html>404</html>", "none of AVIF, BMP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of AVIF, BMP"),
        ("float", "mode F: neither 8 nor 16 bits a channel"),
        ("cut", "truncated"),
        ("bomb", "decompression bomb"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "odd.png"
    stream = io.BytesIO()
    if content == "float":
        Image.fromarray(np.zeros((8, 8), np.float32)).save(stream, "TIFF")
    else:
        Image.fromarray(PIXELS).save(stream, "PNG")
    whole = bytearray(stream.getvalue())
    if content == "cut":
        whole = whole[: len(whole) // 2]
    if content == "bomb":
        whole[16:24] = (60_000).to_bytes(4, "big") * 2
        whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else bytes(whole))
    with pytest.raises(ValueError, match=r"odd\.png: not a readable picture \(") as error:
        opened(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_are_the_picture_and_a_folder_is_one(tmp_path: Path) -> None:
    for read in (opened, raw):
        with pytest.raises(ValueError, match=r"^the picture: not a readable picture \(none of AVIF"):
            read(b"none")
        with pytest.raises(ValueError, match=r"not a readable picture \(it is a folder\)$"):
            read(tmp_path)
    palette = Image.fromarray(PIXELS).convert("P")
    assert raw(saved(tmp_path / "palette.png", palette)).mode == "P"
    assert np.array_equal(opened((tmp_path / "palette.png").read_bytes()), palette.convert("RGB"))
