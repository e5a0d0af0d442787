"""WebDataset tars as sources, by their headers alone: a sample's picture is read when its turn comes.

Names are taken apart as webdataset does: the key is the path up to the first dot of the file's name, what follows says
what the member is. Members of a sample stand one after the other; the same member again begins another sample.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import fsspec

from data_prep.sources.records import Member, Record, Wrong, text_of
from instdiff.files.picture_files import SUFFIXES, UNREAD
from instdiff.files.texts import decoded, json_of
from instdiff.work.outcomes import Failure

_MAX_TEXT = 1 << 20  # bytes of a caption, unpacked


@dataclass
class _Sample:
    """The members of one key, by the lower-case end of their names, and the texts among them."""

    key: str
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def samples(url: str) -> Iterator[Record]:
    """The samples of a tar; a damaged tar ends in a record that says so."""
    seen: set[str] = set()
    try:
        with fsspec.open(url, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            sample = _Sample("")
            for member in tar:
                key, kind = _named(member)
                if not kind:
                    continue
                if key != sample.key or kind in sample.members:
                    yield from _records(url, sample, seen)
                    seen.add(sample.key)
                    sample = _Sample(key)
                sample.members[kind] = member
                if kind.removesuffix(".gz").rpartition(".")[2] in {"txt", "json"}:
                    sample.texts[kind] = _content(tar.extractfile(member) if member.isreg() else None)
            yield from _records(url, sample, seen)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Wrong(url, Failure("broken_tar", f"{url}: {error}; what stands before the damage was read"))


def _named(member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and kind of a member; no kind for folders, hidden files (the `._*` of a Mac) and names without a dot."""
    folder, _, name = member.name.rpartition("/")
    stem, _, kind = name.partition(".")
    if member.isdir() or not stem or "__MACOSX" in folder.split("/"):
        return "", ""
    return f"{folder}/{stem}" if folder else stem, kind.lower()


def _content(stream: IO[bytes] | None) -> bytes:
    return b"" if stream is None else stream.read(_MAX_TEXT)


def _records(url: str, sample: _Sample, seen: set[str]) -> Iterator[Record]:
    """A record for each picture of a sample: several are told apart by what stands before their suffix."""
    if not sample.members:
        return
    name = f"{url.rpartition('/')[2]}/{sample.key}"
    pictures = [kind for kind in sample.members if _suffix(kind) in SUFFIXES]
    heads = [_head(kind) for kind in pictures]
    if not pictures or len(set(heads)) < len(heads):
        unread = [kind for kind in sample.members if _suffix(kind) in UNREAD]
        why = f"{len(pictures)} pictures in the sample"
        if unread:
            why = f".{unread[0]} is not read; convert it to PNG or JPEG"
        elif not pictures and sample.key in seen:
            why += ": its members must stand one after the other (tar --sort=name)"
        yield Wrong(name, Failure("bad_record", f"{name}: {why}"))
        return
    for kind, head in zip(pictures, heads, strict=True):
        own = f"{name}.{head}" if len(pictures) > 1 and head else name
        texts = {name: text for name, text in sample.texts.items() if len(pictures) == 1 or _head(name) == head}
        yield _record(url, own, sample.members[kind], kind, texts)


def _record(url: str, name: str, member: tarfile.TarInfo, kind: str, texts: dict[str, bytes]) -> Record:
    if not member.isreg() or member.issparse():
        return Wrong(name, Failure("bad_record", f"{name}: {member.name} is a link or a sparse file"))
    try:
        caption = _caption(texts)
    except (ValueError, OSError, EOFError) as error:
        return Wrong(name, Failure("bad_text", f"{name}: {error}"))
    if caption is None:
        return Wrong(name, Failure("no_caption", f"{name}: neither .txt nor a caption in .json stands beside it"))
    return Member(name, url, member.offset_data, member.size, caption, kind.endswith(".gz"))


def _caption(texts: dict[str, bytes]) -> str | None:
    """Of the .txt, else of the .json; ValueError when they are no text."""
    plain = [_unpacked(kind, text) for kind, text in texts.items() if _suffix(kind) == ".txt"]
    if plain:
        return decoded(plain[0]).strip()
    for kind, text in texts.items():
        written: Any = json_of(_unpacked(kind, text), f".{kind}")
        if isinstance(written, dict) and (caption := text_of(written.get("caption"))) is not None:
            return caption
    return None


def _unpacked(kind: str, text: bytes) -> bytes:
    if not kind.endswith(".gz"):
        return text
    with gzip.open(io.BytesIO(text)) as stream:
        return stream.read(_MAX_TEXT)


def _suffix(kind: str) -> str:
    """Of a member's kind, compressed or not: `05.png.gz` is a .png."""
    return "." + kind.removesuffix(".gz").rpartition(".")[2]


def _head(kind: str) -> str:
    """What stands before the suffix: `05` in `05.png`."""
    return kind.removesuffix(".gz").rpartition(".")[0]
