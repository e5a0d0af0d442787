"""Which pictures of a source make a pack, and a pack's tar.

Records are cut into packs by their own names, not by their numbers: a record that comes or goes changes its own pack
and, where that grows or shrinks past a limit, those beside it; the packs further on begin where they began before.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, TypeVar

Item = TypeVar("Item")
MODE = 0o444  # of members: webdataset's
ODDS = 4  # from half a pack on, a pack ends after one in (size / ODDS) records


def spans(groups: Mapping[str, int], size: int) -> list[list[tuple[str, range]]]:
    """The numbers of each group, `size` to a pack."""
    packs: list[list[tuple[str, range]]] = []
    room = 0
    for group, count in groups.items():
        start = 0
        while start < count:
            if not room:
                packs.append([])
                room = size
            stop = min(count, start + room)
            packs[-1].append((group, range(start, stop)))
            room -= stop - start
            start = stop
    return packs


def cut(items: Iterable[Item], names: Sequence[str], containers: Sequence[str | None], size: int) -> list[list[Item]]:
    """The items of each pack, in order, `size` at most.

    A pack ends where the container does (a tar is a pack of its own if it is small enough), when it is full, or, once
    it is half full, after a name whose hash says so.
    """
    packs: list[list[Item]] = []
    ended: object = True  # or the container of the record before
    for item, name, container in zip(items, names, containers, strict=True):
        if ended is True or ended != container:
            packs.append([])
        packs[-1].append(item)
        count = len(packs[-1])
        full = count == size or (container is None and 2 * count >= size and _ends(name, size))
        ended = True if full else container
    return packs


def _ends(name: str, size: int) -> bool:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % max(1, size // ODDS) == 0


class Tar:
    """A tar as webdataset writes it, the same bytes for the same files; webdataset itself would bring torch along."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    @property
    def end(self) -> int:
        """Where the next member's header will lie."""
        return self._tar.offset

    def add(self, file: str, content: bytes) -> int:
        """Add a file and return the place of its first byte."""
        member = tarfile.TarInfo(file)
        member.size, member.mode = len(content), MODE
        start = self.end + tarfile.BLOCKSIZE
        self._tar.addfile(member, BytesIO(content))
        return start

    def close(self) -> None:
        """Write its end."""
        self._tar.close()


def stored(path: Path, offset: int | None, length: int, file: str) -> bytes:
    """The bytes of a picture that was written to a tar, or as a file beside it."""
    if offset is None:
        return (path.parent / file).read_bytes()
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
