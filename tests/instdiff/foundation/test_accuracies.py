"""How good a network of the foundation is said to be, on answers that are known to be right or wrong."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from instdiff.foundation import blip, clip, sam
from instdiff.schema import Box
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.corpus import Corpus
from instdiff.world.scenes import Scene, SceneInstance

WORDS = (*COLOURS, *TEXTURES, *SHAPES)
TRUE = ["a red rubber moon", "a blue glass ring", "a pink fabric star", "a black wooden heart"]
TOLD = ["a red rubber moon", "a white glass ring", "a red metallic star", "a black fluffy heart"]
SHARES = {"colour_accuracy": 0.5, "texture_accuracy": 0.5, "shape_accuracy": 1.0}
BOXES = (Box(0, 0, 0.25, 0.5), Box(0.25, 0.5, 1, 1))  # of a picture of 8 x 8: 4 x 2 pixels, and 4 x 6


def scenes() -> tuple[Scene, Scene]:
    """Two pictures of one place after the other, two instances in each."""
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    parts = []
    for name, box in zip(TRUE, BOXES * 2, strict=True):
        _, colour, texture, category = name.split()
        parts.append(SceneInstance(category, colour, texture, box, np.zeros((8, 8), dtype=bool)))
    return Scene(picture, "plain", tuple(parts[:2])), Scene(picture[::-1], "plain", tuple(parts[2:]))


def crops() -> list[NDArray[np.uint8]]:
    return [picture[rows, columns] for picture in (scenes()[0].picture, scenes()[1].picture)
            for rows, columns in ((slice(0, 4), slice(0, 2)), (slice(4, 8), slice(2, 8)))]  # fmt: skip


class Told:
    """A CLIP that knows of a text its words, and sees in the crops what it is told."""

    def text_features(self, texts: list[str]) -> Tensor:
        held = torch.tensor([[float(word in text.split()) for word in WORDS] for text in texts])
        return F.normalize(held, dim=-1)

    def image_features(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        assert all(np.array_equal(seen, true) for seen, true in zip(pictures, crops(), strict=True))
        return self.text_features(TOLD)


def test_clip_is_as_good_as_the_words_it_finds_in_the_crops_among_all_of_their_kind() -> None:
    held: Any = Told()
    assert clip.accuracies(held, Corpus(scenes(), np.zeros((2, 8, 8, 3), dtype=np.uint8))) == SHARES


@pytest.mark.parametrize("attribute", ["colour", "texture", "shape"])
def test_the_feature_of_a_word_is_the_mean_over_the_phrases_that_hold_it(attribute: str) -> None:
    held: Any = Told()
    features = clip.word_features(held, attribute)
    mine = {"colour": tuple(COLOURS), "texture": tuple(TEXTURES), "shape": tuple(SHAPES)}[attribute]
    assert torch.allclose(features.norm(dim=1), torch.ones(len(mine)))
    for word, feature in zip(mine, features, strict=True):
        weights = dict(zip(WORDS, feature.tolist(), strict=True))  # of each phrase one third of a word of each kind
        others = [weights[other] for other in WORDS if other not in mine]
        assert weights[word] == pytest.approx(8 * others[0]) == pytest.approx(8 * others[-1])
        assert all(weights[other] == 0 for other in mine if other != word)


def test_blip_is_as_good_as_the_words_of_its_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Captioner:
        def eval(self) -> "Captioner":
            return self

        def generate(self, **how: Any) -> Tensor:
            calls.append(how)
            return torch.zeros(len(how["pixel_values"]), 3)

    def image_processor(images: list[NDArray[np.uint8]], return_tensors: str) -> SimpleNamespace:
        assert all(np.array_equal(seen, true) for seen, true in zip(images, crops(), strict=True))
        return SimpleNamespace(pixel_values=torch.full((len(images), 3, 2, 2), 0.5))

    def batch_decode(ids: Tensor, **how: object) -> list[str]:
        calls.append((tuple(ids.shape), how))
        return [TOLD[0], "a glass ring", TOLD[2], TOLD[3]]  # no colour is a wrong one

    def read(kind: object) -> Any:
        return lambda folder, **how: (calls.append((folder, how)), kind)[1]

    processor = SimpleNamespace(image_processor=image_processor, batch_decode=batch_decode)
    monkeypatch.setattr(blip, "BlipForConditionalGeneration", SimpleNamespace(from_pretrained=read(Captioner())))
    monkeypatch.setattr(blip, "BlipProcessor", SimpleNamespace(from_pretrained=read(processor)))
    assert blip.accuracies(tmp_path, scenes()) == SHARES | {"colour_and_shape_accuracy": 0.5}
    model, words, (generated, decoded) = calls[0], calls[1], calls[2:]
    assert model == (tmp_path, {"dtype": torch.float32, "local_files_only": True})
    assert words == (tmp_path, {"local_files_only": True})
    assert isinstance(generated, dict) and generated["pixel_values"].dtype == torch.float32
    assert generated["max_new_tokens"] == 6  # a, colour, texture, shape and an end, with one to spare
    assert decoded == ((4, 3), {"skip_special_tokens": True})


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_sam_is_as_good_as_the_mean_over_all_instances_and_its_guesses_as_far_off(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scene's number is the share that its mask covers of what it should, in percent."""
    monkeypatch.setattr(sam, "_filled", lambda _, numbers: filled(numbers))

    def filled(numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        shares = torch.tensor(numbers) / 100
        logits = torch.where(torch.arange(100) < torch.tensor(numbers)[:, None], 1.0, -1.0)[:, None]
        return logits, torch.ones(len(numbers), 1, 100), shares - 0.25

    numbers: Any = list(range(count))
    accuracy = sam.accuracy(torch.nn.Identity(), numbers)
    assert accuracy == {
        "mean_iou": pytest.approx((count - 1) / 200),
        "score_error": pytest.approx(0.25, abs=1e-6),
    }
