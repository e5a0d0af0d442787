"""Prompts that list instances, by hand-made cases."""

import pytest

from instdiff.layouts.prompts import Prompts, prompt
from instdiff.schema import Instance, Layout

DOGS = (
    Instance(phrase="a brown dog with a ball", category="dog"),
    Instance(phrase="the black cat", category="cat"),
    Instance(phrase="a small dog", category="dog"),
)


def layout(text: str, *instances: Instance) -> Layout:
    return Layout(key="k", prompt=text, instances=instances)


@pytest.mark.parametrize(
    ("listed", "count_dup", "captions", "text", "expected"),
    [
        ("never", True, True, "", ""),
        ("never", True, True, "Two dogs.", "Two dogs."),
        ("uncaptioned", False, False, "", "dog, cat, dog"),
        ("uncaptioned", True, False, "", "2 dog, 1 cat"),
        ("uncaptioned", True, True, "Two dogs on a lawn", "Two dogs on a lawn"),
        ("always", True, False, "Two dogs on a lawn", "2 dog, 1 cat. Two dogs on a lawn"),
        ("always", False, False, "A lawn", "dog, cat, dog. A lawn"),
        (
            "always",
            True,
            True,
            "Two dogs on a lawn",
            "2 dog, 1 cat. Two dogs lawn. dog, brown dog ball. cat, black cat. dog, small dog",
        ),
    ],
)
def test_a_prompt_counts_or_lists_what_is_in_the_picture(
    listed: str, count_dup: bool, captions: bool, text: str, expected: str
) -> None:
    how = Prompts(listed=listed, count_dup=count_dup, add_inst_cap_2_global=captions)
    assert prompt(layout(text, *DOGS), how) == expected


def test_without_categories_phrases_are_counted_and_without_instances_nothing_is() -> None:
    how = Prompts(listed="always", count_dup=True, add_inst_cap_2_global=True)
    assert prompt(layout("", Instance(phrase="ball"), Instance(phrase="ball")), how) == "2 ball. ball, ball. ball, ball"
    assert prompt(layout("The lawn"), how) == "The lawn"
