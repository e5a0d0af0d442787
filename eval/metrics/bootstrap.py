"""Every number with its uncertainty: 95% intervals by resampling whole pictures.

Instances of one picture share its prompt and its noise, so pictures are what is drawn again. One table of
draws serves all metrics of a row: with the same seed and pictures two rows are resampled alike, which is what
paired differences need.
Legend: R resamples, I pictures.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from instdiff.randomness import generator

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

PERCENTILES = (2.5, 97.5)


class Metric(NamedTuple):
    """A value, how many things it was measured on, and its 95% interval."""

    value: float
    n: int
    low: float
    high: float


class Resampled(NamedTuple):
    """A metric of a whole set, and its value in every resample, moved so that their mean is the value."""

    metric: Metric
    values_R: Floats


def draws(num_pictures: int, num_resamples: int, seed: int) -> Counts:
    """(R, I): how often each picture is drawn in each resample; every row adds up to I."""
    if num_pictures < 1:
        raise ValueError("no picture to evaluate")
    return generator(seed, "bootstrap").multinomial(num_pictures, [1 / num_pictures] * num_pictures, num_resamples)


def ratio(sums_I: Floats, counts_I: Counts, draws_RI: Counts) -> Metric:
    """Mean over instances, resampled by picture: `sums_I` adds a picture's values, `counts_I` says how many they are.

    ValueError when nothing was measured.
    """
    measured = int(counts_I.sum())
    if not measured:
        raise ValueError("nothing was measured: no instance counts for this metric")
    counts_R = draws_RI @ counts_I
    resampled = (draws_RI @ sums_I)[counts_R > 0] / counts_R[counts_R > 0]
    return Metric(float(sums_I.sum()) / measured, measured, *interval(resampled))


def mean(values_N: Floats, pictures_N: Counts, draws_RI: Counts) -> Metric:
    """`ratio` of one value per instance; `pictures_N` says which picture each belongs to."""
    num_pictures = draws_RI.shape[1]
    sums_I = np.bincount(pictures_N, weights=values_N, minlength=num_pictures).astype(np.float64)
    return ratio(sums_I, np.bincount(pictures_N, minlength=num_pictures).astype(np.int64), draws_RI)


def interval(resampled_R: Floats) -> tuple[float, float]:
    """The middle 95% of the resampled values; ValueError when there is none or one is not finite."""
    if not len(resampled_R) or not np.isfinite(resampled_R).all():
        raise ValueError("an interval needs finite resampled values")
    low, high = np.percentile(resampled_R, PERCENTILES)
    return float(low), float(high)
