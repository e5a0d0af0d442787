"""What readers of benchmarks' files share."""

import pytest

from eval.benchmarks.benchmark_files import without_article


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("a dog", "dog"),
        ("An  old dog ", "old dog"),
        ("red dog", "red dog"),
        ("dog", "dog"),
        (" a ", "a"),
        ("another dog", "another dog"),
    ],
)
def test_an_article_goes_and_nothing_else(label: str, expected: str) -> None:
    assert without_article(label) == expected
