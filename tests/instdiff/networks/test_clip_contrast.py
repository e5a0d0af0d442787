"""What a CLIP learns by, worked out by hand: each picture among the texts, and each text among the pictures."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from instdiff.networks.clip import Clip

ANGLES = {"a": 0.0, "b": math.pi / 2, "c": math.pi / 4 - 0.007}  # of each text's feature


def features(angles: list[float]) -> Tensor:
    return torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])


def contrast(pictures: list[float], texts: list[str], scale: float) -> float:
    """The loss of pictures whose features have these angles with texts."""
    angles = list(ANGLES.values())

    def words(texts: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.tensor([list(ANGLES).index(text) for text in texts]))

    network: Any = SimpleNamespace(
        config=SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=1)),
        device=torch.device("cpu"),
        dtype=torch.float32,
        vision_model=lambda pixels: SimpleNamespace(pooler_output=pixels),
        visual_projection=torch.nn.Identity(),
        text_model=lambda ids: SimpleNamespace(pooler_output=features([angles[number] for number in ids.tolist()])),
        text_projection=torch.nn.Identity(),
        logit_scale=torch.tensor(math.log(scale)),
    )
    words_of: Any = words
    return Clip(network, words_of).contrast(features(pictures), texts).item()


def test_the_loss_is_the_mean_of_both_ways_and_pictures_of_one_text_share_it() -> None:
    s = 2.0
    of_pictures = math.log(1 + math.exp(-s))  # each is right among two texts
    of_a, of_b = math.log(2 + math.exp(-s)), math.log(1 + 2 * math.exp(-s))  # among three pictures, of which two are a
    expected = (of_pictures + (of_a + of_b) / 2) / 2
    assert contrast([0.0, math.pi / 2, 0.0], ["a", "b", "a"], s) == pytest.approx(expected, abs=1e-5)


def test_the_scale_counts_up_to_a_hundred() -> None:
    near = [ANGLES["c"], math.pi / 2]  # nearly as far from b as from a
    at_limit = contrast(near, ["a", "b"], 100)
    assert contrast(near, ["a", "b"], 1000) == pytest.approx(at_limit, rel=1e-5)
    assert contrast(near, ["a", "b"], 99) != pytest.approx(at_limit, rel=1e-3)
