"""How well people like a picture for its prompt, as a CLIP tuned on their choices predicts it: PickScore, HPS.

PickScore (Kirstain et al. 2023) is the cosine times the network's own scale, about 100; HPS v2 (Wu et al. 2023) is the
cosine. Both are CLIPs in a folder; OpenCLIP's file of HPS becomes one by `instdiff import-weights --judge`.
Legend: N pictures, each with its own prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instdiff.networks import clip
from instdiff.networks.clip import Clip, Picture
from instdiff.networks.device import PLAIN, Place

SCALED = {"pickscore": True, "hps": False}  # by the network's own scale


@dataclass(frozen=True)
class Preference:
    """A CLIP tuned on people's choices."""

    clip: Clip
    scaled: bool

    def scores(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> NDArray[np.float64]:
        """(N,) of pictures of any size, (H, W, 3) uint8."""
        cosines_N = (self.clip.image_features(pictures) * self.clip.text_features(prompts)).sum(-1)
        scale = float(self.clip.model.logit_scale.detach().exp()) if self.scaled else 1.0
        return np.asarray(cosines_N.cpu().numpy(), np.float64) * scale


def load(folder: Path, name: str, where: Place = PLAIN) -> Preference:
    """The preference of a folder by its name, a key of SCALED."""
    return Preference(clip.load(folder, where), SCALED[name])
