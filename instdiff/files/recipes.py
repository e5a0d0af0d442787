"""A model that is shipped instead of trained: the folder is copied, with the recipe that made it."""

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from instdiff.files import atomic
from instdiff.files.texts import read_json

RECIPE_FILE = "recipe.json"


def copy(shipped: Path, out: Path) -> dict[str, float]:
    """Copy a shipped model and return the metrics recorded beside it."""
    metrics: dict[str, float] = read(shipped)["metrics"]
    with atomic.folder(out) as part:
        shutil.copytree(shipped, part, dirs_exist_ok=True)
    return metrics


def record(folder: Path, params: BaseModel, metrics: dict[str, float], before: Path | None = None) -> None:
    """Write beside the weights how they were made and how good they are; `before`: the model they went on from.

    A model from elsewhere, which has no recipe, leaves none.
    """
    recipe: dict[str, Any] = {"params": params.model_dump(mode="json"), "metrics": metrics}
    if before is not None and (before / RECIPE_FILE).is_file():
        recipe["before"] = read(before)
    (folder / RECIPE_FILE).write_text(json.dumps(recipe, indent=2, sort_keys=True) + "\n")


def read(shipped: Path) -> dict[str, Any]:
    """The recipe of a shipped model."""
    path = shipped / RECIPE_FILE
    if not path.is_file():
        raise ValueError(f"{shipped}: no shipped model here ({RECIPE_FILE} is missing); train it with source: train")
    written: dict[str, Any] = read_json(path)
    return written
