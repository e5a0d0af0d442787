"""What became of metrics: only values that both runs measured and that differ, each with its mark."""

import pytest

from flows.results import metrics
from flows.results.metrics import Change


def metric(value: float, half: float = 0.1, **more: str) -> dict[str, object]:
    return {"value": value, "low": value - half, "high": value + half, **more}


def test_a_change_is_of_what_both_runs_measured_and_one_value_differs() -> None:
    before = {"box": {"ap": metric(0.5), "fid": metric(3), "gone": metric(1)}, "old": {"ap": metric(1)}}
    after = {"box": {"fid": metric(3), "ap": metric(0.6), "new": metric(2)}, "new": {"ap": metric(1)}}
    (found,) = metrics.changes(before, after)
    assert (found.row, found.metric) == ("box", "ap")
    assert str(found) == "box ap: 0.500 (0.400 to 0.600) -> 0.600"


@pytest.mark.parametrize(
    ("better", "value", "mark"),
    [
        ("higher", 0.25, ""),
        ("higher", 0.2, "**fell**"),
        ("higher", 0.75, ""),
        ("higher", 0.8, "rose"),
        ("lower", 0.25, ""),
        ("lower", 0.2, "rose"),
        ("lower", 0.75, ""),
        ("lower", 0.8, "**fell**"),
        (None, 0.2, ""),
        (None, 0.8, ""),
    ],
)
def test_a_metric_is_marked_beyond_the_ends_of_the_last_interval_and_not_at_them(
    better: str | None, value: float, mark: str
) -> None:
    before = metric(0.5, 0.25)
    one = Change("box", "ap", before, metric(value, **({"better": better} if better else {})))
    assert (one.fell, one.rose) == (mark == "**fell**", mark == "rose")
    assert metrics.markdown([one]).splitlines()[-1] == (f"| box | ap | 0.500 | 0.250 to 0.750 | {value:.3f} | {mark} |")


def test_without_changes_that_is_said() -> None:
    assert metrics.markdown([]) == "No metric changed since the last run."
