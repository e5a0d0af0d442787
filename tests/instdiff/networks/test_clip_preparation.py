"""Pictures as CLIP takes them: squeezed or cut to the middle, values centred as a folder says."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instdiff.foundation.clip import new_tokenizer
from instdiff.networks import clip
from instdiff.networks.clip import HALF, Preparation, middle

MEAN, SPREAD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_middle_is_the_greatest_square_with_as_much_on_either_side(height: int, width: int) -> None:
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    square = middle(np.stack([rows, columns, rows], axis=-1).astype(np.uint8))
    side = min(height, width)
    assert square.shape == (side, side, 3)
    for axis, whole in ((0, height), (1, width)):
        before = int(square[0, 0, axis])
        after = whole - 1 - int(square[-1, -1, axis])
        assert after - before in {0, 1}


@pytest.mark.parametrize(("mean", "spread"), [(HALF, HALF), (MEAN, HALF), (HALF, SPREAD), (MEAN, SPREAD)])
def test_each_channel_is_centred_and_scaled_by_its_own_numbers(
    mean: tuple[float, ...], spread: tuple[float, ...]
) -> None:
    picture = np.full((6, 9, 3), (0, 102, 255), np.uint8)
    batch = Preparation(mean, spread)([picture], 4)
    expected = [(level - m) / s for level, m, s in zip((0.0, 0.4, 1.0), mean, spread, strict=True)]
    assert batch.shape == (1, 3, 4, 4)
    assert torch.allclose(batch, torch.tensor(expected).view(1, 3, 1, 1).expand(1, 3, 4, 4), atol=1e-6)


def test_only_where_it_is_asked_for_is_a_picture_cut_to_its_middle() -> None:
    picture = np.zeros((4, 12, 3), np.uint8)
    picture[:, 4:8] = 255
    assert float(Preparation(middle=True)([picture], 4).min()) == 1
    assert float(Preparation(middle=False)([picture], 4).min()) == -1


def test_a_folder_says_how_its_pictures_are_prepared(tmp_path: Path) -> None:
    path = tmp_path / clip.PREPARATION_FILE
    assert clip.preparation(path) == Preparation()
    for cuts in (True, False):
        path.write_text(json.dumps({"image_mean": MEAN, "image_std": SPREAD, "do_center_crop": cuts, "size": 4}))
        assert clip.preparation(path) == Preparation(MEAN, SPREAD, cuts)
    for wrong in ("{}", "[]", "no json", json.dumps({"image_mean": 1, "image_std": SPREAD, "do_center_crop": True})):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"preprocessor_config\.json: not an image processor's settings"):
            clip.preparation(path)


def test_a_text_that_is_longer_than_the_model_reads_is_cut_and_ended() -> None:
    words = new_tokenizer(6)
    short, long = clip.token_ids(words, ["a red ring", "a red ring and a blue moon"], 6).tolist()
    start, end = words.bos_token_id, words.eos_token_id
    a, red, ring, also = (words.convert_tokens_to_ids(f"{word}</w>") for word in ("a", "red", "ring", "and"))
    assert short == [start, a, red, ring, end, end]
    assert long == [start, a, red, ring, also, end]


@pytest.mark.parametrize("count", [1, 256, 257, 600])
def test_of_more_pictures_than_are_looked_at_together_each_has_its_own_features(count: int) -> None:
    network: Any = SimpleNamespace(
        config=SimpleNamespace(vision_config=SimpleNamespace(image_size=1)),
        device=torch.device("cpu"),
        dtype=torch.float32,
        vision_model=lambda pixels: SimpleNamespace(pooler_output=pixels.flatten(1)),
        visual_projection=torch.nn.Identity(),
    )
    levels = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    features = clip.Clip(network, new_tokenizer(6)).image_features(list(levels))
    expected = torch.from_numpy(levels).float().flatten(1) / 127.5 - 1
    assert torch.allclose(features, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
