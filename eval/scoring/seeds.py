"""Several seeds of one row: the mean over them, how far they are apart, and an interval of the mean.

The interval is over pictures, all seeds of a picture drawn again together: what makes a layout hard is common to its
seeds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eval.metrics import average_precision, bootstrap
from eval.scoring import measures
from eval.scoring.row import Params
from eval.scoring.score_row import RowScores
from instdiff.files import atomic


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


def intervals(rows: Mapping[str, RowScores], params: Params) -> dict[str, tuple[float, float]]:
    """The 95% interval of the mean over seeds, of means over instances and of average precision as a whole."""
    seeds = list(rows.values())
    keys = {key: place for place, key in enumerate(pd.unique(seeds[0].instances["key"]))}
    draws = bootstrap.draws(len(keys), params.num_resamples, params.seed)
    columns = [measures.columns(row, scored.instances, params.leak_groups) for row, scored in rows.items()]
    picture = pd.concat([seed.instances["key"].map(keys) for seed in seeds], ignore_index=True)
    ends = {}
    for name in columns[0]:
        joined = pd.concat([of_seed[name] for of_seed in columns], ignore_index=True)
        there = joined.notna().to_numpy(bool)
        if there.any():
            values = joined[there].to_numpy(np.float64)
            metric = bootstrap.mean(values, picture[there].to_numpy(np.int64), draws)
            ends[name] = (metric.low, metric.high)
    for kind in seeds[0].matches:
        if all(kind in seed.matches for seed in seeds):
            ends |= _of_precision(kind, [seed.matches[kind] for seed in seeds], params)
    return ends


def write(path: Path, rows: Mapping[str, RowScores], params: Params) -> None:
    """Write the spread of every metric that all seeds have, its interval where known, and which rows they are."""
    measured = [scored.metrics for scored in rows.values()]
    names = [name for name in measured[0] if all(name in of_seed for of_seed in measured)]
    joint = intervals(rows, params)
    metrics = {
        name: spread([of_seed[name].value for of_seed in measured])
        | (dict(zip(("low", "high"), joint[name], strict=True)) if name in joint else {})
        for name in names
    }
    with atomic.file(path) as part:
        part.write_text(json.dumps({"rows": list(rows), "metrics": metrics}, indent=2) + "\n")


def _of_precision(
    kind: str, seeds: Sequence[Sequence[average_precision.CategoryMatches]], params: Params
) -> dict[str, tuple[float, float]]:
    draws = bootstrap.draws(len(seeds[0][0].instances_I), params.num_resamples, params.seed)
    means_R4 = np.mean([average_precision.summaries(of_seed, draws) for of_seed in seeds], axis=0)
    means_R4 = means_R4[~np.isnan(means_R4[:, 0])]
    return {
        f"{kind}_{name}": bootstrap.interval(means_R4[:, place])
        for place, name in enumerate(average_precision.Summary._fields)
    }
