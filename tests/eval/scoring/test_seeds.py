"""Several seeds of a row: their spread by hand, and an interval that knows that a layout is common to them."""

import json
from pathlib import Path

import numpy as np
import pytest
from eval_world import PARAMS, many
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import average_precision, bootstrap
from eval.metrics.bootstrap import Metric
from eval.scoring import ap_matches, seeds
from eval.scoring.score_row import RowScores


def test_the_spread_of_three_seeds_by_hand() -> None:
    assert seeds.spread([0.2, 0.6, 0.4]) == pytest.approx(
        {"value": 0.4, "std": 0.2, "min": 0.2, "max": 0.6, "seeds": 3}
    )


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6), st.data())
def test_the_order_of_the_seeds_does_not_change_their_spread(values: list[float], data: st.DataObject) -> None:
    assert seeds.spread(data.draw(st.permutations(values))) == pytest.approx(seeds.spread(values), abs=1e-12)


def test_a_spread_needs_two_seeds() -> None:
    assert seeds.spread([0.5, 0.5])["std"] == 0
    with pytest.raises(ValueError, match="two seeds or more"):
        seeds.spread([0.5])


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, RowScores]:
    """Two seeds of many pictures."""
    scored = {}
    for place, missed in enumerate((0.1, 0.4)):
        side = many(tmp_path / str(place), missed)
        counted = ap_matches.read(tmp_path / str(place) / ap_matches.FILE, 40)
        metrics = {
            name: Metric(value, 9, 0.0, 1.0) for name, value in (("box_miou", 0.2 + place), ("fid", 1.0 * place))
        }
        scored[f"box@{place}"] = RowScores(side.scores, metrics, counted, side.pictures, {})
    return scored


def test_the_interval_is_of_the_mean_over_seeds_and_hangs_on_the_seed_of_the_draws(rows: dict[str, RowScores]) -> None:
    intervals = seeds.intervals(rows, PARAMS)
    mean = float(np.mean([scored.instances["box_iou"].mean() for scored in rows.values()]))
    assert intervals["box_miou"][0] < mean < intervals["box_miou"][1]
    assert intervals == seeds.intervals(rows, PARAMS)
    for changed in ({"seed": 1}, {"num_resamples": 51}):
        others = seeds.intervals(rows, PARAMS.model_copy(update=changed))
        assert all(others[name] != intervals[name] for name in ("box_miou", "box_ap", "box_ar"))


def test_seeds_that_are_alike_have_the_interval_of_one(rows: dict[str, RowScores]) -> None:
    (scored, _) = rows.values()
    intervals = [
        seeds.intervals(dict.fromkeys(names, scored), PARAMS) for names in (("box@0",), ("box@0", "box@1", "box@2"))
    ]
    assert intervals[0].keys() == intervals[1].keys()
    for name, ends in intervals[0].items():
        assert intervals[1][name] == pytest.approx(ends)
    draws = bootstrap.draws(40, PARAMS.num_resamples, PARAMS.seed)
    own = average_precision.metrics(scored.matches["box"], draws)["ap"]
    assert intervals[1]["box_ap"] == pytest.approx((own.low, own.high))


def test_what_is_written_names_the_rows_and_every_metric_that_all_have(
    rows: dict[str, RowScores], tmp_path: Path
) -> None:
    first, second = rows
    rows[first].metrics["kid"] = Metric(0.0, 9, 0.0, 0.0)
    seeds.write(tmp_path / "seeds.json", rows, PARAMS)
    written = json.loads((tmp_path / "seeds.json").read_text())
    assert written["rows"] == [first, second]
    low, high = seeds.intervals(rows, PARAMS)["box_miou"]
    assert written["metrics"] == {
        "box_miou": seeds.spread([0.2, 1.2]) | {"low": low, "high": high},
        "fid": seeds.spread([0.0, 1.0]),
    }
