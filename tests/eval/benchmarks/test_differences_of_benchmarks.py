"""Two results of a benchmark: what both have is paired, and precision is drawn picture by picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eval.benchmarks import difference
from eval.benchmarks.difference import ComparedResult
from eval.benchmarks.scoring import VALUES
from eval.metrics import average_precision, bootstrap
from eval.metrics.average_precision import THRESHOLDS_T, CategoryMatches
from eval.scoring import ap_matches
from instdiff.files import tables

CASES = [0, 0, 1, 1, 2, 2]  # of each picture


def rows(values: list[float | None], measure: str = "place_miou") -> pd.DataFrame:
    """A value a picture, two of each case."""
    lines = [
        {"measure": measure, "key": f"{case}", "repeat": f"{place % 2}", "index": 0, "missing": False, "place": case}
        | {"ours": value, "reference": value, "parts": ["level/L2"]}
        for place, (case, value) in enumerate(zip(CASES, values, strict=True))
    ]
    return pd.DataFrame(lines, columns=VALUES.names).astype({"ours": float, "reference": float})


def result(values: list[float | None], benchmark: str = "coco-mig", **more: Any) -> ComparedResult:
    """A result of three cases with two pictures each."""
    source = {"benchmark": benchmark, "files": {}, "num_cases": 3, "num_pictures": 6, "cases": CASES}
    return ComparedResult(Path(), rows(values), source | more, {})


def test_a_measure_is_compared_where_both_have_a_value_and_passed_over_where_none_has() -> None:
    a = result([0.25, 0.5, None, 0.75, 0.0, 0.0])
    b = result([0.5, 0.75, 1.0, None, 0.25, 0.25])
    whole, part = difference.of_metrics(a, b, 50, 0)
    assert (whole.name, part.name) == ("place_miou", "place_miou/level/L2")
    for metric in (whole, part):
        assert (metric.a, metric.b, metric.paired) == (0.1875, 0.4375, True)
        assert (metric.low, metric.high) == (0.25, 0.25)  # in every draw


def matched(right: int) -> list[CategoryMatches]:
    """An instance a picture, of which the first `right` are found."""
    true_TD = np.tile(np.arange(6) < right, (len(THRESHOLDS_T), 1))
    return [CategoryMatches(1, np.arange(6), true_TD, ~true_TD, np.ones(6, np.int64))]


def test_precision_is_paired_where_both_kept_what_it_counts_of_the_same_pictures() -> None:
    empty: list[float | None] = [None] * 6
    a, b = (result(empty)._replace(matches={"ap": matched(right)}) for right in (2, 5))
    (metric,) = difference.of_metrics(a, b, 50, 0)
    draws = bootstrap.draws(3, 50, 0)[:, CASES]
    low, high = average_precision.differences([(matched(2), matched(5))], draws)["ap"]
    few, most = (average_precision.summary(matched(right)).ap for right in (2, 5))
    assert metric == difference.Difference("ap", few, most, low, high, True)
    assert metric.value > 0
    assert difference.of_metrics(a, result(empty), 50, 0) == []
    assert difference.of_metrics(a, b._replace(source=b.source | {"cases": CASES[::-1]}), 50, 0) == []


def test_who_judged_and_whose_questions_are_said_where_they_differ() -> None:
    empty: list[float | None] = [None] * 6
    base = result(empty, judged_by="me", questions="ours")
    assert difference.checked(base, base) == []
    assert difference.checked(base, result(empty, judged_by="me", questions="theirs")) == ["questions"]
    assert difference.checked(base, result(empty, judged_by="you", questions="ours")) == ["judged_by"]
    with pytest.raises(ValueError, match="cannot be compared: their benchmark differ"):
        difference.checked(base, result(empty, benchmark="deig"))


def test_repeats_are_held_against_each_other_in_order_and_what_is_no_result_is_named(tmp_path: Path) -> None:
    for source in ([], {"row": "box"}):
        (tmp_path / "provenance.json").write_text(json.dumps(source))
        with pytest.raises(ValueError, match=r"provenance\.json: not the result of a benchmark"):
            difference.read(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({"benchmark": "coco-mig", "num_pictures": 6}))
    named = rows([0.5] * 6).assign(repeat=["b", "a", "b", "c", "a", "c"])
    tables.write(tmp_path / "values.parquet", named, VALUES)
    read = difference.read(tmp_path)
    assert read.values["repeat"].tolist() == [1, 0, 1, 2, 0, 2]
    assert read.matches == {}
    ap_matches.write(tmp_path / ap_matches.FILE, {"ap": matched(2)})
    ((kind, (matches,)),) = difference.read(tmp_path).matches.items()
    assert (kind, matches.instances_I.tolist()) == ("ap", [1] * 6)
