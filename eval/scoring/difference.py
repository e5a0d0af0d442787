"""What differs between two rows of scores on the same layouts: paired intervals, and the instances that changed most.

Means over instances and over pictures, and average precision as a whole, are resampled anew, both sides by the same
draws of pictures, so that what makes a picture hard for both cancels; distances of sets (FID, KID, ...) are held
against each other draw by draw. The others (parts of average precision) are shown side by side, and called different
only where their intervals do not meet.

A side may be several seeds of one row: each instance of each seed is held against the same one of the other side's
seed, and all seeds of a picture are drawn together.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eval.metrics import average_precision, bootstrap
from eval.metrics.bootstrap import Floats
from eval.scoring import ap_matches, measures, paired, sanity_checks
from eval.scoring.columns import SCORES
from instdiff.files import tables

MUST_AGREE = ("layouts", "images", "annotated")  # of two rows' provenance, for their instances to be the same ones
COLUMNS = ("box_iou", "mask_iou", "pim_point", "pim_scribble", "clip_local")


class Side(NamedTuple):
    """One row of scores, read; of several seeds, all their instances and the means of their metrics."""

    folders: tuple[Path, ...]  # one a seed
    scores: pd.DataFrame  # as SCORES, and `seed`, the place in `folders`
    metrics: dict[str, dict[str, float]]
    source: dict[str, Any]
    pictures: pd.DataFrame  # key, metric, value, of all seeds: as PICTURES, and `seed`
    resampled: dict[str, Floats]  # distances of sets in each draw, the mean over seeds


class Difference(NamedTuple):
    """A metric on both sides, and B - A with its 95% interval; paired is False where it is only bounded."""

    name: str
    a: float
    b: float
    low: float
    high: float
    paired: bool

    @property
    def value(self) -> float:
        """B - A."""
        return self.b - self.a

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def read(folders: Sequence[Path]) -> Side:
    """A row's folders, one a seed; ValueError names a file that is missing or unreadable, or what seeds differ in."""
    seeds = [_read(folder) for folder in folders]
    for place, seed in enumerate(seeds[1:], start=1):
        differing = checked(seeds[0], seed)
        if differing:
            raise ValueError(f"{folders[0]} and {folders[place]} are no seeds of one row: their {differing[0]} differs")
    pictures = [seed.source["pictures"] for seed in seeds]
    if len(set(pictures)) < len(pictures):
        raise ValueError(f"{', '.join(map(str, folders))}: two seeds judged the very same pictures")
    return Side(
        tuple(folders),
        pd.concat([seed.scores.assign(seed=place) for place, seed in enumerate(seeds)], ignore_index=True),
        {
            name: {end: float(np.mean([seed.metrics[name][end] for seed in seeds])) for end in ("value", "low", "high")}
            for name in seeds[0].metrics
            if all(name in seed.metrics for seed in seeds)
        },
        seeds[0].source | {"pictures": pictures},
        pd.concat([seed.pictures.assign(seed=place) for place, seed in enumerate(seeds)], ignore_index=True),
        {
            name: np.mean([seed.resampled[name] for seed in seeds], axis=0)
            for name, values_R in seeds[0].resampled.items()
            if all(name in seed.resampled and len(seed.resampled[name]) == len(values_R) for seed in seeds)
        },
    )


