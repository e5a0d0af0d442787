"""A row of the table that a command draws: layouts.json in, a picture a layout out, named by its key.

Any generator in any environment: a script around diffusers, a ComfyUI workflow, a container. The command is given the
layouts that have no picture yet and writes their pictures one by one into a folder; a kill of either side costs the
picture in flight. What it wrote is taken over only where it can be read as a whole.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instdiff.files import atomic, picture_files, provenance
from instdiff.layouts import files
from instdiff.layouts.formats import LOCATION_FORMATS
from instdiff.layouts.table_rows import TableRow
from instdiff.progress import track
from instdiff.schema import Layout
from instdiff.work import resume

LAST_CHARACTERS = 400  # characters of a command's last words
POLL = 0.2  # seconds between two looks at what a command has written
COMPLETE, INCOMING, LAYOUTS, LOG = "pictures", "incoming", "layouts.json", "log.txt"


def draw(
    layouts: Sequence[Layout], row: TableRow, seed: int, digest: str, generated: Path, origin: Mapping[str, Any]
) -> dict[str, float]:
    """Run the row's command on every layout without a picture, and write the folder of pictures with its record.

    `digest` is of all that decides the pictures but the command's own files, `origin` what the record says besides.
    ValueError says why the command failed, or which pictures are missing, unreadable or of no layout; those that are
    whole are kept for the next run.
    """
    command = row.command or ()
    programs = programs_of(command)
    own = hashlib.sha256(repr(sorted(programs.items())).encode()).hexdigest()[:8]
    scratch = resume.folder(f"{digest}-{own}")
    complete, keys = scratch / COMPLETE, {layout.key for layout in layouts}
    complete.mkdir(parents=True, exist_ok=True)
    for left in scratch.glob(f"{INCOMING}-*"):  # by a run that was killed
        take_over(left, complete, keys)
        atomic.remove(left)
    missing = [layout for layout in layouts if layout.key not in by_key(complete)]
    if missing:
        _run(command, [only(layout, row) for layout in missing], seed, scratch)
    pictures = by_key(complete)
    lacking = [layout.key for layout in layouts if layout.key not in pictures]
    if lacking:
        raise ValueError(f"the command wrote no readable picture of {len(lacking)} layouts: {_names(lacking)}")
    with atomic.folder(generated) as part:
        for layout in layouts:
            shutil.copyfile(pictures[layout.key], part / pictures[layout.key].name)
        lines = [provenance.picture_line(part, pictures[layout.key].name, layout.key) for layout in layouts]
        provenance.write(part, lines, command=list(command), programs=programs, seed=seed, **origin)
    for left in scratch.parent.glob(f"{digest}-*"):  # by earlier versions of the command's files, too
        resume.clear(left)
    return {"pictures": len(layouts), "instances": sum(len(layout.instances) for layout in layouts)}


def only(layout: Layout, row: TableRow) -> Layout:
    """The layout with the location formats that the row keeps, and no others."""
    withheld: dict[str, None] = {entry.name: None for entry in LOCATION_FORMATS if entry.name not in row.formats}
    instances = tuple(instance.model_copy(update=withheld) for instance in layout.instances)
    return layout.model_copy(update={"instances": instances})


def programs_of(command: Sequence[str]) -> dict[str, str]:
    """A fingerprint of every file and folder among a command's words: its script, its workflow, its weights."""
    here = Path.cwd()
    paths = [Path(word) for word in command if word and "\n" not in word and os.path.exists(word)]  # noqa: PTH110
    own = [path for path in paths if not here.is_relative_to(path.resolve())]  # a folder we stand in is no program
    return {str(path): provenance.fingerprint(path) for path in own if path.is_file() or provenance.files(path)}


def take_over(incoming: Path, complete: Path, keys: Collection[str]) -> int:
    """Move the pictures of these keys that are whole out of a command's folder; how many they were."""
    whole = [path for path in _pictures(incoming) if path.stem in keys and _is_whole(path)]
    for path in whole:
        path.replace(complete / path.name)
    return len(whole)


def by_key(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by their stem."""
    return {path.stem: path for path in _pictures(folder)}


def _run(command: Sequence[str], layouts: Sequence[Layout], seed: int, scratch: Path) -> None:
    """Run it, taking over pictures as they appear; ValueError where it fails or writes what nobody asked for."""
    incoming, keys = scratch / f"{INCOMING}-{os.getpid()}", [layout.key for layout in layouts]
    incoming.mkdir()
    files.write(scratch / LAYOUTS, layouts)
    places = {"{layouts}": str(scratch / LAYOUTS), "{out}": str(incoming), "{seed}": str(seed)}
    with (scratch / LOG).open("wb") as log:
        words = [_filled(word, places) for word in command]
        running = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            arriving = _arriving(running, lambda: take_over(incoming, scratch / COMPLETE, keys))
            for _ in track(arriving, len(keys), "picture"):
                pass
        finally:
            if running.poll() is None:  # who ends us ends the command
                running.terminate()
                running.wait()
    others = [path.name for path in _pictures(incoming)]
    atomic.remove(incoming)
    if running.returncode:
        last = " ".join((scratch / LOG).read_text("utf-8", "replace").split())[-LAST_CHARACTERS:]
        raise ValueError(f"the command ended with {running.returncode}: {last or 'without a word'}")
    unknown = [name for name in others if Path(name).stem not in keys]
    if unknown:
        raise ValueError(f"the command wrote {len(unknown)} pictures of no layout it was given: {_names(unknown)}")


def _arriving(running: "subprocess.Popen[bytes]", taken: Callable[[], int]) -> Iterator[None]:
    """Once for each picture as it is taken over, until the command has ended."""
    while running.poll() is None:
        yield from [None] * taken()
        time.sleep(POLL)
    yield from [None] * taken()


def _filled(word: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(name, value)
    return word


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in picture_files.SUFFIXES and not path.name.startswith(".")
    )


def _is_whole(path: Path) -> bool:
    """Whether all its pixels can be read; those of a picture that is still being written cannot."""
    try:
        picture_files.opened(path)
    except ValueError:
        return False
    return True


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
