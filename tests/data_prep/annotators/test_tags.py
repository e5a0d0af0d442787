"""Words that are looked for."""

from pathlib import Path

import pytest

from data_prep.annotators import tags


def test_a_line_that_begins_with_a_hash_is_a_comment_wherever_it_begins(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# ours\nring\n  # theirs\n\t#\n  C# book\nring\n")
    assert tags.words(tmp_path / "words.txt") == ("ring", "C# book")


@pytest.mark.parametrize(
    ("word", "is_verb"),
    [("eating", True), ("running", True), ("swing", False), ("king", False), ("ring", False), ("building", False)],
)
def test_a_word_in_ing_is_a_verb_from_six_letters_on_unless_it_is_listed_as_a_noun(word: str, is_verb: bool) -> None:
    assert tags.noun_phrases(f"red {word} house") == (("red", "house") if is_verb else (f"red {word} house",))
