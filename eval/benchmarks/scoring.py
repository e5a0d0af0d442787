"""From cases and the outputs of judges to the numbers of a benchmark, by two ways of counting.

Ours: a picture that is missing fails, and no fault of the benchmark's script is repeated. The reference's: as the
benchmark counts itself; where that stops at a missing picture, it has no number then. Every value is kept, so that
two results can be compared value by value later.
Legend: N values, I cases, R resamples.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from eval.benchmarks.benchmark import Benchmark, Measure, Value
from eval.benchmarks.case import Case
from eval.benchmarks.judge_outputs import JudgeOutputs, PendingQuestion
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.view import View
from eval.metrics import average_precision, bootstrap, overlap
from eval.metrics.average_precision import CategoryMatches
from eval.metrics.bootstrap import Metric
from eval.scoring import ap_matches
from instdiff.files import atomic, tables

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

OURS, REFERENCE = "ours", "reference"
VALUES = tables.with_columns(
    tables.columns(
        measure=pa.string(), key=pa.string(), repeat=pa.string(), index=pa.int32(), missing=pa.bool_(), place=pa.int32()
    ),
    ours=pa.float64(),
    reference=pa.float64(),
    parts=pa.list_(pa.string()),
)
PART_RESAMPLES = 200


class BenchmarkScores(NamedTuple):
    """A scored set of pictures: every value, and metrics by way of counting."""

    values: pd.DataFrame
    metrics: dict[str, dict[str, Metric]]
    matches: dict[str, list[CategoryMatches]]
    faults: int  # answers that say nothing


class Draws(NamedTuple):
    """Cases drawn again, for the whole and for its parts."""

    whole_RI: Counts
    parts_RI: Counts


def pending(benchmark: Benchmark, expected: Sequence[ExpectedPicture], outputs: JudgeOutputs) -> list[PendingQuestion]:
    """The questions that the measures ask next and that have no answer yet, each once."""
    questions: dict[PendingQuestion, None] = {}
    for view in _views(expected, outputs):
        for _ in benchmark.measure(view.case, view):
            pass
        questions.update(dict.fromkeys(view.pending))
    return list(questions)


def score(
    benchmark: Benchmark, expected: Sequence[ExpectedPicture], outputs: JudgeOutputs, resamples: int, seed: int
) -> BenchmarkScores:
    """Every number; ValueError when a question has no answer, or nothing is measured."""
    ours, theirs = ([View(picture, outputs, compat) for picture in expected] for compat in (False, True))
    table = _table(benchmark, expected, ours, theirs)
    unanswered = [question for view in (*ours, *theirs) for question in view.pending]
    if unanswered:
        first = unanswered[0]
        raise ValueError(
            f"{len(set(unanswered))} questions have no answer; the first is of picture {first.name!r}:"
            f" {first.text[:200]!r}"
        )
    cases = len({picture.place for picture in expected})
    draws = bootstrap.draws(cases, resamples, seed)
    both = Draws(draws, draws[:PART_RESAMPLES])
    metrics = {way: summary(benchmark, table, way, both) for way in (OURS, REFERENCE)}
    matches = benchmark.matched(ours) if benchmark.matched is not None else {}
    for name, matched in matches.items():
        _add_precision(benchmark, metrics, name, matched, expected, both)
    if not metrics[OURS]:
        raise ValueError(f"nothing was measured: {benchmark.name} needs {', '.join(sorted(benchmark.needs))}")
    if benchmark.absent == "refused" and any(picture.path is None for picture in expected):
        metrics[REFERENCE] = {}
    return BenchmarkScores(table, metrics, matches, sum(view.faults for view in ours))


def summary(benchmark: Benchmark, table: pd.DataFrame, way: str, draws: Draws) -> dict[str, Metric]:
    """The means of one way of counting, whole and by part: "success", "success/level/L2"."""
    metrics = {}
    for name, measure in benchmark.measures.items():
        rows = table[(table["measure"] == name) & table[way].notna()]
        if not len(rows):
            continue
        parts = by_part(rows["parts"])
        metrics[name] = number(rows, measure, way, draws.whole_RI, parts)
        for part in sorted(parts):
            metrics[f"{name}/{part}"] = number(rows.iloc[parts[part]], measure, way, draws.parts_RI, {})
    return metrics


def write(
    folder: Path, benchmark: Benchmark, scored: BenchmarkScores, chosen: str, source: Mapping[str, object]
) -> None:
    """The files of a result, all or none; where both ways of counting differ, the other one's number stands beside."""
    other = REFERENCE if chosen == OURS else OURS
    if not scored.metrics[chosen]:
        raise ValueError(f"{benchmark.name} itself gives no number when a picture is missing")
    numbers: dict[str, dict[str, Any]] = {}
    for name, metric in scored.metrics[chosen].items():
        numbers[name] = metric._asdict() | {"better": benchmark.measures[name.partition("/")[0]].better}
        beside = scored.metrics[other].get(name)
        if beside is not None and (beside.value, beside.n) != (metric.value, metric.n):
            numbers[name][other] = beside._asdict()
    with atomic.folder(folder) as part:
        tables.write(part / "values.parquet", scored.values, VALUES)
        if scored.matches:
            ap_matches.write(part / ap_matches.FILE, scored.matches)
        (part / "metrics.json").write_text(json.dumps(numbers, indent=2) + "\n")
        (part / "provenance.json").write_text(json.dumps(source, indent=2, sort_keys=True) + "\n")


