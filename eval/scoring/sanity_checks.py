"""Checks of a table of results: a row that is the real pictures' in disguise, a scale without its ends."""

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


def equals_real_row(scores: pd.DataFrame, real: pd.DataFrame) -> str | None:
    """What is wrong when instances were found where, and as surely as, in the real pictures; None when nothing is.

    Detections of the real pictures under another name look so, whatever the pictures judged are.
    """
    places = ["key", "index"]
    both = scores.merge(real, on=places, suffixes=("", "_real"))
    both = both[(both["box_iou"] > 0) & (both["box_iou_real"] > 0)]
    columns = [column for column in COMPARED if both[column].notna().all() and both[f"{column}_real"].notna().all()]
    if not len(both):
        return None
    same_N = np.all([np.isclose(both[column], both[f"{column}_real"], rtol=0, atol=1e-6) for column in columns], axis=0)
    if same_N.mean() < SAME:
        return None
    return (
        f"{same_N.sum()} of {len(both)} instances were found exactly as in the row 'real':"
        " these are the detections of the real pictures"
    )


def refuse_disguised_real_row(folder: Path, row: str, scores: pd.DataFrame) -> None:
    """ValueError when a row's scores are those of the row `real` in the same folder."""
    beside = folder / REAL / "instances.parquet"
    if row != REAL and beside.is_file():
        fault = equals_real_row(scores, tables.read(beside, SCORES))
        if fault is not None:
            raise ValueError(f"row {row!r}: {fault}")


def warnings(sources: Mapping[str, Mapping[str, Any]], row: str) -> list[str]:
    """What a reader must know of the rows shown beside `row`: which ends of the scale lack, which do not compare."""
    lacking = [end for end in (REAL, NONE) if end not in sources]
    means = {REAL: "the real pictures, the top of the scale", NONE: "pictures from prompts alone, the bottom"}
    sentences = [
        f"there is no row {end!r} ({means[end]}): give its pictures by --{end} and, where detections come in files,"
        f" --{end}-detections"
        for end in lacking
    ]
    for name in sources:
        differing = differences(sources[name], sources[row])
        if differing:
            sentences.append(
                f"row {name!r} is left out: it does not compare, for it has {', '.join(differing)} of its own"
            )
    return sentences


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """In what two rows' provenance disagrees that must be equal for their numbers to compare."""
    differing = [name for name in MUST_AGREE if a.get(name) != b.get(name)]
    if a["detected_by"].get("detector") != b["detected_by"].get("detector"):
        differing.append("detector")
    return differing
