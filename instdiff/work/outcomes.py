"""Work in batches of which one bad item costs no other: each item gets a result or the reason why not."""

import errno
import hashlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from instdiff.work.pictures import UnreadablePicture

Item = TypeVar("Item")
Result = TypeVar("Result")


class Failure(NamedTuple):
    """Why something could not be done: a word to count by, and what a person needs to know."""

    reason: str
    detail: str


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
