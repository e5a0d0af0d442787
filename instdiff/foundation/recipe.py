"""A model that is shipped instead of trained: the folder is copied, with the recipe that made it."""

import hashlib
import json
import shutil
from pathlib import Path

from instdiff import atomic
from instdiff.schema import Strict


def copy(shipped: Path, out: Path) -> dict[str, float]:
    """Copy a shipped model and return the metrics recorded beside it."""
    record = shipped / "recipe.json"
    if not record.is_file():
        raise ValueError(f"{shipped}: no shipped model here (recipe.json is missing); train it with source: train")
    with atomic.folder(out) as part:
        shutil.copytree(shipped, part, dirs_exist_ok=True)
    metrics: dict[str, float] = json.loads(record.read_text())["metrics"]
    return metrics


def record(folder: Path, params: Strict, metrics: dict[str, float]) -> None:
    """Write beside the weights how they were made and how good they are."""
    text = json.dumps({"params": params.model_dump(mode="json"), "metrics": metrics}, indent=2, sort_keys=True)
    (folder / "recipe.json").write_text(text + "\n")


def digest(folder: Path) -> str:
    """A hash of the names and bytes of a folder's files."""
    sums = [f"{hashlib.sha256(one.read_bytes()).hexdigest()} {one.relative_to(folder)}" for one in files(folder)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


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
