"""What is kept beside a row's scores to compare rows pairwise: values of pictures, resampled distances of sets.

Every row of a table resamples its pictures by the same draws, so that a distance of one row in a draw is held against
that of the other row in the same draw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from eval.metrics.bootstrap import Floats
from instdiff.files import tables
from instdiff.files.tables import columns

PICTURES_FILE, RESAMPLED_FILE = "pictures.parquet", "resampled.parquet"
PICTURES = columns(key=pa.string(), metric=pa.string(), value=pa.float64())
RESAMPLED = columns(metric=pa.string(), draw=pa.int32(), value=pa.float64())


def of_pictures(keys: Sequence[str], values: Mapping[str, pd.Series]) -> pd.DataFrame:
    """The values of every metric of pictures as rows of PICTURES, without what does not count."""
    parts = [pd.DataFrame({"key": keys, "metric": name, "value": column}) for name, column in values.items()]
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=PICTURES.names)
    return whole[whole["value"].notna()].reset_index(drop=True)


def of_resampled(values: Mapping[str, Floats]) -> pd.DataFrame:
    """The values of every distance as rows of RESAMPLED."""
    parts = [
        pd.DataFrame({"metric": name, "draw": np.arange(len(values_R)), "value": values_R})
        for name, values_R in values.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=RESAMPLED.names)


def read_pictures(folder: Path) -> pd.DataFrame:
    """The values of pictures in a row's folder; none in one that was scored before there were any."""
    path = folder / PICTURES_FILE
    return tables.read(path, PICTURES) if path.is_file() else pd.DataFrame(columns=PICTURES.names)


def read_resampled(folder: Path) -> dict[str, Floats]:
    """The distances of a row's folder in each draw; none in one that was scored before there were any."""
    path = folder / RESAMPLED_FILE
    if not path.is_file():
        return {}
    rows = tables.read(path, RESAMPLED).sort_values(["metric", "draw"], kind="stable")
    return {str(name): own["value"].to_numpy(np.float64) for name, own in rows.groupby("metric", sort=False)}
