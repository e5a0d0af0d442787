"""What a row's numbers say of the sets of pictures they compare, and precision held against another row's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from eval_world import NOTHING

from eval.inputs.pictures import Pictures
from eval.metrics.average_precision import THRESHOLDS_T, CategoryMatches
from eval.scoring import ap_matches, difference, row
from eval.scoring.difference import Side
from instdiff.files import tables

RECIPE = row.DistanceParams(features="inception", beside=(), num_resamples=2, kid_subsets=3, kid_subset_size=4)


def pictures(sizes: list[tuple[int, int]], suffixes: list[str]) -> Pictures:
    keys = tuple(f"{place}" for place in range(len(sizes)))
    paths = tuple(Path(f"{key}{suffix}") for key, suffix in zip(keys, suffixes, strict=True))
    return Pictures(keys, paths, tuple(sizes), (), (), ())


def test_formats_counts_and_sizes_of_both_sides_are_said_widths_first() -> None:
    own = pictures([(4, 9), (4, 9), (9, 4)], [".png", ".PNG", ".jpg"])
    real = pictures([(2, 3)], [".webp"])
    inputs: Any = SimpleNamespace(pictures=own, real=real)
    assert row._sets(inputs, RECIPE) == {
        "features": "inception",
        "pictures": {"count": 3, "formats": {".jpg": 1, ".png": 2}, "sizes": {"9x4": 2, "4x9": 1}},
        "real": {"count": 1, "formats": {".webp": 1}, "sizes": {"3x2": 1}},
    }


@pytest.mark.parametrize(("count", "listed"), [(9, 9), (10, 10), (11, 10)])
def test_ten_sizes_are_listed_and_no_more(count: int, listed: int) -> None:
    own = pictures([(1, width) for width in range(1, count + 1)], [".png"] * count)
    inputs: Any = SimpleNamespace(pictures=own, real=own)
    sets: Any = row._sets(inputs, RECIPE)
    assert sets["pictures"]["count"] == count
    assert len(sets["pictures"]["sizes"]) == listed


def test_without_real_pictures_no_sets_are_compared() -> None:
    inputs: Any = SimpleNamespace(pictures=pictures([(1, 1)], [".png"]), real=None)
    assert row._sets(inputs, RECIPE) is None


def matched(right: int, num_pictures: int = 6) -> CategoryMatches:
    """A category with an instance a picture, of which the first `right` are found and the others missed."""
    true_TD = np.tile(np.arange(num_pictures) < right, (len(THRESHOLDS_T), 1))
    return CategoryMatches(1, np.arange(num_pictures), true_TD, ~true_TD, np.ones(num_pictures, np.int64))


def side(folder: Path, right: list[int], num_pictures: int = 6, kinds: tuple[str, ...] = ("box", "mask")) -> Side:
    folders = tuple(folder / f"{seed}" for seed in range(len(right)))
    for place, matches in zip(folders, right, strict=True):
        place.mkdir(parents=True)
        ap_matches.write(place / ap_matches.FILE, {kind: [matched(matches)] for kind in kinds})
    return Side(folders, pd.DataFrame(), {}, {"num_pictures": num_pictures}, NOTHING, {})


def test_precision_is_resampled_where_both_sides_hold_what_it_counts(tmp_path: Path) -> None:
    a, b = side(tmp_path / "one", [2]), side(tmp_path / "other", [5], kinds=("box",))
    intervals = difference.of_precision(a, b, 50, 0)
    assert set(intervals) == {"box_ap", "box_ap50", "box_ap75", "box_ar"}
    assert intervals["box_ap50"][0] > 0
    turned = difference.of_precision(b, a, 50, 0)
    assert turned["box_ap50"] == pytest.approx([-edge for edge in reversed(intervals["box_ap50"])])


def test_rows_of_other_numbers_of_pictures_have_no_paired_precision(tmp_path: Path) -> None:
    a, b = side(tmp_path / "one", [2]), side(tmp_path / "other", [5], num_pictures=7)
    assert difference.of_precision(a, b, 50, 0) == {}


def test_precision_that_one_seed_does_not_hold_is_not_paired(tmp_path: Path) -> None:
    a, b = side(tmp_path / "one", [2, 3]), side(tmp_path / "other", [5, 4])
    assert difference.of_precision(a, b, 50, 0)
    (b.folders[1] / ap_matches.FILE).unlink()
    assert difference.of_precision(a, b, 50, 0) == {}


def test_several_instances_of_a_picture_are_counted_again_when_they_are_read(tmp_path: Path) -> None:
    instances = np.array([0, 3, 1], np.int64)
    flags = np.zeros((len(THRESHOLDS_T), 2), np.bool_)
    flags[:4, 0] = flags[7, 1] = True
    ap_matches.write(tmp_path / "m.parquet", {"mask": [CategoryMatches(4, np.array([1, 1]), flags, ~flags, instances)]})
    (matches,) = ap_matches.read(tmp_path / "m.parquet", 3)["mask"]
    stored = tables.read(tmp_path / "m.parquet", ap_matches.MATCHES)
    assert stored["right"].tolist() == [0b1111, 0b10000000, 0, 0]  # a bit a threshold, the first the least
    assert matches.category == 4
    assert matches.instances_I.tolist() == instances.tolist()
    assert matches.picture_D.tolist() == [1, 1]
    assert np.array_equal(matches.true_TD, flags) and np.array_equal(matches.false_TD, ~flags)
