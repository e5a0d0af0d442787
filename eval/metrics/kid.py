"""Kernel distance between two sets of pictures (KID, Binkowski et al. 2018), in the features that FID uses.

The unbiased estimate of the squared maximum mean discrepancy under the cubic kernel (x.y / D + 1)^3, averaged over
subsets. Unlike FID it does not grow on few pictures, and it may be a little below 0.
Legend: N and M pictures, D feature size, S subsets.
"""

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import Metric, Resampled, interval

Floats = NDArray[np.float64]


def distance(a_ND: Floats, b_MD: Floats) -> float:
    """The unbiased estimate; ValueError with fewer than two pictures on a side."""
    if min(len(a_ND), len(b_MD)) < 2:
        raise ValueError("a kernel distance needs two pictures or more on each side")
    across = _kernel(a_ND, b_MD).mean()
    return float(_within(a_ND) + _within(b_MD) - 2 * across)


def metric(pictures_ND: Floats, real_ND: Floats, num_subsets: int, size: int, rng: np.random.Generator) -> Resampled:
    """Mean over subsets of `size` pictures, half of all at most, drawn from each side on its own.

    The interval is that of subsampling (Politis and Romano 1994): the spread of the subsets, made as much smaller as
    all pictures tell more than a subset, with the error of a mean over so few subsets. A bootstrap would pair pictures
    with their own copies.
    """
    num = min(len(pictures_ND), len(real_ND))
    subset_size = max(2, min(size, num // 2))
    subsets_S = np.array(
        [
            distance(
                pictures_ND[rng.choice(len(pictures_ND), subset_size, replace=False)],
                real_ND[rng.choice(len(real_ND), subset_size, replace=False)],
            )
            for _ in range(num_subsets)
        ]
    )
    value = float(subsets_S.mean())
    spread_S = (subsets_S - value) * np.sqrt(subset_size / max(1, num - subset_size) + 1 / num_subsets)
    return Resampled(Metric(value, len(pictures_ND), *interval(value + spread_S)), value + spread_S)


def _kernel(a_ND: Floats, b_MD: Floats) -> Floats:
    return np.asarray((a_ND @ b_MD.T / a_ND.shape[1] + 1) ** 3)


def _within(features_ND: Floats) -> float:
    """Mean of the kernel over pairs of different pictures."""
    kernel = _kernel(features_ND, features_ND)
    return float((kernel.sum() - np.trace(kernel)) / (len(features_ND) * (len(features_ND) - 1)))