def _read(folder: Path) -> Side:
    contents = []
    for name in ("metrics.json", "provenance.json"):
        try:
            contents.append(json.loads((folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder / name}: not a readable JSON file ({error})") from error
    scores = tables.read(folder / "instances.parquet", SCORES)
    metrics, source = contents
    return Side((folder,), scores, metrics, source, paired.read_pictures(folder), paired.read_resampled(folder))


def checked(a: Side, b: Side) -> list[str]:
    """What else differs (detector, judge, settings); ValueError when the two are not of the same instances."""
    if len(a.folders) != len(b.folders):
        counts = f"{len(a.folders)} and {len(b.folders)} seeds"
        raise ValueError(f"{a.folders[0]} and {b.folders[0]} have {counts}: each needs another to be held against")
    places = ["key", "index", "category"]
    if not a.scores[places].equals(b.scores[places]):
        raise ValueError(f"{a.folders[0]} and {b.folders[0]} are not of the same layouts: their instances differ")
    return [name for name in sanity_checks.differences(a.source, b.source) if name not in MUST_AGREE]


def of_metrics(a: Side, b: Side, num_resamples: int, seed: int) -> list[Difference]:
    """Every metric that both sides have, in the first side's order; paired wherever both have its instances."""
    values = instance_values(a), instance_values(b)
    codes, keys = pd.factorize(a.scores["key"])
    draws = bootstrap.draws(len(keys), num_resamples, seed)
    precision = of_precision(a, b, num_resamples, seed)
    differences = []
    together = of_pictures(a, b, num_resamples, seed) | of_sets(a, b)
    for name, metric in a.metrics.items():
        if name not in b.metrics:
            continue
        if name in values[0] and name in values[1]:
            differences.append(_paired(name, values[0][name], values[1][name], codes, draws))
        elif name in precision:
            low, high = precision[name]
            differences.append(Difference(name, metric["value"], b.metrics[name]["value"], low, high, True))
        elif name in together:
            differences.append(together[name])
        else:
            differences.append(_bounded(name, metric, b.metrics[name]))
    return differences


def of_pictures(a: Side, b: Side, num_resamples: int, seed: int) -> dict[str, Difference]:
    """Means over pictures that both sides have values of, on the pictures that count on both."""
    places = ["metric", "key", "seed"]
    both = a.pictures.merge(b.pictures, on=places, suffixes=("_a", "_b"))
    differences = {}
    for name, own in both.groupby("metric", sort=False):
        codes, keys = pd.factorize(own["key"])
        draws = bootstrap.draws(len(keys), num_resamples, seed)
        values_a, values_b = own["value_a"].reset_index(drop=True), own["value_b"].reset_index(drop=True)
        differences[str(name)] = _paired(str(name), values_a, values_b, codes, draws)
    return differences


def of_sets(a: Side, b: Side) -> dict[str, Difference]:
    """Distances of sets, draw by draw; nothing where the sides were not resampled alike."""
    alike = all(a.source.get(name) == b.source.get(name) for name in ("settings", "num_pictures"))
    differences = {}
    for name, values_R in a.resampled.items() if alike else ():
        others_R = b.resampled.get(name)
        if others_R is not None and len(others_R) == len(values_R) and name in a.metrics and name in b.metrics:
            low, high = bootstrap.interval(others_R - values_R)
            ends = a.metrics[name]["value"], b.metrics[name]["value"]
            differences[name] = Difference(name, *ends, low, high, True)
    return differences


def of_precision(a: Side, b: Side, num_resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The interval of B - A of average precision, by metric; nothing where a side does not hold what it counts."""
    counted = [_matches(side) for side in (a, b)]
    if a.source["num_pictures"] != b.source["num_pictures"]:
        return {}
    draws = bootstrap.draws(int(a.source["num_pictures"]), num_resamples, seed)
    intervals: dict[str, tuple[float, float]] = {}
    for kind in measures.KINDS:
        if all(kind in of_seed for seeds in counted for of_seed in seeds):
            pairs = [(seed_a[kind], seed_b[kind]) for seed_a, seed_b in zip(*counted, strict=True)]
            intervals |= {f"{kind}_{name}": ends for name, ends in average_precision.differences(pairs, draws).items()}
    return intervals


def _matches(side: Side) -> list[measures.Matches]:
    """By seed."""
    paths = [folder / ap_matches.FILE for folder in side.folders]
    return [ap_matches.read(path, int(side.source["num_pictures"])) if path.is_file() else {} for path in paths]


def instance_values(side: Side) -> dict[str, pd.Series]:
    """The values whose means are metrics, by the metric's name; NaN where an instance does not count."""
    values = measures.columns(str(side.source["row"]), side.scores, side.source["settings"]["leak_groups"])
    return {name: column for name, column in values.items() if column.notna().any()}


def most_changed(a: Side, b: Side, count: int) -> pd.DataFrame:
    """The instances whose columns moved most, the greatest first: key, index, seed, category, both sides', `change`.

    The change is the sum of B - A over box IoU, mask IoU and PiM of points, a missing value counting as 0.
    """
    table = a.scores[["key", "index", "seed", "category", "colour", "texture", "box"]].copy()
    for column in COLUMNS:
        table[f"{column}_a"], table[f"{column}_b"] = a.scores[column], b.scores[column]
    judged = ("box_iou", "mask_iou", "pim_point")
    table["change"] = sum(table[f"{name}_b"].fillna(0.0) - table[f"{name}_a"].fillna(0.0) for name in judged)
    order = table["change"].abs().sort_values(ascending=False, kind="stable").index[:count]
    changed: pd.DataFrame = table.loc[order[table.loc[order, "change"] != 0]].reset_index(drop=True)
    return changed


def _paired(name: str, a: pd.Series, b: pd.Series, codes: bootstrap.Counts, draws: bootstrap.Counts) -> Difference:
    """B - A on the instances that count on both sides."""
    there = (a.notna() & b.notna()).to_numpy(bool)
    if not there.any():
        raise ValueError(f"{name}: no instance counts on both sides")
    values_a, values_b = (side[there].to_numpy(np.float64) for side in (a, b))
    metric = bootstrap.mean(values_b - values_a, codes[there], draws)
    return Difference(name, float(values_a.mean()), float(values_b.mean()), metric.low, metric.high, True)


def _bounded(name: str, a: dict[str, float], b: dict[str, float]) -> Difference:
    """B - A between the extremes of both intervals, which is wider than a paired one."""
    return Difference(name, a["value"], b["value"], b["low"] - a["high"], b["high"] - a["low"], False)
