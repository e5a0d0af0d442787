"""One flow at a time in a working tree: the next waits, and says for whom."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

LOCK = Path(".dvc/tmp/flow.lock")  # where DVC keeps its own, out of Git


@contextmanager
def held(name: str, say: Callable[[str], None], path: Path = LOCK) -> Iterator[int]:
    """Keep other flows out of the tree, and yield the open lock.

    The operating system lets go of it when the last process that has it open ends, so that no crash leaves it behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "it has just begun"
            say(f"Another run works in {Path.cwd()} ({holder}); this one waits until it ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{name}, process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        file.flush()
        yield file.fileno()
