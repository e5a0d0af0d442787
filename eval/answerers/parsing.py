"""Answers read as yes or no, or as a JSON value; None where an answer cannot be read, which is counted, not guessed."""

import ast
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

Value = TypeVar("Value")

MAX_LENGTH = 100_000  # characters of an answer that are read
_FENCED = re.compile(r"```[A-Za-z]*\s*(.*?)```", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")


class Parsed(NamedTuple):
    """The values of some answers, and how many answers have none."""

    values: list[Any]  # None: no answer, or one that cannot be read
    num_unread: int  # answers that cannot be read


def parse(answers: Iterable[str | None], read: Callable[[str], Value | None]) -> Parsed:
    """Each answer read; None stays None and is no parse failure."""
    answers = list(answers)
    values = [None if answer is None else read(answer) for answer in answers]
    unread = sum(value is None and answer is not None for value, answer in zip(values, answers, strict=True))
    return Parsed(values, unread)


def yes_no(answer: str) -> bool | None:
    """Whether the first word is yes, in any case and after any punctuation; None where it is neither yes nor no."""
    word = _WORD.search(answer[:MAX_LENGTH])
    return None if word is None else {"yes": True, "no": False}.get(word[0].lower())


def json_object(answer: str) -> dict[str, Any] | None:
    """The object in an answer: fenced or bare, also with Python's quotes; None where there is none."""
    text = answer[:MAX_LENGTH]
    fenced = _FENCED.search(text)
    candidates = [fenced[1]] if fenced else []
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        candidates.append(text[start : end + 1])
    for candidate in candidates:
        value = _value(candidate.strip())
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return value
    return None


def boxes(answer: str, categories: Sequence[str]) -> dict[str, list[tuple[float, float, float, float]]] | None:
    """Boxes by category as the answer has them, in its own units; None where it is no object of lists of four numbers.

    Categories that were not asked for are left out, those that the answer lacks have no boxes.
    """
    value = json_object(answer)
    if value is None:
        return None
    by_category: dict[str, list[tuple[float, float, float, float]]] = {category: [] for category in categories}
    for category, rows in value.items():
        if not isinstance(rows, list) or not all(_is_box(row) for row in rows):
            return None
        if category in by_category:
            by_category[category] = [(float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in rows]
    return by_category


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


def _is_box(row: object) -> bool:
    if not isinstance(row, list | tuple) or len(row) != 4:
        return False
    numbers = all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in row)
    return numbers and all(abs(edge) < 1e9 for edge in row)
