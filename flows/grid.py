"""Queue a grid: `instdiff grid ablation` queues one DVC experiment for each line of configs/grid/ablation.yaml.

Each is named <grid>-<line>. `dvc queue start` runs them, each in a copy of the tree; what they share is computed once.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

GRIDS = Path("configs/grid")
Grid = dict[str, list[str]]  # name of the experiment within the grid -> Hydra overrides


def read(path: Path) -> Grid:
    """A grid; ValueError names the file and the line that is wrong."""
    try:
        return TypeAdapter(Grid).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def command(name: str, overrides: Sequence[str]) -> list[str]:
    """What queues one experiment."""
    chosen = [word for override in overrides for word in ("-S", override)]
    return [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name, *chosen]


def main(arguments: Sequence[str]) -> None:
    """Queue every experiment of a grid."""
    parser = argparse.ArgumentParser(prog="instdiff grid", description="Queue a grid of experiments.")
    parser.add_argument("grid", choices=sorted(path.stem for path in GRIDS.glob("*.yaml")))
    grid = parser.parse_args(arguments).grid
    for name, overrides in read(GRIDS / f"{grid}.yaml").items():
        if subprocess.run(command(f"{grid}-{name}", overrides), check=False).returncode:
            raise ValueError(f"{grid}-{name} was not queued; those above it were (dvc queue status)")
    print("run them: dvc queue start; look at them: dvc queue status, dvc exp show")
