"""Check values against the `Params` of every stage, before any runs: `python -m instdiff.config.values < params.yaml`.

The stages are those of dvc.yaml (and of the page beside the shipped weights); what they import takes seconds, so the
check is a process of its own, and remembers under runs/ which sections it has passed. `python -m instdiff.config` and
the form of the user interface check what they have composed before they write it. `dvc exp run -S` composes and writes
by itself: there the first stage that starts checks all sections, before it does anything else.
"""

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from instdiff.config import combinations
from instdiff.files import atomic, value_faults

PAGES = ("dvc.yaml", "weights/miniature/annotators.yaml")
PASSED = Path("runs/checked.json")
Values = Mapping[str, Any]


def check(values: Values, *, but: str | None = None) -> None:
    """Check each section that a stage reads, but for one, and what sections say together.

    Raises:
        ValueError: one sentence for each value that is wrong.
    """
    if together := [*combinations.faults(values), *combinations.unjudged(values)]:
        raise ValueError("\n".join(together))
    sections = {name: section(values, name) for name in modules() if name in values}
    digests = {name: _digest(own) for name, own in sections.items() if name != but}
    passed = json.loads(PASSED.read_text(encoding="utf-8")) if PASSED.is_file() else {}
    new = {name: digest for name, digest in digests.items() if passed.get(name) != digest}
    if not new:
        return
    command = [sys.executable, "-m", "instdiff.config.values"]
    text = yaml.safe_dump({name: sections[name] for name in new})
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    with atomic.file(PASSED) as part:
        part.write_text(json.dumps(passed | new), encoding="utf-8")


def section(values: Values, name: str) -> dict[str, Any]:
    """The values of a stage: its own section, and each other section that the graph says it reads, under its name."""
    others = {other: values[other] for other in stages()[name].others if other in values} if name in stages() else {}
    return {**values[name], **others}


def modules() -> dict[str, str]:
    """Section -> module of each stage, as the commands of the graph name it."""
    return {name: stage.module for name, stage in stages().items()}


class Stage(NamedTuple):
    """What the graph says of a stage's values."""

    module: str
    others: tuple[str, ...]  # sections that it reads beside its own


def stages() -> Mapping[str, Stage]:
    """Every stage of the graph by the name of its section."""
    here = Path("dvc.yaml").is_file()
    paths = [Path(page) if here else Path(__file__).parents[2] / page for page in PAGES]
    return _stages(tuple(path.read_text(encoding="utf-8") for path in paths if path.is_file()))


@lru_cache(maxsize=1)
def _stages(pages: tuple[str, ...]) -> Mapping[str, Stage]:
    """The stages of these texts; every section asks, and to parse them takes a moment."""
    by_section = {}
    for page in pages:
        for name, entry in yaml.load(page, Loader=yaml.CSafeLoader)["stages"].items():
            stage = entry.get("do", entry)
            words = shlex.split(str(stage["cmd"]))
            if words[:2] == ["python", "-m"]:
                others = (str(param).partition(".")[0] for param in stage.get("params", []))
                by_section[name] = Stage(words[2], tuple(other for other in others if other != name))
    return MappingProxyType(by_section)


def faults(values: Values) -> list[str]:
    """A sentence for each value that does not fit the stage that reads it."""
    sentences = []
    for name, module in modules().items():
        if name in values:
            own = section(values, name)
            try:
                import_module(module).Params.model_validate(own)
            except ValidationError as error:
                sentences += value_faults.explained(error, name, own)
    return sentences


def _digest(section: object) -> str:
    return hashlib.sha256(json.dumps(section, sort_keys=True, default=str).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit("\n".join(faults(yaml.safe_load(sys.stdin))) or None)
