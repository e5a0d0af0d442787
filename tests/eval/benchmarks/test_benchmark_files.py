"""What readers of benchmarks' files share."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from eval.benchmarks import benchmark_files, leaderboard
from eval.benchmarks.benchmark import Published
from eval.benchmarks.benchmark_files import Side, without_article
from eval.benchmarks.case import Case, ExpectedInstance
from instdiff.schema import Box


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


def test_a_box_in_pixels_becomes_fractions_and_may_reach_ten_pictures_beyond_the_border() -> None:
    assert benchmark_files.box([10, 20, 30, 40], "x", 100, 200) == Box(0.1, 0.1, 0.3, 0.2)
    assert benchmark_files.box([0.5, 0.5, 0.5, 0.5], "x") == Box(0.5, 0.5, 0.5, 0.5)
    for place, edge in enumerate((-10.0, -10.0, 10.0, 10.0)):
        row = [0.0, 0.0, 1.0, 1.0]
        row[place] = edge
        assert benchmark_files.box(row, "x")[place] == edge
        row[place] = edge * 1.001
        with pytest.raises(ValueError, match="x: .* lies far outside the picture"):
            benchmark_files.box(row, "x")
    for wrong in ([0.5, 0, 0.4, 1], [0, 0.5, 1, 0.4]):
        with pytest.raises(ValueError, match="x: .* ends before it begins"):
            benchmark_files.box(wrong, "x")


UNREADABLE = {
    "a name": "dog",
    "cut off": "[1, 2",
    "a set of lists": "{[]}",
    "deeper than Python calls": "-" * 5000 + "1",
    "deeper than its parser": "not " * 9000 + "1",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_python_cannot_read_is_no_literal_in_one_short_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="^row 3: not a Python literal") as refused:
        benchmark_files.literal(text, "row 3")
    assert len(str(refused.value)) <= 250
    assert benchmark_files.literal(" [1, 'a'] ", "row 3") == [1, "a"]
    assert benchmark_files.literal({"a": 1}, "row 3") == {"a": 1}


@pytest.mark.parametrize(("side", "is_side"), [(1, True), (100_000, True), (0, False), (100_001, False), (-1, False)])
def test_a_side_has_a_pixel_and_a_hundred_thousand_at_most(side: int, is_side: bool) -> None:
    sides = TypeAdapter(Side)
    if is_side:
        assert sides.validate_python(side) == side
    else:
        with pytest.raises(ValidationError):
            sides.validate_python(side)


def case(key: str, count: int) -> Case:
    instances = tuple(ExpectedInstance(phrase="a dog") for _ in range(count))
    return Case(key=key, prompt="", instances=instances, height=1, width=1)


def test_a_picture_of_a_benchmark_has_ten_thousand_instances_at_most_and_stands_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert benchmark_files.MOST_INSTANCES == 10_000
    monkeypatch.setattr(benchmark_files, "MOST_INSTANCES", 2)
    cases = [case("a", 2), case("b", 0)]
    assert benchmark_files.checked(cases, "file") == cases
    with pytest.raises(ValueError, match="file: c: 3 instances, 2 at most"):
        benchmark_files.checked([*cases, case("c", 3)], "file")
    with pytest.raises(ValueError, match="file: the picture 'a' stands twice"):
        benchmark_files.checked([*cases, case("a", 1)], "file")
    with pytest.raises(ValueError, match="file: holds no layout"):
        benchmark_files.checked([], "file")


def test_of_a_table_the_columns_asked_for_are_read_and_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"], "picture": [b"", b""]}), path)
    rows = list(benchmark_files.parquet(path, ["a"], ["b", "c"]))
    assert rows == [(f"{path}: row 0", {"a": 1, "b": "x"}), (f"{path}: row 1", {"a": 2, "b": "y"})]
    with pytest.raises(ValueError, match="t.parquet: column 'c' is missing"):
        list(benchmark_files.parquet(path, ["a", "c", "d"]))
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(ValueError, match="t.parquet: the table has no rows"):
        list(benchmark_files.parquet(path, ["a"]))
    for content in (b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="t.parquet: not a readable Parquet table"):
            list(benchmark_files.parquet(path, ["a"]))
    with pytest.raises(ValueError, match="none.parquet: not a readable Parquet table"):
        list(benchmark_files.parquet(tmp_path / "none.parquet", ["a"]))


@pytest.mark.parametrize(("value", "text"), [(0.73, "0.73"), (0.7, "0.70"), (0.735, "0.735"), (0.5004, "0.50")])
def test_a_published_number_has_two_digits_or_three(value: float, text: str) -> None:
    row = leaderboard._published("model", "paper", [Published("model", "success", value, "paper", "larger")])
    assert row.cells["success"] == (text, value, "", ("larger",))
    assert (row.measured, row.about) == (False, ("paper",))


def test_a_measured_row_says_what_a_reader_must_know_of_it() -> None:
    metric = {"value": 0.12349, "low": 0.1, "high": 0.2, "n": 4, "ours": {"value": 0.5}}
    source = {
        "num_pictures": 10,
        "missing": ["a", "b", "c"],
        "counted": "reference",
        "questions": {"questions": "ours"},
        "judged_by": {"answers": {"judge": "seer"}},
    }
    column = leaderboard.Column("success", "", "", "", "higher")
    row = leaderboard._measured(leaderboard.BenchmarkResult("mine", {"success": metric}, source), [column])
    assert row.cells["success"] == ("0.123", 0.12349, "0.100 \u2013 0.200", ("counted our way: 0.500",))
    assert row.about == (
        "7 pictures, 3 missing",
        "counted as the benchmark does",
        "questions in our wording",
        "answers of seer",
    )
    plain = leaderboard._measured(leaderboard.BenchmarkResult("mine", {}, {"num_pictures": 2}), [column])
    assert (plain.measured, plain.about, plain.cells) == (True, ("2 pictures",), {})
