"""Words that are looked for."""

from pathlib import Path

from data_prep.annotators import tags


def test_a_line_that_begins_with_a_hash_is_a_comment_wherever_it_begins(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# ours\nring\n  # theirs\n\t#\n  C# book\nring\n")
    assert tags.words(tmp_path / "words.txt") == ("ring", "C# book")
