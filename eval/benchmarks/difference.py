"""What differs between two results of one benchmark, value by value, both resampled by the same draws of cases.

Legend: I cases, N measures, R resamples or results, S pictures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eval.benchmarks import scoring
from eval.benchmarks.benchmark import Measure
from eval.benchmarks.registry import load
from eval.benchmarks.scoring import OURS, VALUES
from eval.metrics import average_precision, bootstrap
from eval.metrics.average_precision import CategoryMatches
from eval.metrics.bootstrap import Counts
from eval.scoring import ap_matches
from eval.scoring.difference import Difference
from instdiff.files import tables
from instdiff.files.texts import read_json

PLACES = ["measure", "key", "repeat", "index"]
MUST_AGREE = ("benchmark", "files")


class ComparedResult(NamedTuple):
    """One result, read; repeats are numbered, so that seeds of any name are held against each other in order."""

    folder: Path
    values: pd.DataFrame
    source: dict[str, Any]
    matches: dict[str, list[CategoryMatches]]


def read(folder: Path) -> ComparedResult:
    """A result's folder; ValueError names the file that is missing or of another kind."""
    source = read_json(folder / "provenance.json")
    if not isinstance(source, dict) or "benchmark" not in source:
        raise ValueError(f"{folder / 'provenance.json'}: not the result of a benchmark")
    values = tables.read(folder / "values.parquet", VALUES)
    order = {name: place for place, name in enumerate(sorted(set(values["repeat"])))}
    path = folder / ap_matches.FILE
    matches = ap_matches.read(path, int(source["num_pictures"])) if path.is_file() else {}
    return ComparedResult(folder, values.assign(repeat=values["repeat"].map(order)), source, matches)


def checked(a: ComparedResult, b: ComparedResult) -> list[str]:
    """What else differs (who judged); ValueError when the two are not of the same cases."""
    for name in MUST_AGREE:
        if a.source[name] != b.source[name]:
            raise ValueError(f"{a.folder} and {b.folder} cannot be compared: their {name} differ")
    return [name for name in ("judged_by", "questions") if a.source.get(name) != b.source.get(name)]


def of_metrics(a: ComparedResult, b: ComparedResult, resamples: int, seed: int) -> list[Difference]:
    """B - A of every measure that both have, whole and by part, counted our way."""
    benchmark = load(a.source["benchmark"])
    both = a.values.merge(b.values, on=PLACES, suffixes=("", "_other"))
    both = both[both[OURS].notna() & both[f"{OURS}_other"].notna()].reset_index(drop=True)
    draws = bootstrap.draws(int(a.source["num_cases"]), resamples, seed)
    differences = []
    for name, measure in benchmark.measures.items():
        rows = both[both["measure"] == name].reset_index(drop=True)
        if not len(rows):
            continue
        parts = scoring.by_part(rows["parts"])
        differences.append(_paired(name, rows, measure, parts, draws))
        for part in sorted(parts):
            own = rows.iloc[parts[part]].reset_index(drop=True)
            differences.append(_paired(f"{name}/{part}", own, measure, {}, draws))
    return differences + _precision(a, b, draws)


class Spread(NamedTuple):
    """What a measure varied by between results that differ in the judge's draws alone; `sd` has n - 1 below it."""

    name: str
    mean: float
    sd: float
    low: float
    high: float


def spread(results: Sequence[ComparedResult]) -> list[Spread]:
    """How each measure varies between results of the same pictures, each judged anew: the noise of a sampled judge.

    ValueError when there are fewer than two, or they are of other pictures.
    """
    if len(results) < 2:
        raise ValueError("a spread needs two results or more")
    first, *others = results
    for other in others:
        checked(first, other)
        if first.source["pictures"] != other.source["pictures"]:
            raise ValueError(
                f"{first.folder} and {other.folder} are of other pictures: their spread is not the judge's"
            )
    tables_of = [read_json(result.folder / "metrics.json") for result in results]
    names = [name for name in tables_of[0] if all(name in metrics for metrics in tables_of)]
    values_NR = np.array([[metrics[name]["value"] for metrics in tables_of] for name in names])
    return [
        Spread(name, *(float(number) for number in (own.mean(), own.std(ddof=1), own.min(), own.max())))
        for name, own in zip(names, values_NR, strict=True)
    ]


def _paired(name: str, rows: pd.DataFrame, measure: Measure, parts: Any, draws_RI: Counts) -> Difference:
    apart = rows.assign(apart=rows[f"{OURS}_other"] - rows[OURS])
    columns = [OURS, f"{OURS}_other", "apart"]
    a, b, metric = (scoring.number(apart, measure, column, draws_RI, parts) for column in columns)
    return Difference(name, a.value, b.value, metric.low, metric.high, True)


def _precision(a: ComparedResult, b: ComparedResult, draws_RI: Counts) -> list[Difference]:
    """Average precision, each picture drawn as its case is."""
    place_S = np.array(a.source["cases"], np.int64)
    if a.source["cases"] != b.source["cases"]:
        return []
    differences = []
    for name in a.matches.keys() & b.matches.keys():
        pair = a.matches[name], b.matches[name]
        ends = average_precision.differences([pair], draws_RI[:, place_S])["ap"]
        values = [average_precision.summary(side).ap for side in pair]
        differences.append(Difference(name, values[0], values[1], *ends, True))
    return differences
