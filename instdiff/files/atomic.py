"""Finished means written: an output appears under its name only when it is complete.

What is not yet complete lies beside it as `.<name>.<machine>.<process>.part`; what a killed process left there goes
when the same output is written again on the same machine.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Yield a path to write; on success sync it and rename it to `path`, on failure remove it."""
    aside = _aside(path, "part")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success sync its files and rename it to `path`, replacing what was there."""
    aside, replaced = _aside(path, "part"), _aside(path, "old")
    aside.mkdir()
    try:
        yield aside
        for written in sorted(aside.rglob("*")):
            if written.is_file():
                _sync(written)
        if path.exists():  # deleted only under another name: a kill must not leave half of it under this one
            path.replace(replaced)
        aside.replace(path)
        _sync(path.parent)
    finally:
        _remove(aside)
        _remove(replaced)


def remove(path: Path) -> None:
    """Remove a folder or a file if it is there; a kill leaves all of it or nothing under its name."""
    gone = _aside(path, "old")
    if path.exists():
        path.replace(gone)
    _remove(gone)


def link(path: Path, to: Path) -> None:
    """Give a complete file a second name, or a copy where the disk knows no such thing."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def _aside(path: Path, kind: str) -> Path:
    """Where an unfinished `path` lies, with nothing there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{gethostname()}."
    for left in path.parent.iterdir():
        process, _, end = left.name.removeprefix(ours).partition(".")
        if left.name.startswith(ours) and process.isdigit() and end == kind and not _runs(int(process)):
            _remove(left)
    return path.with_name(f"{ours}{os.getpid()}.{kind}")


def _runs(process: int) -> bool:
    if process == os.getpid():  # what we left ourselves is of no use either
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's, so it runs
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
