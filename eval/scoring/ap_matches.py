"""What average precision counts of a row, kept beside its scores, so that two rows can be resampled alike later.

One line a detection, by category and falling score, with the IoU thresholds at which it is right or wrong as bits; and
one line a picture and category that has instances, with their number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from eval.metrics.average_precision import THRESHOLDS_T, Flags, Matched
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


def write(path: Path, matches: Mapping[str, Sequence[Matched]]) -> None:
    """Write all kinds and categories."""
    parts = [_lines(kind, one) for kind, ones in matches.items() for one in ones]
    tables.write(path, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=MATCHES.names), MATCHES)


def read(path: Path, num_pictures: int) -> dict[str, list[Matched]]:
    """The matches by kind, each a category in order."""
    found: dict[str, list[Matched]] = {}
    for (kind, category), lines in tables.read(path, MATCHES).groupby(["kind", "category"], sort=False):
        found.setdefault(str(kind), []).append(_matched(int(str(category)), lines, num_pictures))
    return found


def _lines(kind: str, one: Matched) -> pd.DataFrame:
    asked = np.flatnonzero(one.instances_I)
    nothing = np.zeros(len(asked), np.int64)
    columns = {
        "picture": np.concatenate([one.picture_D, asked]),
        "right": np.concatenate([_BITS_T @ one.true_TD, nothing]),
        "wrong": np.concatenate([_BITS_T @ one.false_TD, nothing]),
        "instances": np.concatenate([np.zeros(len(one.picture_D), np.int64), one.instances_I[asked]]),
    }
    return pd.DataFrame({"kind": kind, "category": one.category, **columns})


def _matched(category: int, lines: pd.DataFrame, num_pictures: int) -> Matched:
    asked = lines[lines["instances"] > 0]
    found = lines[lines["instances"] == 0]
    instances_I = np.zeros(num_pictures, np.int64)
    instances_I[asked["picture"]] = asked["instances"]
    picture_D = found["picture"].to_numpy(np.int64)
    return Matched(category, picture_D, _flags(found["right"]), _flags(found["wrong"]), instances_I)


def _flags(bits: pd.Series) -> Flags:
    return np.asarray(bits.to_numpy(np.int64)[None] & _BITS_T[:, None], bool)
