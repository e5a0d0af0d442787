"""The pictures of a benchmark: which file is of which case, and which are missing.

A missing picture is no reason to stop, but it is counted. A file that belongs to no case is refused by name, for it
shows that keys and names do not fit.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from eval.benchmarks.case import Case, PictureFiles
from eval.inputs.pictures import MAX_NAMES, Pictures, digest_of, of_files, read
from instdiff.files import provenance
from instdiff.files.picture_files import ERRORS, FORMATS, ORIENTATION, SUFFIXES
from instdiff.files.texts import one_line

TURNED = range(5, 9)  # orientations of EXIF that exchange height and width


class ExpectedPicture(NamedTuple):
    """A picture that a benchmark expects; its path is None where it is missing, and its size that of the case."""

    case: Case
    place: int  # of the case
    repeat: str
    path: Path | None
    size: tuple[int, int]  # height, width

    @property
    def name(self) -> str:
        """Its key and, where there are several pictures of it, which."""
        return f"{self.case.key}/{self.repeat}" if self.repeat else self.case.key

    @property
    def texts(self) -> list[str]:
        """The texts that a finder searches for in it, each once."""
        instances = (*self.case.instances, *self.case.excluded)
        return list(dict.fromkeys(instance.category for instance in instances if instance.category is not None))


def find(folder: Path, cases: Sequence[Case], benchmark: PictureFiles) -> list[ExpectedPicture]:
    """Every picture expected, case by case; ValueError names the files that are of no case or of the same one."""
    if not folder.is_dir():
        what = "is a file, where a folder of pictures is expected" if folder.exists() else "no such folder of pictures"
        raise ValueError(f"{folder}: {what}")
    places = {case.key: place for place, case in enumerate(cases)}
    files: dict[tuple[str, str], Path] = {}
    strange, twice = [], []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or benchmark.left_aside(relative):
            continue
        named = benchmark.named(relative)
        if named is None or named.key not in places:
            strange.append(str(relative))
        elif named in files:
            twice.append(str(relative))
        else:
            files[named] = path
    _refuse(folder, "pictures of no layout of this benchmark", strange)
    _refuse(folder, "pictures that another one already is", twice)
    if not files:
        raise ValueError(f"{folder}: no picture of this benchmark is there; {benchmark.pictures} is expected")
    repeats = sorted({repeat for _, repeat in files})
    repeats += [f"missing-{number}" for number in range(len(repeats), benchmark.repeats)]
    return [
        _case_picture(case, place, repeat, files.get((case.key, repeat)))
        for place, case in enumerate(cases)
        for repeat in repeats
    ]


def whole(expected: Sequence[ExpectedPicture]) -> Pictures:
    """Those that are there, read and hashed, in the form that detectors are given."""
    present = [(picture, picture.path) for picture in expected if picture.path is not None]
    return of_files(
        [picture.name for picture, _ in present],
        [path for _, path in present],
        [picture.size for picture, _ in present],
    )


def digest(expected: Sequence[ExpectedPicture]) -> str:
    """Identifies the whole set by the files."""
    lines = [f"{picture.name} {provenance.of_file(picture.path)}" for picture in expected if picture.path is not None]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def identities(expected: Sequence[ExpectedPicture]) -> dict[str, str]:
    """The hash of size and pixels of each picture that is there, read in threads: decoding releases Python's lock."""
    present = [(picture.name, picture.path, picture.size) for picture in expected if picture.path is not None]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        digests = threads.map(lambda named: digest_of(read(named[1], named[2])), present)
        return {name: digest for (name, _, _), digest in zip(present, digests, strict=True)}


def _case_picture(case: Case, place: int, repeat: str, path: Path | None) -> ExpectedPicture:
    size = (case.height, case.width) if path is None else _size(path)
    return ExpectedPicture(case, place, repeat, path, size)


def _size(path: Path) -> tuple[int, int]:
    """Height and width, upright, without its pixels."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in TURNED
    except ERRORS as error:
        raise ValueError(f"{path}: not a readable picture ({one_line(error)})") from error
    return (width, height) if turned else (height, width)


def _refuse(folder: Path, what: str, names: Sequence[str]) -> None:
    if names:
        more = ", ..." if len(names) > MAX_NAMES else ""
        raise ValueError(f"{folder}: {len(names)} {what}: {', '.join(names[:MAX_NAMES])}{more}")
