"""A shipped model is copied whole, and its recipe says how it was made and how good it is."""

from pathlib import Path

import pytest

from instdiff.files import recipes
from instdiff.schema import Strict


class How(Strict):
    steps: int
    name: str


def shipped(folder: Path, steps: int, before: Path | None = None) -> Path:
    (folder / "layers").mkdir(parents=True)
    (folder / "layers" / "weights").write_bytes(bytes([steps]))
    recipes.record(folder, How(steps=steps, name="small"), {"loss": steps / 10}, before)
    return folder


def test_a_recipe_holds_parameters_metrics_and_the_recipe_it_went_on_from(tmp_path: Path) -> None:
    first = shipped(tmp_path / "first", 3)
    second = shipped(tmp_path / "second", 5, first)
    expected = {"params": {"steps": 3, "name": "small"}, "metrics": {"loss": 0.3}}
    assert recipes.read(first) == expected
    assert recipes.read(second) == {
        "params": {"steps": 5, "name": "small"},
        "metrics": {"loss": 0.5},
        "before": expected,
    }
    (tmp_path / "elsewhere").mkdir()
    assert recipes.read(shipped(tmp_path / "third", 3, tmp_path / "elsewhere")) == expected


def test_every_file_is_copied_and_the_metrics_are_returned(tmp_path: Path) -> None:
    source, out = shipped(tmp_path / "shipped", 7), tmp_path / "out"
    assert recipes.copy(source, out) == {"loss": 0.7}
    for path in ("layers/weights", recipes.RECIPE_FILE):
        assert (out / path).read_bytes() == (source / path).read_bytes()


def test_a_folder_without_a_recipe_is_no_shipped_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no shipped model here \(recipe.json is missing\); train it"):
        recipes.copy(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
