"""Scores that are the real pictures' under another name, and rows that do not compare."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eval.scoring import sanity_checks
from eval.scoring.columns import SCORES
from instdiff.files import tables

MEASURED = {"box_iou": 0.8, "mask_iou": 0.7, "detection_score": 0.9}


def _scores(count: int, **changed: float) -> pd.DataFrame:
    """Instances found alike, but for the columns given."""
    return pd.DataFrame([{"key": "a", "index": place, **MEASURED, **changed} for place in range(count)])


@pytest.mark.parametrize("alike", [*((column,) for column in sanity_checks.COMPARED), ("box_iou", "mask_iou"), ()])
def test_scores_that_agree_with_the_real_ones_in_some_columns_only_are_not_the_real_ones(
    alike: tuple[str, ...],
) -> None:
    changed = {column: value - 0.1 for column, value in MEASURED.items() if column not in alike}
    assert sanity_checks.equals_real_row(_scores(10, **changed), _scores(10)) is None


def test_scores_that_agree_in_every_column_there_is_are_the_real_ones() -> None:
    assert "10 of 10 instances" in str(sanity_checks.equals_real_row(_scores(10), _scores(10)))
    without = _scores(10, mask_iou=np.nan)  # of a detector without masks
    assert "10 of 10 instances" in str(sanity_checks.equals_real_row(without, _scores(10)))
    assert sanity_checks.equals_real_row(_scores(10, mask_iou=np.nan, box_iou=0.7), _scores(10)) is None


@pytest.mark.parametrize(("same", "alarmed"), [(17, False), (18, True), (19, True)])
def test_nine_tenths_found_alike_are_too_many(same: int, alarmed: bool) -> None:
    scores = _scores(20)
    scores.loc[same:, "box_iou"] = 0.75
    assert (sanity_checks.equals_real_row(scores, _scores(20)) is not None) == alarmed


@pytest.mark.parametrize(("apart", "alarmed"), [(9e-7, True), (1.1e-6, False)])
def test_a_millionth_is_not_a_difference_and_more_is(apart: float, alarmed: bool) -> None:
    assert (sanity_checks.equals_real_row(_scores(10, box_iou=0.8 + apart), _scores(10)) is not None) == alarmed


def test_instances_missed_on_a_side_say_nothing() -> None:
    missed = {"box_iou": 0.0, "mask_iou": 0.0, "detection_score": np.nan}
    assert sanity_checks.equals_real_row(_scores(10, **missed), _scores(10, **missed)) is None
    scores = pd.concat([_scores(10), _scores(20, **missed)[10:]], ignore_index=True)
    assert "10 of 10 instances" in str(sanity_checks.equals_real_row(scores, _scores(20)))
    assert "10 of 10 instances" in str(sanity_checks.equals_real_row(_scores(20), scores))


def test_instances_are_held_against_themselves_whatever_the_order() -> None:
    real = _scores(10).assign(box_iou=np.linspace(0.1, 1, 10))
    assert sanity_checks.equals_real_row(real[::-1], real) is not None
    assert sanity_checks.equals_real_row(real.assign(index=real["index"].to_numpy()[::-1]), real) is None


def test_a_row_is_held_against_the_real_one_beside_it_where_there_is_one(tmp_path: Path) -> None:
    refuse, scores = sanity_checks.refuse_disguised_real_row, _scores(10)
    refuse(tmp_path, "box", scores)
    named = dict.fromkeys(SCORES.names) | {"row": "real", "key": "a", "group": "mixed", "category": "ring"}
    (tmp_path / "real").mkdir()
    tables.write(tmp_path / "real" / "instances.parquet", [named | MEASURED | {"index": n} for n in range(10)], SCORES)
    refuse(tmp_path, "real", scores)
    refuse(tmp_path, "box", _scores(10, box_iou=0.5))
    with pytest.raises(ValueError, match="^row 'box': 10 of 10 instances were found exactly as in the row 'real'"):
        refuse(tmp_path, "box", scores)


ROW: dict[str, Any] = dict.fromkeys(sanity_checks.MUST_AGREE, "same") | {"detected_by": {"detector": "same"}}


@pytest.mark.parametrize("name", sanity_checks.MUST_AGREE)
def test_rows_that_differ_in_what_must_agree_do_not_compare(name: str) -> None:
    assert sanity_checks.differences(ROW, ROW | {name: "another"}) == [name]
    assert sanity_checks.differences({key: value for key, value in ROW.items() if key != name}, ROW) == [name]
    sentences = sanity_checks.warnings({"real": ROW, "none": ROW, "box": ROW, "mask": ROW | {name: "another"}}, "box")
    assert sentences == [f"row 'mask' is left out: it does not compare, for it has {name} of its own"]


def test_rows_of_two_detectors_do_not_compare() -> None:
    assert sanity_checks.differences(ROW, ROW | {"detected_by": {"detector": "another"}}) == ["detector"]


@pytest.mark.parametrize("lacking", ["real", "none"])
def test_an_end_of_the_scale_that_lacks_is_said_with_the_option_that_gives_it(lacking: str) -> None:
    rows = {name: ROW for name in ("real", "none", "box") if name != lacking}
    (sentence,) = sanity_checks.warnings(rows, "box")
    assert f"there is no row {lacking!r}" in sentence and f"--{lacking}-detections" in sentence
