"""What `make repro` prints at its end."""

import json
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from eval.table import markdown, number, table, within

ROOT = Path(__file__).parents[2]


def test_a_number_stands_with_half_of_its_interval() -> None:
    assert number({"value": 0.574, "n": 10, "low": 0.55, "high": 0.61}) == ".57[dim]±.03[/dim]"
    assert number({"value": 1.0, "n": 10, "low": 0.98, "high": 1.0}) == "1.0[dim]±.01[/dim]"
    assert number({"value": 16.94, "n": 10, "low": 16.0, "high": 17.0}) == "16.9[dim]±.50[/dim]"


@pytest.mark.parametrize(("value", "expected"), [(0.9949, ".99"), (0.995, "1.0"), (0.9951, "1.0"), (-0.25, "-0.25")])
def test_a_number_that_rounds_to_one_has_one_decimal(value: float, expected: str) -> None:
    assert number({"value": value, "n": 1, "low": 0.0, "high": 0.0}) == f"{expected}[dim]±.00[/dim]"


def test_nine_metrics_fit_a_terminal_of_eighty_columns_and_what_was_not_measured_is_a_dash() -> None:
    metric = {"value": 0.5, "n": 10, "low": 0.4, "high": 0.6}
    names = [f"{kind}_accuracy" for kind in ("colour", "texture", "shape")] + list("abcdef")
    page = StringIO()
    console = Console(width=80, file=page)
    console.print(table({"scribble": dict.fromkeys(names, metric), "none": {"a": metric}}))
    printed = page.getvalue().splitlines()
    assert printed[-2].split() == ["scribble", *[".50±.10"] * 9]
    assert printed[-1].split() == ["none", "-", "-", "-", ".50±.10", *"-----"]


def test_a_long_name_of_a_row_costs_no_number() -> None:
    metric = {"value": 0.5, "n": 10, "low": 0.4, "high": 0.6}
    page = StringIO()
    Console(width=80, file=page).print(table({"reconstructed": dict.fromkeys("abcdefghi", metric)}))
    first, second = page.getvalue().splitlines()[-2:]
    assert first.split() == ["reconstr", *[".50±.10"] * 9]
    assert second.split() == ["ucted"]


def test_a_long_name_stands_in_one_line_where_there_is_room() -> None:
    page = StringIO()
    printed = table({"reconstructed, ours": {"a": {"value": 0.5, "n": 10, "low": 0.4, "high": 0.6}}})
    Console(width=80, file=page).print(printed)
    assert page.getvalue().splitlines()[-1].split() == ["reconstructed,", "ours", ".50±.10"]


def committed(name: str) -> str:
    return subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_readme_shows_the_committed_metrics() -> None:
    page = committed("docs/results.md")
    assert within(page, markdown(json.loads(committed("metrics.json")))) == page


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no <!-- table -->"):
        within("a page", "a table")
