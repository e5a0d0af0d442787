"""Several seeds of one row: the mean over them, and how far they are apart."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.metrics.bootstrap import Metric
from instdiff import atomic


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (n - 1), least, greatest and number of the seeds' values."""
    if len(values) < 2:
        raise ValueError("a spread needs two seeds or more")
    return {
        "value": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "min": float(min(values)),
        "max": float(max(values)),
        "seeds": len(values),
    }


def write(path: Path, rows: Sequence[str], measured: Sequence[Mapping[str, Metric]]) -> None:
    """Write the spread of every metric that all seeds have, and which rows they are."""
    names = [name for name in measured[0] if all(name in one for one in measured)]
    content = {"rows": list(rows), "metrics": {name: spread([one[name].value for one in measured]) for name in names}}
    with atomic.file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
