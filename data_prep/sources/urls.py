"""Places of a source: local paths or fsspec URLs (s3://...); what cannot be read is a ValueError that names it."""

from pathlib import PurePosixPath
from typing import Any

import fsspec

from data_prep.sources.records import read
from instdiff.files.texts import decoded, json_of, one_line


def parsed(path: str) -> Any:
    """The content of a JSON file."""
    return json_of(content(path), path)


def text(path: str, kind: str) -> str:
    """The text of a file; `kind` is what the sentence calls it."""
    written = content(path)
    try:
        return decoded(written)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable {kind} ({error})") from error


def content(path: str) -> bytes:
    """The bytes of a file."""
    try:
        return read(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)})") from error


def files(path: str, kinds: str) -> list[str]:
    """Every file below a folder, sorted, under the protocol of its path; hidden ones, as Macs leave, are not.

    `kinds` says what could stand there, should it be no folder.
    """
    system, place = fsspec.url_to_fs(path)
    if not system.isdir(place):
        what = f"is a file, and not of a kind that is read ({kinds})" if system.exists(place) else "no such folder"
        raise ValueError(f"{path}: {what}")
    urls = (named(system, name, path) for name in sorted(system.find(place)))
    return [url for url in urls if not is_hidden(relative(url, path))]


def is_hidden(name: str) -> bool:
    """Whether a file or a folder above it is one that systems hide."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def matching(path: str) -> list[str]:
    """The files of a pattern, sorted."""
    system, place = fsspec.url_to_fs(path)
    urls = [named(system, name, path) for name in sorted(system.glob(place))]
    if not urls:
        raise ValueError(f"{path}: no such tar")
    return urls


def named(system: Any, place: str, like: str) -> str:
    """The name of a place under the protocol of another path."""
    return str(system.unstrip_protocol(place)) if "://" in like else place


def relative(url: str, folder: str) -> str:
    """The name of a file within a folder."""
    system, place = fsspec.url_to_fs(folder)
    return str(system._strip_protocol(url)).removeprefix(place.rstrip("/") + "/")


def suffix(url: str) -> str:
    """`.jpg`, in lower case."""
    return PurePosixPath(url).suffix.lower()


def join(root: str, name: str) -> str:
    """A name that starts at a folder; a whole path or URL stays itself."""
    return name if name.startswith("/") or "://" in name or not root else f"{root.rstrip('/')}/{name}"
