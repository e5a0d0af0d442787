"""A grid queues experiments that compute the rows they are about, and its table holds them against their baseline."""

from pathlib import Path

import pytest
import toy_graph
from dvc.api import DVCFileSystem
from rich.console import Console

from flows import grid
from instdiff.config import compose

ROOT = Path(__file__).parents[2]
STAGE = """
import json, pathlib, sys, yaml
alpha = yaml.safe_load(open("params.yaml"))["generate"]["alpha"]
folder = pathlib.Path("scores", sys.argv[1])
folder.mkdir(parents=True)
metric = {"value": alpha, "n": 9, "low": alpha - .1, "high": alpha + .1, "better": "higher"}
(folder / "metrics.json").write_text(json.dumps({"box_ap50": metric, "colour_leak": metric | {"better": "lower"}}))
"""
GRAPH = """
vars: [{path: {scores: scores}}]
stages:
  score:
    matrix: {row: [box, mask]}
    cmd: python score.py ${item.row}
    params: [generate]
    outs: ["${path.scores}/${item.row}"]
"""
GRID = """
metrics: [box_ap50, colour_leak]
variants:
  half: {rows: [mask], overrides: [generate.alpha=0.5]}
  little: {rows: [mask], overrides: [generate.alpha=0.95]}
  never: {rows: [box], overrides: [generate.alpha=0.2]}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two rows of scores, and a grid of two that have run and one that has not been queued."""
    (tmp_path / "configs" / "grid").mkdir(parents=True)
    (tmp_path / "configs" / "config.yaml").write_text("generate: {alpha: 1.0}\n")
    (tmp_path / "configs" / "grid" / "two.yaml").write_text(GRID)
    (tmp_path / "params.yaml").write_text("generate:\n  alpha: 1.0\n")
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "score.py").write_text(STAGE)
    (tmp_path / ".gitignore").write_text("/scores/\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text())
    (tmp_path / ".dvc" / ".gitignore").write_text("/tmp\n/cache\n")
    toy_graph.run("git", "init", "-q", "-b", "main", at=tmp_path)
    toy_graph.run("git", "config", "user.email", "toy@example.org", at=tmp_path)
    toy_graph.run("git", "config", "user.name", "Toy", at=tmp_path)
    toy_graph.dvc("repro", "-q", at=tmp_path)
    toy_graph.run("git", "add", ".", at=tmp_path)
    toy_graph.run("git", "commit", "-qm", "A run", at=tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_computes_its_rows_alone_and_its_table_holds_them_against_head(repository: Path) -> None:
    whole = grid.read(repository / "configs" / "grid" / "two.yaml")
    for name in ("half", "little"):
        toy_graph.run(*grid.command(f"two-{name}", whole.variants[name]), at=repository)
    assert toy_graph.dvc("queue", "status", at=repository).count("two-") == 2
    toy_graph.dvc("exp", "run", "-q", "--run-all", at=repository)

    found = list(grid.lines("two", whole))
    assert [(one.row, one.run, one.metrics["box_ap50"]["value"]) for one in found] == [
        ("mask", "HEAD", 1.0),
        ("mask", "half", 0.5),
        ("mask", "little", 0.95),
    ]
    lock = DVCFileSystem(rev="two-half").read_text("dvc.lock")
    assert lock.count("alpha: 0.5") == lock.count("alpha: 1.0") == 1, "box was left as it was"

    console = Console(width=grid.WIDTH, record=True)
    console.print(grid.table(found, whole.metrics))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in console.export_text().strip().splitlines()]
    assert lines[2:] == [
        ["mask", "HEAD", "1.000±0.100", "1.000±0.100"],
        ["mask", "half", "0.500±0.100 worse", "0.500±0.100 better"],
        ["mask", "little", "0.950±0.100", "0.950±0.100"],
    ]


def test_a_grid_of_which_nothing_has_run_says_so_and_what_to_do(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.main(["two", "--show"])
    sentence = capsys.readouterr().out
    assert repository.is_dir() and sentence.count("\n") == 1
    assert sentence.startswith("none of the 3 experiments of two has run from this commit: `instdiff grid two` queues")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "grid").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_of_a_grid_changes_a_value_and_no_two_are_one(path: Path) -> None:
    variants = grid.read(path).variants.values()
    composed = [compose.composed(one.overrides, ROOT / "configs") for one in variants]
    assert len({compose.composed([], ROOT / "configs"), *composed}) == len(composed) + 1


def test_a_grid_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("metrics: []\nvariants: {one: {rows: mask, overrides: []}}\n")
    with pytest.raises(ValueError, match=r"grid\.yaml[\s\S]*variants\.one\.rows"):
        grid.read(tmp_path / "grid.yaml")
