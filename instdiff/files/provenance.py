"""Where a number or a picture comes from: hashes of files, versions of libraries, and the record beside pictures.

`of_file` and `of_folder` read every byte and are what records state; `fingerprint` reads the ends of files alone and
tells one set of weights from another when they have many gigabytes.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from instdiff.files.texts import read_json

PACKAGES = (  # those that can change a number
    "instdiff",
    "torch",
    "diffusers",
    "transformers",
    "ultralytics",
    "pycocotools",
    "numpy",
    "pandas",
    "pillow",
)
PUBLISHED = {  # SHA-256 of files by the name they are published under
    "v1-5-pruned-emaonly.safetensors": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    "v1-5-pruned-emaonly.ckpt": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516",
}
_HUB_NAME = re.compile(r".+-([0-9a-f]{8})\.pth")  # torch's hub writes the start of the hash into the name
EDGE = 1 << 20  # bytes that a fingerprint reads at either end of a file
RECORD = "provenance.json"
LEFT_OUT = ("layouts", "pictures")  # of the record when it is read: evaluation has hashes of its own for both


def files(folder: Path) -> list[Path]:
    """Every file below a folder, in the order of the names."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_folder(folder: Path) -> str:
    """SHA-256 of the names and bytes of all files below the folder; ValueError when there is none."""
    lines = [f"{path.relative_to(folder).as_posix()} {of_file(path)}" for path in files(folder)]
    if not lines:
        raise ValueError(f"{folder}: no files")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def of_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's files."""
    return of_folder(path) if path.is_dir() else of_file(path)


def fingerprint(weights: Path) -> str:
    """A hash of the names, sizes, first and last MiB of the files; ValueError when there are none."""
    paths = files(weights) if weights.is_dir() else [weights]
    if not paths or not all(path.is_file() for path in paths):
        raise ValueError(f"{weights}: no weights there")
    lines = [f"{path.relative_to(weights)} {path.stat().st_size} {_edges(path)}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def checked(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of each file below the folder, by name.

    ValueError where a file with a published name is not the one that was published.
    """
    paths = files(path) if path.is_dir() else [path]
    return {each.relative_to(path.parent).as_posix(): _checked(each) for each in paths}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number; those not installed are left out."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def picture_line(folder: Path, name: str, layout: str) -> dict[str, str]:
    """The record's line for a picture in its folder."""
    return {"file": name, "layout": layout, "sha256": of_file(folder / name)}


def write(folder: Path, pictures: Sequence[Mapping[str, str]], **how: Any) -> None:
    """Put the record beside the pictures that it lists; `how` is all that they depend on."""
    record = {"pictures": pictures, "libraries": versions(), **how}
    (folder / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """The record of a folder without its lists, None where there is none; ValueError where it is of other pictures."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = read_json(path)
        digests = {str(line["file"]): line["sha256"] for line in record["pictures"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: no record of how pictures were drawn ({type(error).__name__}: {error})") from error
    for name, digest in digests.items():
        if not (folder / name).is_file() or of_file(folder / name) != digest:
            raise ValueError(
                f"{path}: {name} is not the picture that was drawn then; take the record away if it was changed since"
            )
    return {name: value for name, value in record.items() if name not in LEFT_OUT}


def _edges(path: Path) -> str:
    with path.open("rb") as stream:
        edges = hashlib.sha256(stream.read(EDGE))
        stream.seek(max(0, path.stat().st_size - EDGE))
        edges.update(stream.read(EDGE))
    return edges.hexdigest()


def _checked(path: Path) -> str:
    digest = of_file(path)
    hub_name = _HUB_NAME.fullmatch(path.name)
    published = PUBLISHED.get(path.name) or (hub_name[1] if hub_name else "")
    if not digest.startswith(published):
        raise ValueError(f"{path}: is not the file published under this name: SHA-256 {digest}, not {published}")
    return digest
