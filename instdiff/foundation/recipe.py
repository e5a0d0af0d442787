"""A model that is shipped instead of trained: the folder is copied, with the recipe that made it."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from instdiff import atomic
from instdiff.schema import Strict

RECIPE_FILE = "recipe.json"


def copy(shipped: Path, out: Path) -> dict[str, float]:
    """Copy a shipped model and return the metrics recorded beside it."""
    metrics: dict[str, float] = read(shipped)["metrics"]
    with atomic.folder(out) as part:
        shutil.copytree(shipped, part, dirs_exist_ok=True)
    return metrics


def record(folder: Path, params: Strict, metrics: dict[str, float], before: Path | None = None) -> None:
    """Write beside the weights how they were made and how good they are; `before`: the model they went on from."""
    made: dict[str, Any] = {"params": params.model_dump(mode="json"), "metrics": metrics}
    if before is not None:
        made["before"] = read(before)
    (folder / RECIPE_FILE).write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")


def read(shipped: Path) -> dict[str, Any]:
    """The recipe of a shipped model."""
    path = shipped / RECIPE_FILE
    if not path.is_file():
        raise ValueError(f"{shipped}: no shipped model here ({RECIPE_FILE} is missing); train it with source: train")
    written: dict[str, Any] = json.loads(path.read_text())
    return written


def digest(folder: Path) -> str:
    """A hash of the names and bytes of a folder's files."""
    sums = [f"{of_file(one)} {one.relative_to(folder)}" for one in files(folder)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def files(folder: Path) -> list[Path]:
    """Every file below a folder, in the order of the names."""
    return sorted(one for one in folder.rglob("*") if one.is_file())


def clear(scratch: Path) -> None:
    """Forget the checkpoints of a run whose result is written."""
    shutil.rmtree(scratch, ignore_errors=True)


def scratch(params: Strict, *inputs: str) -> Path:
    """Where a run with these parameters and inputs keeps its checkpoints between kills."""
    digest = hashlib.sha256("\n".join([params.model_dump_json(), *inputs]).encode()).hexdigest()
    return Path("runs") / digest[:16]
