"""Per-instance IoU, as this project defines it (the reference prints an IoU column and defines none).

For each instance of the ground truth: the highest intersection over union of its mask with the mask of any
detection of its own category whose score is at least a threshold; 0 when there is none. The metric is the mean
over instances. The box column in the per-instance table is the same with boxes.
"""

import numpy as np

from eval.metrics.matching import Flags, Floats, best


def of_instances(iou_DG: Floats, allowed_DG: Flags) -> Floats:
    """(G,): overlap with the best allowed detection, 0 where there is none."""
    chosen_G = best(iou_DG, allowed_DG)
    return np.array([iou_DG[d, g] if d >= 0 else 0.0 for g, d in enumerate(chosen_G)], np.float64)
