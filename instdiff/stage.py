"""How a stage is started.

    python -m data_prep.caption --images A.parquet --captions B.parquet --stats C.json

A stage module defines `Params` and `run(*, <paths and names>, params) -> counts`. The command line gives the
paths (and, in a matrix, the item's name); params.yaml gives the values, under the module's own name.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from instdiff import atomic
from instdiff.schema import Strict

Run = Callable[..., Mapping[str, float]]
PARAMS_FILE = Path("params.yaml")


def main(run: Run) -> None:
    """Run a stage from the command line and write what it counted to --stats."""
    run = _importable(run)
    options = vars(parser(run).parse_args())
    stats: Path = options.pop("stats")
    counts = run(**options, params=load_params(run))
    with atomic.file(stats) as part:
        part.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")


def _importable(run: Run) -> Run:
    """The stage under its importable name, not `__main__`: what it sends to other machines is found there by name."""
    spec = sys.modules[run.__module__].__spec__
    assert spec is not None
    imported: Run = import_module(spec.name).run
    return imported


def load_params(run: Run) -> Strict:
    """The stage's section of params.yaml, checked against its `Params`."""
    module = sys.modules[run.__module__]
    spec = module.__spec__
    assert spec is not None
    name = spec.name.rpartition(".")[2]
    params: Strict = module.Params.model_validate(section(yaml.safe_load(PARAMS_FILE.read_text()), name, module.Params))
    return params


def section(values: Mapping[str, Any], name: str, params: type[Strict]) -> dict[str, Any]:
    """The values of a stage: its section, and the rows of the table where it reads them."""
    shared = {"rows": values["rows"]} if "rows" in params.model_fields and "rows" in values else {}
    return {**values[name], **shared}


def arguments(run: Run) -> dict[str, Any]:
    """Names and types (Path, or str for a matrix item) of what the command line must give."""
    signature = inspect.signature(run, eval_str=True).parameters
    return {name: parameter.annotation for name, parameter in signature.items() if name != "params"}


def parser(run: Run) -> argparse.ArgumentParser:
    """A command line that takes each argument of `run`, and --stats."""
    options = argparse.ArgumentParser(description=run.__doc__)
    for name, kind in {**arguments(run), "stats": Path}.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=kind, required=True)
    return options
