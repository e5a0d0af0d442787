"""What differs between two results of one benchmark, value by value, both resampled by the same draws of cases.

Legend: I cases, R resamples, S pictures.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eval.benchmarks import scoring
from eval.benchmarks.registry import load
from eval.benchmarks.scoring import OURS, VALUES
from eval.benchmarks.shape import Measure
from eval.metrics import average_precision, bootstrap
from eval.metrics.average_precision import Matched
from eval.metrics.bootstrap import Counts
from eval.scoring import ap_matches
from eval.scoring.difference import Difference
from instdiff.files import tables
from instdiff.files.texts import read_json

PLACES = ["measure", "key", "repeat", "index"]
MUST_AGREE = ("benchmark", "files")


class Side(NamedTuple):
    """One result, read; repeats are numbered, so that seeds of any name are held against each other in order."""

    folder: Path
    values: pd.DataFrame
    source: dict[str, Any]
    matches: dict[str, list[Matched]]


def read(folder: Path) -> Side:
    """A result's folder; ValueError names the file that is missing or of another kind."""
    source = read_json(folder / "provenance.json")
    if not isinstance(source, dict) or "benchmark" not in source:
        raise ValueError(f"{folder / 'provenance.json'}: not the result of a benchmark")
    values = tables.read(folder / "values.parquet", VALUES)
    order = {name: place for place, name in enumerate(sorted(set(values["repeat"])))}
    path = folder / ap_matches.FILE
    matches = ap_matches.read(path, int(source["num_pictures"])) if path.is_file() else {}
    return Side(folder, values.assign(repeat=values["repeat"].map(order)), source, matches)


def checked(one: Side, other: Side) -> list[str]:
    """What else differs (who judged); ValueError when the two are not of the same cases."""
    for name in MUST_AGREE:
        if one.source[name] != other.source[name]:
            raise ValueError(f"{one.folder} and {other.folder} cannot be compared: their {name} differ")
    return [name for name in ("judged_by", "questions") if one.source.get(name) != other.source.get(name)]


def of_metrics(one: Side, other: Side, resamples: int, seed: int) -> list[Difference]:
    """B - A of every measure that both have, whole and by part, counted our way."""
    benchmark = load(one.source["benchmark"])
    both = one.values.merge(other.values, on=PLACES, suffixes=("", "_other"))
    both = both[both[OURS].notna() & both[f"{OURS}_other"].notna()].reset_index(drop=True)
    draws = bootstrap.draws(int(one.source["num_cases"]), resamples, seed)
    found = []
    for name, measure in benchmark.measures.items():
        rows = both[both["measure"] == name].reset_index(drop=True)
        if not len(rows):
            continue
        parts = scoring.by_part(rows["parts"])
        found.append(_paired(name, rows, measure, parts, draws))
        for part in sorted(parts):
            own = rows.iloc[parts[part]].reset_index(drop=True)
            found.append(_paired(f"{name}/{part}", own, measure, {}, draws))
    return found + _precision(one, other, draws)


def _paired(name: str, rows: pd.DataFrame, measure: Measure, parts: Any, draws_RI: Counts) -> Difference:
    apart = rows.assign(apart=rows[f"{OURS}_other"] - rows[OURS])
    columns = [OURS, f"{OURS}_other", "apart"]
    a, b, metric = (scoring.number(apart, measure, column, draws_RI, parts) for column in columns)
    return Difference(name, a.value, b.value, metric.low, metric.high, True)


def _precision(one: Side, other: Side, draws_RI: Counts) -> list[Difference]:
    """Average precision, each picture drawn as its case is."""
    place_S = np.array(one.source["cases"], np.int64)
    if one.source["cases"] != other.source["cases"]:
        return []
    found = []
    for name in one.matches.keys() & other.matches.keys():
        pair = one.matches[name], other.matches[name]
        ends = average_precision.differences([pair], draws_RI[:, place_S])["ap"]
        values = [average_precision.summary(side).ap for side in pair]
        found.append(Difference(name, values[0], values[1], *ends, True))
    return found
