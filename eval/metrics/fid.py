"""Frechet distance between two sets of pictures in the features of a network.

Same formula as FID, other features: the numbers compare rows of one table and nothing published. Like FID it is
biased upwards on few pictures, and resampling adds to the bias (a picture drawn twice tells nothing new), so
the interval is moved back by that excess: it is centred on the value.
Legend: N pictures, D feature size, R resamples.
"""

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import Counts, Metric, Resampled, interval

Floats = NDArray[np.float64]


def distance(a_ND: Floats, b_ND: Floats) -> float:
    """|mean - mean|^2 + trace(C + C' - 2 (C C')^1/2) of two feature sets; 2 pictures or more each."""
    if min(len(a_ND), len(b_ND)) < 2:
        raise ValueError("a Frechet distance needs two pictures or more on each side")
    a_DD, b_DD = _root(a_ND), _root(b_ND)
    # trace((C C')^1/2) is the sum of the singular values of R R'^T where C = R^T R and C' = R'^T R'
    common = np.linalg.svd(a_DD @ b_DD.T, compute_uv=False).sum()
    apart = ((a_ND.mean(0) - b_ND.mean(0)) ** 2).sum()
    return max(0.0, float(apart + (a_DD**2).sum() + (b_DD**2).sum() - 2 * common))


def metric(pictures_ND: Floats, real_ND: Floats, draws_RN: Counts) -> Resampled:
    """The distance with its interval; both sets are resampled by the same draws, since they pair by layout."""
    value = distance(pictures_ND, real_ND)
    chosen = [np.repeat(np.arange(len(counts_N)), counts_N) for counts_N in draws_RN]
    resampled = np.array([distance(pictures_ND[rows], real_ND[rows]) for rows in chosen])
    moved_R = resampled - (resampled.mean() - value)
    low, high = interval(moved_R)
    return Resampled(Metric(value, len(pictures_ND), max(0.0, low), high), moved_R)


def _root(features_ND: Floats) -> Floats:
    """(min(N, D), D): R with R^T R the covariance."""
    centred = features_ND - features_ND.mean(0)
    return np.asarray(np.linalg.qr(centred / np.sqrt(len(centred) - 1), mode="r"), np.float64)
