"""The pictures to judge: one a key, of the right size, and not the real ones.

A published reproduction once scored the real pictures and did not notice. So pictures are matched by name and
never by order, identified by the hash of their pixels, and what does not fit is refused by name.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from instdiff.files.picture_files import SUFFIXES, opened

Pixels = NDArray[np.uint8]  # (height, width, 3)
Size = tuple[int, int]  # height, width

MAX_NAMES = 5  # names in a sentence
THUMBNAIL_SIDE = 16  # pixels a side
SAME_PICTURE = 2.0  # levels of 255, mean over a thumbnail: JPEG and resizing stay below, other pictures do not


@dataclass(frozen=True)
class Pictures:
    """A folder's pictures in the order of the images table."""

    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]  # height, width
    digests: tuple[str, ...]  # of sizes and pixels: a copy in another file format has the same one
    thumbnails: tuple[Pixels, ...]  # grey squares of THUMBNAIL_SIDE, which compression and resizing hardly change
    stated: tuple[Size, ...]  # by the images table: a picture that lies as stated is not turned by its EXIF tag

    @property
    def digest(self) -> str:
        """Identifies the whole set: which pixels belong to which key."""
        lines = [f"{key} {digest}" for key, digest in zip(self.keys, self.digests, strict=True)]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def load(self, place: int) -> Pixels:
        """The pixels of one picture, RGB."""
        return read(self.paths[place], self.stated[place])


def find(folder: Path, images: pd.DataFrame, square: int | None) -> Pictures:
    """Match the pictures of a folder to the keys of the images table by file stem.

    A picture has the size its row states or, where the model draws squares, `square` x `square` pixels; all of a
    set alike. ValueError names missing, extra, duplicate and wrongly sized pictures.
    """
    if images.empty:
        raise ValueError("the images table is empty: nothing to evaluate")
    paths = _by_stem(folder, images["key"])
    stated = list(zip(images["height"].astype(int), images["width"].astype(int), strict=True))
    pictures = of_files(list(images["key"]), paths, stated)
    _check_sizes(folder, paths, pictures.sizes, stated, square)
    return pictures


def of_files(keys: Sequence[str], paths: Sequence[Path], stated: Sequence[Size]) -> Pictures:
    """The pictures of these files, read and hashed; ValueError names the file that cannot be read."""
    measured = [_measured(path, size) for path, size in zip(paths, stated, strict=True)]
    return Pictures(
        keys=tuple(keys),
        paths=tuple(paths),
        sizes=tuple(size for size, _, _ in measured),
        digests=tuple(digest for _, digest, _ in measured),
        thumbnails=tuple(thumbnail for _, _, thumbnail in measured),
        stated=tuple(stated),
    )


def refuse_real(pictures: Pictures, real: Pictures) -> None:
    """ValueError when any picture has the very pixels of a real one, or most of them look like their own real one.

    The second catches real pictures that were resized or compressed anew.
    """
    real_digests = set(real.digests)
    same = [key for key, digest in zip(pictures.keys, pictures.digests, strict=True) if digest in real_digests]
    if same:
        raise ValueError(
            f"{len(same)} of {len(pictures.keys)} pictures are the real ones ({_names(same)}): "
            "real pictures are judged in the row 'real' only"
        )
    pairs = zip(pictures.keys, pictures.thumbnails, real.thumbnails, strict=True)
    alike = [
        key
        for key, thumbnail, real_thumbnail in pairs
        if np.abs(thumbnail.astype(float) - real_thumbnail).mean() < SAME_PICTURE
    ]
    if 2 * len(alike) > len(pictures.keys):
        raise ValueError(
            f"{len(alike)} of {len(pictures.keys)} pictures look like the real ones, resized or compressed"
            f" ({_names(alike)}): real pictures are judged in the row 'real' only"
        )


def refuse_duplicates(pictures: Pictures) -> None:
    """ValueError when one picture stands under two names: a model draws none twice, a failing script does."""
    counts = Counter(pictures.digests)
    same = [key for key, digest in zip(pictures.keys, pictures.digests, strict=True) if counts[digest] > 1]
    if same:
        raise ValueError(f"{len(same)} pictures have the pixels of another of their set: {_names(same)}")


def read(path: Path, stated: Size | None = None) -> Pixels:
    """The picture's pixels, upright unless it lies as stated; ValueError names the file that cannot be read."""
    return np.asarray(opened(path, None if stated is None else stated[::-1]), np.uint8)


def digest_of(pixels: Pixels) -> str:
    """SHA-256 of height, width and pixels: what a picture is called wherever its file's name does not matter."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{height} {width}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _by_stem(folder: Path, keys: Sequence[str] | pd.Series) -> list[Path]:
    if not folder.is_dir():
        what = "is a file, where a folder of pictures is expected" if folder.exists() else "no such folder of pictures"
        raise ValueError(f"{folder}: {what}")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    wanted, stems = Counter(keys), Counter(path.stem for path in files)
    _refuse(folder, "keys that stand twice in the images table", [key for key, count in wanted.items() if count > 1])
    _refuse(folder, "duplicate pictures", [path.name for path in files if stems[path.stem] > 1])
    _refuse(folder, "missing pictures", [key for key in keys if key not in stems])
    _refuse(folder, "extra pictures", [path.name for path in files if path.stem not in wanted])
    by_stem = {path.stem: path for path in files}
    return [by_stem[key] for key in keys]


def _check_sizes(
    folder: Path,
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    stated: Sequence[tuple[int, int]],
    square: int | None,
) -> None:
    """All pictures as stated, or all of the model's square."""
    rows = zip(paths, sizes, stated, strict=True)
    wrong = [f"{path.name} is {width}x{height}" for path, (height, width), want in rows if (height, width) != want]
    if not wrong or all(size == (square, square) for size in sizes):
        return
    allowed = "the size of the images table" + (f" or all {square}x{square}" if square else "")
    _refuse(folder, f"wrongly sized pictures, allowed is {allowed}", wrong)


def _refuse(folder: Path, what: str, names: Sequence[str]) -> None:
    if names:
        raise ValueError(f"{folder}: {len(names)} {what}: {_names(names)}")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


def _measured(path: Path, stated: Size) -> tuple[Size, str, Pixels]:
    """Height and width, the hash of size and pixels, and the thumbnail; the pixels themselves are not kept."""
    pixels = read(path, stated)
    height, width = pixels.shape[:2]
    digest = digest_of(pixels)
    thumbnail = Image.fromarray(pixels).convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return (height, width), digest, np.asarray(thumbnail, np.uint8)
