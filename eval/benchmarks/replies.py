"""Answers read as yes or no, as boxes, or as yes or no by name; one that cannot be read is counted, and never a yes."""

from collections.abc import Sequence
from typing import Any

from eval.answerers import parsing
from eval.benchmarks.view import View
from instdiff.schema import Box

MOST_BOXES = 1000  # of one category in one answer
UNITS = ("multiples-of-28", "pixels", "thousandths")  # that an answerer's boxes may be in
STEP = 28  # pixels: Qwen2.5-VL's own input has sides of this multiple


def yes(view: View, answer: str, reference: Sequence[str]) -> bool:
    """Whether the first word of the answer is yes.

    As the reference has it, whether one of these texts stands anywhere in it.
    """
    if view.compat:
        return any(word in answer for word in reference)
    value = parsing.yes_no(answer)
    if value is None:
        view.fault()
    return value is True


def by_name(view: View, answer: str) -> dict[str, Any]:
    """The object in the answer, fenced or bare, in JSON or as Python writes it; empty where there is none."""
    if view.absent:
        return {}
    content = parsing.json_object(answer)
    if content is None:
        view.fault()
    return content or {}


def is_yes(value: object) -> bool:
    """Whether a value of such an object is yes."""
    return isinstance(value, str) and value.strip().lower() == "yes"


def boxes(view: View, value: object) -> list[Box]:
    """The boxes of a list of x0, y0, x1, y1, as fractions; what is no box is counted and left out.

    The reference takes all numbers as pixels of the picture.
    """
    if not isinstance(value, list):
        view.fault()
        return []
    height, width = (float(STEP * max(1, round(side / STEP))) for side in view.size)
    if view.compat or view.boxes_in == "pixels":
        height, width = map(float, view.size)
    elif view.boxes_in == "thousandths":
        height = width = 1000.0
    parsed = []
    for edges in value[:MOST_BOXES]:
        if isinstance(edges, list) and len(edges) == 4 and all(_is_number(edge) for edge in edges):
            parsed.append(Box(edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height))
        else:
            view.fault()
    return parsed


def probability(view: View, answer: str) -> float:
    """A number from 0 to 1, or 1 for yes and 0 for no."""
    try:
        value = float(answer)
    except ValueError:
        return float(yes(view, answer, ("yes", "Yes")))
    if not 0 <= value <= 1:
        view.fault()
        return 0.0
    return value


def _is_number(edge: object) -> bool:
    return isinstance(edge, int | float) and not isinstance(edge, bool) and abs(edge) < 1e6
