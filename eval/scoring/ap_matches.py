"""What average precision counts of a row, kept beside its scores, so that two rows can be resampled alike later.

One line a detection, by category and falling score, with the IoU thresholds at which it is right or wrong as bits; and
one line a picture and category that has instances, with their number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from eval.metrics.average_precision import THRESHOLDS_T, CategoryMatches, Flags
from instdiff.files import tables

FILE = "matches.parquet"
MATCHES = pa.schema(
    {
        "kind": pa.string(),  # box or mask
        "category": pa.int32(),  # of the detector's classes, from 1
        "picture": pa.int32(),  # its place in the images table
        "right": pa.int32(),  # bit t: matched at threshold t
        "wrong": pa.int32(),  # bit t: matched to nothing there; neither bit: it does not count
        "instances": pa.int32(),  # 0 in the line of a detection
    }
)
_BITS_T = 1 << np.arange(len(THRESHOLDS_T))


def write(path: Path, matches: Mapping[str, Sequence[CategoryMatches]]) -> None:
    """Write all kinds and categories."""
    parts = [
        _lines(kind, matches_of_category) for kind, categories in matches.items() for matches_of_category in categories
    ]
    tables.write(path, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=MATCHES.names), MATCHES)


def read(path: Path, num_pictures: int) -> dict[str, list[CategoryMatches]]:
    """The matches by kind, each a category in order."""
    by_kind: dict[str, list[CategoryMatches]] = {}
    for (kind, category), lines in tables.read(path, MATCHES).groupby(["kind", "category"], sort=False):
        by_kind.setdefault(str(kind), []).append(_matched(int(str(category)), lines, num_pictures))
    return by_kind


def _lines(kind: str, matches: CategoryMatches) -> pd.DataFrame:
    with_instances = np.flatnonzero(matches.instances_I)
    nothing = np.zeros(len(with_instances), np.int64)
    columns = {
        "picture": np.concatenate([matches.picture_D, with_instances]),
        "right": np.concatenate([_BITS_T @ matches.true_TD, nothing]),
        "wrong": np.concatenate([_BITS_T @ matches.false_TD, nothing]),
        "instances": np.concatenate([np.zeros(len(matches.picture_D), np.int64), matches.instances_I[with_instances]]),
    }
    return pd.DataFrame({"kind": kind, "category": matches.category, **columns})


def _matched(category: int, lines: pd.DataFrame, num_pictures: int) -> CategoryMatches:
    of_pictures = lines[lines["instances"] > 0]
    of_detections = lines[lines["instances"] == 0]
    instances_I = np.zeros(num_pictures, np.int64)
    instances_I[of_pictures["picture"]] = of_pictures["instances"]
    picture_D = of_detections["picture"].to_numpy(np.int64)
    return CategoryMatches(
        category, picture_D, _flags(of_detections["right"]), _flags(of_detections["wrong"]), instances_I
    )


def _flags(bits: pd.Series) -> Flags:
    return np.asarray(bits.to_numpy(np.int64)[None] & _BITS_T[:, None], bool)
