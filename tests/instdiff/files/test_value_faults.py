"""What is wrong with values is told by their full names, and a name that is nearly one that is there by that one."""

from typing import Any

import pytest
from pydantic import PositiveInt, ValidationError, field_validator

from instdiff.files.value_faults import explained, suggestion
from instdiff.schema import Strict


class Part(Strict):
    size: int
    name: str


class Whole(Strict):
    part: Part
    count: PositiveInt
    many: tuple[int, ...] = ()
    either: int | tuple[int, ...] = 0
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


GOOD: dict[str, Any] = {"part": {"size": 1, "name": "a"}, "count": 1}


@pytest.mark.parametrize("section", ["", "some"])
@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        ({"count": 0}, ["count: input should be greater than 0, not 0"]),
        ({"count": "many"}, ["count: input should be a valid integer, not 'many'"]),
        (
            {"part": {"size": 1.5}},
            ["part.size: input should be a valid integer, not 1.5", "part.name: a value is missing"],
        ),
        ({"part": None}, ["part: input should be a valid dictionary or instance of Part, not None"]),
        (
            {"many": [1, "z", None]},
            [f"many.{n}: input should be a valid integer, not {v!r}" for n, v in ((1, "z"), (2, None))],
        ),
        ({"either": "x"}, [f"either: input should be a valid {kind}, not 'x'" for kind in ("integer", "tuple")]),
        ({"even": 3}, ["even: 3 is odd"]),
        ({"part": {"size": 1, "name": "a", "sise": 2}}, ["part.sise: no such value: did you mean part.size?"]),
        ({"cuont": 2}, ["cuont: no such value: did you mean count?"]),
        ({"zoo": 2}, ["zoo: no such value"]),
    ],
)
def test_each_wrong_value_is_a_sentence_with_its_full_name(
    section: str, change: dict[str, Any], sentences: list[str]
) -> None:
    values = GOOD | change
    with pytest.raises(ValidationError) as refused:
        Whole.model_validate(values)
    dot = f"{section}." if section else ""
    expected = [dot + sentence.replace("you mean ", f"you mean {dot}") for sentence in sentences]
    assert explained(refused.value, section, values) == expected


@pytest.mark.parametrize(
    ("name", "there", "meant"),
    [
        ("a.guidence", ["guidance", "b.guidance", "a.guidance"], "a.guidance"),
        ("guidance", ["a.b.guidance", "c.guidance", "d.guidance"], "c.guidance"),
        ("x.steps", ["generate.steps", "x.stages"], "x.stages"),
        ("x.steps", ["x.zoo", "generate.steps"], "generate.steps"),
        ("generat.step", ["a.b", "generate.steps"], "generate.steps"),
        ("genrt.stp", ["a.b", "generate.steps"], None),
        ("x", [], None),
    ],
)
def test_a_name_is_looked_for_among_its_siblings_then_by_its_last_part_then_whole(
    name: str, there: list[str], meant: str | None
) -> None:
    assert suggestion(name, there) == ("" if meant is None else f": did you mean {meant}?")
