"""What drew a folder of pictures: a record that lies beside them, and that evaluation repeats with its numbers."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RECORD = "provenance.json"
LIBRARIES = ("instdiff", "torch", "diffusers", "transformers")
LISTS = ("layouts", "pictures")  # of the record: evaluation has hashes of its own for both


def listed(folder: Path, name: str, layout: str) -> dict[str, str]:
    """The record's line for a picture in its folder."""
    return {"file": name, "layout": layout, "sha256": _sha256(folder / name)}


def write(folder: Path, pictures: Sequence[Mapping[str, str]], **how: Any) -> None:
    """Put the record beside the pictures that it lists; `how` is all that they depend on."""
    libraries = {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    record = {"pictures": pictures, "libraries": libraries, **how}
    (folder / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def read(folder: Path) -> dict[str, Any] | None:
    """The record without its lists, None where there is none; ValueError where it is of other pictures."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        said = {str(one["file"]): one["sha256"] for one in record["pictures"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: no record of how pictures were drawn ({type(error).__name__}: {error})") from error
    for name, digest in said.items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise ValueError(
                f"{path}: {name} is not the picture that was drawn then; take the record away if it was changed since"
            )
    return {name: value for name, value in record.items() if name not in LISTS}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