def parts_of(case: Case) -> list[tuple[str, ...]]:
    """The parts of the table that each instance counts in: its own, its picture's, and how much it overlaps others."""
    placed = [place for place, instance in enumerate(case.instances) if instance.box is not None]
    names = overlap.strata([instance.box for instance in case.instances if instance.box is not None])
    crowding = {place: (f"overlap/{name}",) for place, name in zip(placed, names, strict=True)}
    return [(*case.parts, *instance.parts, *crowding.get(place, ())) for place, instance in enumerate(case.instances)]


def _views(expected: Sequence[ExpectedPicture], outputs: JudgeOutputs) -> Iterable[View]:
    return (
        View(picture, outputs, compat) for picture in expected if picture.path is not None for compat in (False, True)
    )


def _table(
    benchmark: Benchmark, expected: Sequence[ExpectedPicture], ours: Sequence[View], theirs: Sequence[View]
) -> pd.DataFrame:
    """One row a value; the reference leaves out what is missing."""
    rows: list[tuple[object, ...]] = []
    for picture, own, other in zip(expected, ours, theirs, strict=True):
        missing = picture.path is None
        instances = parts_of(picture.case)
        values = _in_order(benchmark, own)
        reference = {} if missing else {(name, index): value for name, index, value in _in_order(benchmark, other)}
        for name, index, value in values:
            parts = instances[index] if benchmark.measures[name].of == "instance" else picture.case.parts
            beside = reference.get((name, index))
            rows.append(
                (name, picture.case.key, picture.repeat, index, missing, picture.place, value, beside, list(parts))
            )
    table = pd.DataFrame(rows, columns=[*VALUES.names])
    return table.astype({"ours": "float64", "reference": "float64"})


def _in_order(benchmark: Benchmark, view: View) -> list[Value]:
    """The values of one picture; a measure that is not declared is a fault of ours."""
    values = list(benchmark.measure(view.case, view))
    assert all(value.measure in benchmark.measures for value in values)
    return values


def by_part(parts: pd.Series) -> dict[str, NDArray[np.intp]]:
    """The places of the rows of each part."""
    places: dict[str, list[int]] = {}
    for place, names in enumerate(parts):
        for name in names:
            places.setdefault(name, []).append(place)
    return {name: np.array(part_places, np.intp) for name, part_places in places.items()}


def number(
    rows: pd.DataFrame, measure: Measure, way: str, draws_RI: Counts, parts: Mapping[str, NDArray[np.intp]]
) -> Metric:
    """The mean of the column `way` by the measure's own rule; of a part alone, `parts` is empty."""
    if measure.over == "parts" and parts:
        return _mean_of_parts([rows.iloc[places] for places in parts.values()], way, draws_RI)
    if measure.over == "pictures":
        grouped = rows.groupby(["place", "repeat"], sort=False)[way].mean().reset_index()
        return _mean(grouped, way, draws_RI)
    return _mean(rows, way, draws_RI)


def _mean(rows: pd.DataFrame, way: str, draws_RI: Counts) -> Metric:
    return bootstrap.mean(rows[way].to_numpy(np.float64), rows["place"].to_numpy(np.int64), draws_RI)


def _mean_of_parts(parts: Sequence[pd.DataFrame], way: str, draws_RI: Counts) -> Metric:
    """The mean of the parts' means; a resample in which a part has no case is left out."""
    values, resampled = [], []
    for rows in parts:
        value_N, place_N = rows[way].to_numpy(np.float64), rows["place"].to_numpy(np.int64)
        sums_I = np.bincount(place_N, weights=value_N, minlength=draws_RI.shape[1])
        counts_I = np.bincount(place_N, minlength=draws_RI.shape[1])
        values.append(float(value_N.mean()))
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that says that the part has no case
            resampled.append((draws_RI @ sums_I) / (draws_RI @ counts_I))
    means_R = np.mean(resampled, axis=0)
    low, high = bootstrap.interval(means_R[~np.isnan(means_R)])
    return Metric(float(np.mean(values)), sum(map(len, parts)), low, high)


def _add_precision(
    benchmark: Benchmark,
    metrics: dict[str, dict[str, Metric]],
    name: str,
    matched: list[CategoryMatches],
    expected: Sequence[ExpectedPicture],
    draws: Draws,
) -> None:
    """Average precision of both ways and of each part of the pictures; each picture is drawn as its case is."""
    place_S = np.array([picture.place for picture in expected])
    there_S = np.array([picture.path is not None for picture in expected])
    names = sorted({part for picture in expected for part in picture.case.parts})
    chosen = {name: np.ones(len(expected), bool)} | {
        f"{name}/{part}": np.array([part in picture.case.parts for picture in expected]) for part in names
    }
    for number, part_S in chosen.items():
        draws_RI = draws.whole_RI if number == name else draws.parts_RI
        for way, counted_S in ((OURS, part_S), (REFERENCE, part_S & there_S)):
            if any(category.instances_I[counted_S].any() for category in matched):
                draws_RS = draws_RI[:, place_S[counted_S]]
                metrics[way][number] = average_precision.metrics(matched, draws_RS, counted_S)["ap"]
    assert benchmark.measures[name].whole
