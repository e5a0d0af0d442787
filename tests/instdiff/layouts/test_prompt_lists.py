"""Prompts composed of the names of instances: which samples, in which order, with which words."""

import pytest

from instdiff.layouts.prompts import Prompts, prompt
from instdiff.schema import Instance, Layout

PAIR = (
    Instance(phrase="The red kite In the sky", category="kite"),
    Instance(phrase="a cat", category=None),
    Instance(phrase="one more kite", category="kite"),
)


def composed(caption: str, listed: str, *, count: bool = False, whole: bool = False) -> str:
    how = Prompts(listed=listed, count_dup=count, add_inst_cap_2_global=whole)  # type: ignore[arg-type]
    return prompt(Layout(key="k", prompt=caption, instances=PAIR), how)


@pytest.mark.parametrize(
    ("listed", "of_captioned", "of_uncaptioned"),
    [
        ("never", "sky", ""),
        ("uncaptioned", "sky", "kite, a cat, kite"),
        ("always", "kite, a cat, kite. sky", "kite, a cat, kite"),
    ],
)
def test_a_list_stands_where_the_rule_says(listed: str, of_captioned: str, of_uncaptioned: str) -> None:
    assert composed("sky", listed) == of_captioned
    assert composed("", listed) == of_uncaptioned


def test_names_are_counted_in_the_order_of_their_first() -> None:
    assert composed("", "always", count=True) == "2 kite, 1 a cat"


def test_function_words_go_whatever_their_case() -> None:
    expected = "kite, cat, kite. sky. kite, red kite sky. cat, cat. kite, one more kite"
    assert composed("The sky", "always", whole=True) == expected


def test_a_rule_is_named_unless_prompts_are_the_layouts_own() -> None:
    rules = {
        Prompts(listed=listed, count_dup=count, add_inst_cap_2_global=whole).rule  # type: ignore[arg-type]
        for listed in ("never", "uncaptioned", "always")
        for count in (False, True)
        for whole in (False, True)
    }
    assert "" in rules
    assert len(rules) == 1 + 2 * 4
