"""The leaderboard: benchmarks by models; numbers measured here with intervals, published ones in grey with source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.benchmarks.shape import Benchmark, Published
from instdiff.files.texts import read_json

TEMPLATE = Path(__file__).parent / "leaderboard.html.j2"


class Result(NamedTuple):
    """A result of ours, read."""

    row: str
    metrics: Mapping[str, Mapping[str, Any]]
    source: Mapping[str, Any]


class Cell(NamedTuple):
    """A number as it is shown; `notes` say what differs in its setting, or where it is from."""

    text: str
    value: float
    interval: str
    notes: tuple[str, ...]


class Row(NamedTuple):
    """A model's line, its cells by column."""

    model: str
    measured: bool
    about: tuple[str, ...]
    cells: dict[str, Cell]


class Column(NamedTuple):
    """A measure or a part of one."""

    name: str
    label: str
    part: str
    meaning: str
    better: str


def results(folder: Path) -> list[Result]:
    """Every result below a folder; ValueError names a file that is none."""
    found = []
    for path in sorted(folder.glob("*/*/metrics.json")):
        metrics, source = read_json(path), read_json(path.with_name("provenance.json"))
        numbers = isinstance(metrics, dict) and all(
            isinstance(one, dict)
            and all(isinstance(one.get(end), int | float) for end in ("value", "low", "high", "n"))
            for one in metrics.values()
        )
        if not numbers or not isinstance(source, dict) or not isinstance(source.get("benchmark"), str):
            raise ValueError(f"{path}: not the result of a benchmark")
        found.append(Result(path.parent.name, metrics, source))
    return found


def render(benchmarks: Sequence[Benchmark], found: Sequence[Result]) -> str:
    """One self-contained page."""
    sections = [
        section(one, [result for result in found if result.source["benchmark"] == one.name]) for one in benchmarks
    ]
    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE.name).render(sections=[one for one in sections if one["rows"]])


def section(benchmark: Benchmark, found: Sequence[Result]) -> dict[str, Any]:
    """A benchmark's table."""
    shown = columns(benchmark)
    rows = [_measured(one, shown) for one in found]
    rows += [_published(model, source, ones) for (model, source), ones in _by_model(benchmark.published).items()]
    return {"benchmark": benchmark, "columns": shown, "rows": rows}


def columns(benchmark: Benchmark) -> list[Column]:
    """The headline measures, and the parts of which numbers are published."""
    heads = [name for name, measure in benchmark.measures.items() if measure.headline]
    parts = list(dict.fromkeys(one.measure for one in benchmark.published if "/" in one.measure))
    ordered = [name for head in heads for name in (head, *(part for part in parts if part.startswith(f"{head}/")))]
    found = []
    for name in ordered:
        head, _, part = name.partition("/")
        measure = benchmark.measures[head]
        found.append(Column(name, measure.label, part.rpartition("/")[2], measure.meaning, measure.better))
    return found


def _by_model(published: Sequence[Published]) -> dict[tuple[str, str], list[Published]]:
    models: dict[tuple[str, str], list[Published]] = {}
    for one in published:
        models.setdefault((one.model, one.source), []).append(one)
    return models


def _measured(one: Result, shown: Sequence[Column]) -> Row:
    cells = {}
    for column in shown:
        metric = one.metrics.get(column.name)
        if metric is not None:
            cells[column.name] = _cell(metric)
    return Row(one.row, True, tuple(_setting(one.source)), cells)


def _cell(metric: Mapping[str, Any]) -> Cell:
    interval = f"{metric['low']:.3f} \u2013 {metric['high']:.3f}"
    beside = [
        f"{'counted our' if way == 'ours' else 'its own'} way: {metric[way]['value']:.3f}"
        for way in ("ours", "reference")
        if way in metric
    ]
    return Cell(f"{metric['value']:.3f}", float(metric["value"]), interval, tuple(beside))


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


def _published(model: str, source: str, ones: Sequence[Published]) -> Row:
    cells = {
        one.measure: Cell(_as_stated(one.value), one.value, "", (one.setting,) if one.setting else ()) for one in ones
    }
    return Row(model, False, (source,), cells)
