"""What a table of results must not be silent about: a result that is the real pictures', a scale without its ends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.scoring.columns import SCORES
from eval.scoring.row import NONE, REAL
from instdiff.files import tables

COMPARED = ("box_iou", "mask_iou", "detection_score")
SAME = 0.9  # share of the instances found in both: two drawings of a layout are never found so alike
MUST_AGREE = ("layouts", "images", "annotated", "judge", "settings")


def of_real(scores: pd.DataFrame, real: pd.DataFrame) -> str | None:
    """What is wrong when instances were found where, and as surely as, in the real pictures; None when nothing is.

    Detections of the real pictures under another name look so, whatever the pictures judged are.
    """
    places = ["key", "index"]
    both = scores.merge(real, on=places, suffixes=("", "_real"))
    both = both[(both["box_iou"] > 0) & (both["box_iou_real"] > 0)]
    columns = [column for column in COMPARED if both[column].notna().all() and both[f"{column}_real"].notna().all()]
    if not len(both):
        return None
    same_N = np.all([np.isclose(both[one], both[f"{one}_real"], rtol=0, atol=1e-6) for one in columns], axis=0)
    if same_N.mean() < SAME:
        return None
    return (
        f"{same_N.sum()} of {len(both)} instances were found exactly as in the row 'real':"
        " these are the detections of the real pictures"
    )


def of_real_in(folder: Path, row: str, scores: pd.DataFrame) -> None:
    """ValueError when a row's scores are those of the row `real` in the same folder."""
    beside = folder / REAL / "instances.parquet"
    if row != REAL and beside.is_file():
        fault = of_real(scores, tables.read(beside, SCORES))
        if fault is not None:
            raise ValueError(f"row {row!r}: {fault}")


def of_rows(sources: Mapping[str, Mapping[str, Any]], row: str) -> list[str]:
    """What a reader must know of the rows shown beside `row`: which ends of the scale lack, which do not compare."""
    lacking = [one for one in (REAL, NONE) if one not in sources]
    means = {REAL: "the real pictures, the top of the scale", NONE: "pictures from prompts alone, the bottom"}
    told = [
        f"there is no row {one!r} ({means[one]}): give its pictures by --{one} and, where detections come in files,"
        f" --{one}-detections"
        for one in lacking
    ]
    for name in sources:
        differing = differences(sources[name], sources[row])
        if differing:
            told.append(f"row {name!r} is left out: it does not compare, for it has {', '.join(differing)} of its own")
    return told


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two rows' provenance disagrees that must be equal for their numbers to compare."""
    found = [name for name in MUST_AGREE if one.get(name) != other.get(name)]
    if one["detected_by"].get("detector") != other["detected_by"].get("detector"):
        found.append("detector")
    return found
