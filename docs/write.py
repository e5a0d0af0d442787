"""Write the pages that are made from code: `python docs/write.py`. tests/test_docs.py compares them.

configuration.md: what there is to set, its type and meaning, from the `Params` of each stage.
graph.md: the stages and arrows of dvc.yaml, as `dvc dag` knows them, the items of a matrix drawn as one.
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel

from instdiff.layouts.table_rows import TableRow
from instdiff.networks.device import Place
from instdiff.work.parts import Work

ROOT = Path(__file__).parents[1]
LIMITS = ("ge", "gt", "le")  # of pydantic's fields: at least, above, at most
HEAD = "<!-- written by docs/write.py -->\n"
SHARED: dict[str, type[BaseModel]] = {
    "device": Place,
    "work": Work,
    "rows": TableRow,
}  # groups of configs/ that several stages hold
INTRODUCTION = """# Configuration

Values live in `configs/`, one folder a stage; `configs/config.yaml` says which file of each folder the default run
uses. `python -m instdiff.config` compiles them into `params.yaml`, which DVC compares and stages read:

<!-- needs: weights of SAM, for the second -->
    python -m instdiff.config experiment=smoke                # a named set of values, from configs/experiment
    python -m instdiff.config segment=sam train.batch_size=8  # another file of a group, another value

An unknown name, a missing value or a wrong type is refused with the name of the field. Nothing has a default in code,
and no value is written on this page: it says what there is to set, `configs/` what it is set to.
"""


def configuration() -> str:
    """The page of every value."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    parts = [HEAD + INTRODUCTION]
    for name, stage in stages.items():
        module = import_module(stage.get("do", stage)["cmd"].split()[2])
        summary = (inspect.getdoc(module) or "").splitlines()[0]
        files = ", ".join(f"`{file.stem}`" for file in sorted((ROOT / "configs" / name).glob("*.yaml")))
        parts.append(f"\n## {name}\n\n{summary}\n\nFiles: {files}.\n")
        for title, model in variants(module.Params):
            parts.append(table(title, model))
    for name, model in SHARED.items():
        parts.append(table(f"\n## {name}\n\n{inspect.getdoc(model)}\n", model))
    return "".join(parts)


def variants(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The model, or each of those a choice is made from."""
    if not issubclass(model, RootModel):
        yield "", model
        return
    for choice in models(model.model_fields["root"].annotation):
        yield f"\n### {choice.__name__}\n\n{inspect.getdoc(choice)}\n", choice


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models(argument)]


def table(title: str, model: type[BaseModel]) -> str:
    """Name, type and meaning of each field; those of a nested model under its dotted name."""
    lines = [title, "\n| name | type | meaning |\n| --- | --- | --- |\n"]
    lines += [f"| `{name}` | {kind} | {meaning} |\n" for name, kind, meaning in fields(model)]
    return "".join(lines)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted name, type and meaning of every value a model holds, `*` for a name of one's own choice.

    A group of values has a line of its own where it may be null, is one of several, or is told of elsewhere.
    """
    meanings = comments(model)
    for name, field in model.model_fields.items():
        groups = models(field.annotation)
        if name in SHARED and any(issubclass(SHARED[name], group) for group in groups):
            yield prefix + name, "group", f"values of [{name}](#{name})"
            continue
        if groups != [field.annotation]:
            yield prefix + name, spelled(field.annotation) + bounds(field.metadata), meanings.get(name, "")
        any_name = "*." if get_origin(field.annotation) is dict else ""
        for group in groups:
            yield from fields(group, f"{prefix}{name}.{any_name}")


def comments(model: type[BaseModel]) -> dict[str, str]:
    """What stands beside each field in its source."""
    meanings: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base not in (BaseModel, RootModel):
            meanings |= dict(re.findall(r"^    (\w+):[^#\n]*#\s*(.*)$", inspect.getsource(base), re.MULTILINE))
    return {name: meaning.replace("|", "\\|") for name, meaning in meanings.items()}


def spelled(annotation: Any) -> str:
    """A type in words a person who writes YAML knows."""
    names = "|".join(model.__name__ for model in models(annotation))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"\b(?:[a-z_0-9]+\.)+(\w)", r"\1", text)
    text = re.sub(r"Literal\[([^\]]*)\]", lambda choice: choice[1].replace(", ", " or "), text)
    words = {"tuple": "list", "str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    words |= {"None": "null", "Path": "path", "dict": "map"}
    text = re.sub(r"\w+", lambda word: words.get(word[0], word[0]), text.replace(", ...", ""))
    text = re.sub(rf"\b({names})\b", "group", text) if names else text
    text = " | ".join(dict.fromkeys(text.split(" | ")))
    return text.replace(" | ", " or ").replace("'", "`").replace("|", "\\|")


def bounds(metadata: list[Any]) -> str:
    """Between which numbers a value lies."""
    least, above, most = (
        next((getattr(constraint, name) for constraint in metadata if hasattr(constraint, name)), None)
        for name in LIMITS
    )
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    return f", at least {least:g}" if least is not None else f", above {above:g}" if above is not None else ""


def graph() -> str:
    """The page of the graph: `dvc dag` with the items of a matrix as one node."""
    command = [sys.executable, "-m", "dvc", "dag", "--dot"]
    dot = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    arrows = {
        (source.partition("@")[0], target.partition("@")[0])
        for source, target in re.findall(r'^"([^"]+)" -> "([^"]+)";$', dot, re.MULTILINE)
    }
    order = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    lines = "\n".join(
        f"    {a} --> {b}" for a, b in sorted(arrows, key=lambda arrow: [*map(order.index, arrow)]) if a != b
    )
    text = """An arrow goes from a stage to those that read what it writes. `ground`, `segment`, `caption`, `sketch` and
`annotate` run once for each split, `generate`, `detect` and `score` once for each row of the table; `dvc dag` draws
every one."""
    return f"{HEAD}# The graph\n\n{text}\n\n```mermaid\nflowchart TD\n{lines}\n```\n"


PAGES = {"configuration.md": configuration, "graph.md": graph}

if __name__ == "__main__":
    for page, written in PAGES.items():
        (Path(__file__).parent / page).write_text(written(), encoding="utf-8")
