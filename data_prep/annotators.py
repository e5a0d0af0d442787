"""How annotators meet pictures: in batches, with every failure kept as a row and a reason.

Annotators add, they never drop: what could not be done is in the stage's ledger, what could is in its table.
"""

import errno
import hashlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from instdiff import tables
from instdiff.schema import Box
from instdiff.tables import LEDGER

Item = TypeVar("Item")
Result = TypeVar("Result")


class Failure(NamedTuple):
    """Why something could not be done: a word to count by, and what a person needs to know."""

    reason: str
    detail: str


class Found(NamedTuple):
    """One instance that a grounder sees."""

    category: str | None
    box: Box
    score: float


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


def outcomes(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result | Failure]], batch_size: int
) -> Iterator[tuple[Item, Result | Failure]]:
    """Each item with what `work` made of it or why not, in order.

    A batch that fails as a whole is done again item by item, so that one bad picture costs no other.
    """
    for start in range(0, len(items), batch_size):
        batch = items[start : start + batch_size]
        try:
            results = work(batch)
        except EXPECTED:
            results = [_alone(item, work) for item in batch]
        yield from zip(batch, results, strict=True)


EXPECTED = (OSError, ValueError, RuntimeError, MemoryError)  # anything else is a fault of ours and ends the stage


def _alone(item: Item, work: Callable[[Sequence[Item]], Sequence[Result | Failure]]) -> Result | Failure:
    try:
        (result,) = work([item])
    except EXPECTED as error:
        if isinstance(error, OSError) and error.errno in FULL:  # no fault of this picture: stop, and go on later
            raise
        return Failure(_reason(error), f"{type(error).__name__}: {error}{_trace(error)}")
    return result


FULL = (errno.ENOSPC, errno.EDQUOT)


def _trace(error: Exception) -> str:
    """Where it came from, as a hash that equal faults share; nothing for a picture that cannot be read."""
    if isinstance(error, UnreadablePicture):
        return ""
    frames = [f"{Path(frame.filename).name}:{frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    return f" [traceback {hashlib.sha256(chr(10).join(frames).encode()).hexdigest()[:8]}]"


def _reason(error: Exception) -> str:
    if isinstance(error, UnreadablePicture):
        return "unreadable_picture"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without torch
        return "out_of_memory"
    return "failed"


def utf8(text: str) -> str:
    """The text as a table can hold it: half a character, which JSON may spell, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Ledger:
    """What could not be done, row by row."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, key: str, index: int, failure: Failure) -> None:
        """Note a failure; index -1 is the whole picture."""
        self.rows.append({"key": key, "index": index, "reason": failure.reason, "detail": utf8(failure.detail)})

    def counts(self, verb: str = "failed") -> dict[str, int]:
        """How many rows of each reason, as `<verb>_<reason>`."""
        reasons = [f"{verb}_{row['reason']}" for row in self.rows]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def write(self, path: Path) -> None:
        """The ledger as a Parquet table."""
        tables.write(path, self.rows, LEDGER)
