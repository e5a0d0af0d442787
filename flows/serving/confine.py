"""Values that a form may not give: paths that leave the tree, and addresses.

Stages read and write where their values say (`kept.metrics` is an output of the graph), so that whoever may start a run
from a browser could write anywhere. At the shell a person may say so: `make ui ALLOW=/data/coco`.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from instdiff.config import compose

ALLOWED = "INSTDIFF_ALLOWED"  # the environment variable that names folders outside the tree, as PATH does
_ADDRESS = re.compile(r".*(://|::)|(file|pipe|memory|data):|[\w.-]+:\d+$", re.DOTALL)  # s3://..., and host:port
_TOOLS = {".git", ".dvc", ".prefect", ".venv"}  # below the tree, and no stage's to read or write


def allowed() -> list[Path]:
    """The folders that the person at the shell has allowed."""
    return [Path(folder) for folder in os.environ.get(ALLOWED, "").split(os.pathsep) if folder]


def check(text: str, before: str, folders: Sequence[Path]) -> None:
    """Refuse composed values that lead out of the tree where configs/ alone do not.

    Args:
        text: YAML of all values.
        before: YAML of the values without what the form added.
        folders: outside the tree, that may be named.

    Raises:
        ValueError: a value is a path out of the tree, or an address.
    """
    allowed_values = set(_texts(yaml.safe_load(before)))
    for name, value in _texts(yaml.safe_load(text)):
        if (name, value) not in allowed_values and _leaves(value, folders):
            raise ValueError(
                f"{name}: {value!r} leads out of {Path.cwd()}, where the form may not go; the person who starts "
                f"`make ui` allows a folder by ALLOW=<folder>, and the shell takes any (python -m instdiff.config)"
            )


def _texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text among the values, those in lists too, with its dotted name."""
    for name, value in compose.leaves(values):
        for text in _flat(value):
            yield name, text


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from (*_flat(name), *_flat(entry))
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _flat(entry)


def _leaves(value: str, folders: Sequence[Path]) -> bool:
    """Whether a text would be read as a place that is neither below this folder nor below one of the others.

    Symbolic links are not followed: whoever made one inside the tree had the shell.
    """
    if _ADDRESS.match(value) or value.startswith("~"):
        return True
    place = Path(os.path.normpath(Path.cwd() / value))
    if place.is_relative_to(Path.cwd()) and _TOOLS & set(place.relative_to(Path.cwd()).parts):
        return True
    return not any(place.is_relative_to(folder) for folder in (Path.cwd(), *folders))
