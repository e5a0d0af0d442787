"""CMMD between two sets of pictures (Jayasumana et al. 2024): maximum mean discrepancy in CLIP's features.

A Gaussian kernel of width 10 on unit vectors, the biased estimate, times 1000, as the paper's code has it; its features
are those of ViT-L/14 at 336 pixels. No assumption that features are normal, and few pictures are enough.
Legend: N pictures a side, D feature size, R resamples.
"""

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import Counts, Metric, Resampled, interval

Floats = NDArray[np.float64]

SIGMA, SCALE = 10.0, 1000.0


def distance(a_ND: Floats, b_MD: Floats) -> float:
    """The biased estimate, times 1000; ValueError without a picture on a side."""
    if not min(len(a_ND), len(b_MD)):
        raise ValueError("CMMD needs a picture or more on each side")
    within = _kernel(a_ND, a_ND).mean() + _kernel(b_MD, b_MD).mean()
    return float(SCALE * (within - 2 * _kernel(a_ND, b_MD).mean()))


def metric(pictures_ND: Floats, real_ND: Floats, draws_RN: Counts) -> Resampled:
    """The distance with its interval; both sets are resampled by the same draws, since they pair by layout.

    A picture that is drawn twice meets its own copy, which adds to every resample: the interval is moved back by that.
    """
    value = distance(pictures_ND, real_ND)
    shares_RN = draws_RN / draws_RN.sum(1, keepdims=True)
    mixed_NN = _kernel(pictures_ND, pictures_ND) + _kernel(real_ND, real_ND) - 2 * _kernel(pictures_ND, real_ND)
    resampled_R = SCALE * ((shares_RN @ mixed_NN) * shares_RN).sum(1)
    moved_R = resampled_R - (resampled_R.mean() - value)
    low, high = interval(moved_R)
    return Resampled(Metric(value, len(pictures_ND), max(0.0, low), high), moved_R)


def _kernel(a_ND: Floats, b_MD: Floats) -> Floats:
    squares_NM = (a_ND**2).sum(1)[:, None] + (b_MD**2).sum(1)[None] - 2 * a_ND @ b_MD.T
    return np.asarray(np.exp(-np.maximum(squares_NM, 0.0) / (2 * SIGMA**2)))
