"""CLIP score: cosine of picture and text in the judge's features.

Local: the crop of an instance's given box against its phrase (the reference's attribute table). Global: the whole
picture against its prompt. No factor of 100 and no clipping at 0; the judge is named by its hash in provenance.json.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.attributes import Judge

Floats = NDArray[np.float64]

BATCH = 256  # texts the judge reads at once


def cosines(images_ND: Floats, texts: Sequence[str], judge: Judge) -> Floats:
    """(N,): each picture or crop with its own text; a text that stands several times is read once."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return np.zeros(0)
    batches = [distinct[start : start + BATCH] for start in range(0, len(distinct), BATCH)]
    features_MD = np.concatenate([np.asarray(judge.text_features(batch), np.float64) for batch in batches])
    place = {text: number for number, text in enumerate(distinct)}
    texts_ND = features_MD[[place[text] for text in texts]]
    lengths_N = np.linalg.norm(images_ND, axis=1) * np.linalg.norm(texts_ND, axis=1)
    return np.asarray((images_ND * texts_ND).sum(1) / lengths_N)
