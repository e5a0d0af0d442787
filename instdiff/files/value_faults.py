"""What is wrong with a file of values, one sentence a value, and the name that was perhaps meant."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError


def explained(error: ValidationError, section: str, values: object) -> list[str]:
    """What is wrong with a section, or with a whole file where it is "", a sentence for each value."""
    return list(dict.fromkeys(_sentence(fault, section, values) for fault in error.errors()))


def _sentence(error: Any, section: str, values: object) -> str:
    """`generate.steps: input should be a valid integer, not 'many'`."""
    names, node = [section] if section else [], values
    siblings: list[str] = []
    for depth, part in enumerate(error["loc"], start=1):
        inside = node if isinstance(node, Mapping) else dict(enumerate(node)) if isinstance(node, Sequence) else {}
        if part in inside or (error["type"] == "missing" and depth == len(error["loc"])):  # others: members of a union
            names.append(str(part))
            siblings = [".".join([*names[:-1], str(sibling)]) for sibling in inside if sibling != part]
            node = inside.get(part)
    name = ".".join(names)
    match error["type"]:
        case "missing":
            return f"{name}: a value is missing"
        case "extra_forbidden":
            return f"{name}: no such value{suggestion(name, siblings)}"
        case "value_error":
            return f"{name}: {error['msg'].removeprefix('Value error, ')}"
    message = str(error["msg"]).partition(", unable to parse")[0].partition(", got a number")[0]
    return f"{name}: {message[0].lower()}{message[1:]}, not {error['input']!r}"


def suggestion(name: str, there: Iterable[str]) -> str:
    """`: did you mean generate.guidance?`, or nothing where no name is near: siblings first, then the least deep."""
    names, (group, _, last) = list(there), name.rpartition(".")
    siblings = {full.rpartition(".")[2]: full for full in names if full.rpartition(".")[0] == group}
    near = [siblings[match] for match in get_close_matches(last, siblings, n=1)]
    near += sorted((full for full in names if full.rpartition(".")[2] == last), key=lambda full: full.count("."))
    near += get_close_matches(name, names, n=1, cutoff=0.85)
    return f": did you mean {near[0]}?" if near else ""
