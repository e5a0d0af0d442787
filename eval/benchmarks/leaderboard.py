"""The leaderboard: benchmarks by models; numbers measured here with intervals, published ones in grey with source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.benchmarks.benchmark import Benchmark, Published
from instdiff.files.texts import read_json
from instdiff.layouts import html

TEMPLATE = Path(__file__).parent / "leaderboard.html.j2"


class BenchmarkResult(NamedTuple):
    """A result of ours, read."""

    row: str
    metrics: Mapping[str, Mapping[str, Any]]
    source: Mapping[str, Any]


class LeaderboardCell(NamedTuple):
    """A number as it is shown; `notes` say what differs in its setting, or where it is from."""

    text: str
    value: float
    interval: str
    notes: tuple[str, ...]


class ModelRow(NamedTuple):
    """A model's line, its cells by column."""

    model: str
    measured: bool
    about: tuple[str, ...]
    cells: dict[str, LeaderboardCell]


class Column(NamedTuple):
    """A measure or a part of one."""

    name: str
    label: str
    part: str
    meaning: str
    better: str


def results(folder: Path) -> list[BenchmarkResult]:
    """Every result below a folder; ValueError names a file that is no result."""
    results = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        metrics, source = read_json(path), read_json(path.with_name("provenance.json"))
        numbers = isinstance(metrics, dict) and all(
            isinstance(metric, dict)
            and all(isinstance(metric.get(end), int | float) for end in ("value", "low", "high", "n"))
            for metric in metrics.values()
        )
        if not numbers or not isinstance(source, dict) or not isinstance(source.get("benchmark"), str):
            raise ValueError(f"{path}: not the result of a benchmark")
        results.append(BenchmarkResult(path.parent.name, metrics, source))
    return results


def render(benchmarks: Sequence[Benchmark], results: Sequence[BenchmarkResult]) -> str:
    """One self-contained page."""
    sections = [
        section(benchmark, [result for result in results if result.source["benchmark"] == benchmark.name])
        for benchmark in benchmarks
    ]
    return html.page(TEMPLATE, {"sections": [section for section in sections if section["rows"]]})


def section(benchmark: Benchmark, results: Sequence[BenchmarkResult]) -> dict[str, Any]:
    """A benchmark's table: the columns in which any row has a number."""
    table_columns = columns(benchmark)
    rows = [_measured(result, table_columns) for result in results]
    rows += [_published(model, source, numbers) for (model, source), numbers in _by_model(benchmark.published).items()]
    filled = [column for column in table_columns if any(column.name in row.cells for row in rows)]
    return {"benchmark": benchmark, "columns": filled, "rows": rows}


def columns(benchmark: Benchmark) -> list[Column]:
    """The headline measures, and the parts of which numbers are published."""
    heads = [name for name, measure in benchmark.measures.items() if measure.headline]
    parts = list(dict.fromkeys(number.measure for number in benchmark.published if "/" in number.measure))
    ordered = [name for head in heads for name in (head, *(part for part in parts if part.startswith(f"{head}/")))]
    table_columns = []
    for name in ordered:
        head, _, part = name.partition("/")
        measure = benchmark.measures[head]
        table_columns.append(Column(name, measure.label, part.rpartition("/")[2], measure.meaning, measure.better))
    return table_columns


def _by_model(published: Sequence[Published]) -> dict[tuple[str, str], list[Published]]:
    models: dict[tuple[str, str], list[Published]] = {}
    for number in published:
        models.setdefault((number.model, number.source), []).append(number)
    return models


def _measured(result: BenchmarkResult, table_columns: Sequence[Column]) -> ModelRow:
    cells = {}
    for column in table_columns:
        metric = result.metrics.get(column.name)
        if metric is not None:
            cells[column.name] = _cell(metric)
    return ModelRow(result.row, True, tuple(_setting(result.source)), cells)


def _cell(metric: Mapping[str, Any]) -> LeaderboardCell:
    interval = f"{metric['low']:.3f} \u2013 {metric['high']:.3f}"
    beside = [
        f"{'counted our' if way == 'ours' else 'its own'} way: {metric[way]['value']:.3f}"
        for way in ("ours", "reference")
        if way in metric
    ]
    return LeaderboardCell(f"{metric['value']:.3f}", float(metric["value"]), interval, tuple(beside))


def _setting(source: Mapping[str, Any]) -> list[str]:
    """What a reader must know before holding a measured row against a published one."""
    missing = len(source.get("missing", ()))
    notes = [f"{source.get('num_pictures', 0) - missing} pictures" + (f", {missing} missing" if missing else "")]
    if source.get("counted") == "reference":
        notes.append("counted as the benchmark does")
    if source.get("questions", {}).get("questions"):
        notes.append("questions in our wording")
    answers = source.get("judged_by", {}).get("answers")
    if answers:
        notes.append(f"answers of {answers['judge']}")
    return notes


def _as_stated(value: float) -> str:
    """A published number with its own digits, two or three of them."""
    text = f"{value:.3f}"
    return text.removesuffix("0")


def _published(model: str, source: str, numbers: Sequence[Published]) -> ModelRow:
    cells = {
        number.measure: LeaderboardCell(
            _as_stated(number.value), number.value, "", (number.setting,) if number.setting else ()
        )
        for number in numbers
    }
    return ModelRow(model, False, (source,), cells)
