"""GroundingDINO and MM-GroundingDINO: texts that fit the model, boxes named by whole phrases, no repeats."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from instdiff.layouts import geometry
from instdiff.networks.grounding_dino import GroundingDino, PhraseBox, Pixels, Text, without_repeats
from instdiff.schema import Box

PHRASES = ["red circle", "blue square", "triangle", "green circle", "square"]


@pytest.fixture(scope="module", params=["grounding_dino", "mm_grounding_dino"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = getattr(tiny_models, request.param)(tmp_path_factory.mktemp("models") / "dino")
    return folder


def test_many_tags_are_many_texts_none_longer_than_the_model_reads(weights: Path) -> None:
    model = GroundingDino(weights, 0.5, 0.4)
    texts = model.texts([*PHRASES, "Red. CIRCLE "])
    assert len(texts) > 1
    assert [tag for text in texts for tag in text.words.removesuffix(".").split(". ")][-1] == "red circle"
    assert [tag for text in texts for tag in text.phrases] == [*PHRASES, "Red. CIRCLE "]
    assert all(len(model._processor.tokenizer(text.words)["input_ids"]) <= 12 for text in texts)


@given(st.lists(st.sampled_from(["red circle", "blue", "a photo of the square", "triangle"]), max_size=9))
def test_a_text_holds_as_many_tags_as_the_model_reads(named: list[str]) -> None:
    model = GroundingDino.__new__(GroundingDino)
    model._model = SimpleNamespace(config=SimpleNamespace(max_text_len=8))

    def tokens(text: str) -> dict[str, list[str]]:
        return {"input_ids": ["[CLS]", *text.replace(".", " .").split(), "[SEP]"]}

    model._processor = SimpleNamespace(tokenizer=tokens)
    texts = model.texts(named)
    assert " ".join(text.words for text in texts) == " ".join(f"{tag}." for tag in named)
    assert [tag for text in texts for tag in text.phrases] == named
    for text in texts:
        assert len(tokens(text.words)["input_ids"]) <= 8
    for text, following in pairwise(texts):
        longer = f"{text.words} {following.words.partition('.')[0]}."
        assert len(tokens(longer)["input_ids"]) > 8


@given(st.lists(st.tuples(st.sampled_from([(64, 96), (64, 64), (80, 64)]), st.integers(0, 3)), max_size=6))
def test_pictures_of_one_size_are_looked_at_together_and_no_more_than_were_handed_in(
    sizes_and_counts: list[tuple[tuple[int, int], int]],
) -> None:
    batch = [np.full((*size, 3), number, np.uint8) for number, (size, _) in enumerate(sizes_and_counts)]
    model = GroundingDino.__new__(GroundingDino)
    texts_of = [
        [Text(f"{number}.", (f"{number} {text}",)) for text in range(n)]
        for number, (_, n) in enumerate(sizes_and_counts)
    ]
    sizes_together: list[list[tuple[int, ...]]] = []

    def detected(some: Sequence[Pixels], texts: Sequence[Text]) -> list[list[PhraseBox]]:
        sizes_together.append([pixels.shape[:2] for pixels in some])
        assert all(text.words == f"{pixels[0, 0, 0]}." for pixels, text in zip(some, texts, strict=True))
        return [[PhraseBox(text.phrases[0], Box(0, 0, 1, 1), 0.5)] for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_detected", detected)
        boxes_of = model.find(batch, texts_of, 2)
    for boxes, texts in zip(boxes_of, texts_of, strict=True):
        assert [box.phrase for box in boxes] == [text.phrases[0] for text in texts]
    assert all(len(set(sizes)) == 1 and len(sizes) <= 2 for sizes in sizes_together)


def test_phrases_may_be_searched_for_each_alone() -> None:
    assert GroundingDino.separate_texts(["Red. CIRCLE", " . ", "cat"]) == [
        Text("red circle.", ("Red. CIRCLE",)),
        Text("cat.", ("cat",)),
    ]


def test_a_phrase_longer_than_the_model_reads_is_cut_to_what_it_reads(weights: Path) -> None:
    model, lengths = GroundingDino(weights, 0.5, 0.0), list[int]()
    model._model.register_forward_pre_hook(
        lambda _, __, options: lengths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    phrase = "red circle on the blue square on the green triangle on the red square"
    (boxes,) = model.find([np.zeros((64, 64, 3), np.uint8)], [model.texts([phrase])], 1)
    assert lengths == [12]
    assert {box.phrase for box in boxes} <= {phrase, None}


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path / "clip")
    with pytest.raises(ValueError, match="clip: config.json names the model_type 'clip', not grounding-dino or mm-"):
        GroundingDino(tmp_path / "clip", 0.5, 0.4)


def test_the_threshold_of_a_token_names_a_query(weights: Path) -> None:
    model = GroundingDino(weights, 0.5, 0.4)
    (text,) = model.texts(["red circle", "blue square"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    chances = torch.full((3, len(ids)), 0.1)
    chances[0, 2] = 0.9  # circle
    chances[0, 1] = 0.45  # red
    chances[1, 4] = 0.45  # blue, but no token is sure enough for a box
    chances[2, 3] = 0.9  # the full stop names nothing
    phrase_boxes = model._boxes(chances, torch.tensor([[0.5, 0.5, 0.5, 0.25]] * 3), ids, text)
    assert [box.phrase for box in phrase_boxes] == ["red circle", None]
    assert phrase_boxes[0].box == Box(0.25, 0.375, 0.75, 0.625)


def test_a_query_is_found_and_a_token_names_it_only_above_the_threshold(weights: Path) -> None:
    model = GroundingDino(weights, 0.75, 0.25)
    (text,) = model.texts(["red circle", "blue square"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    chances = torch.zeros(3, len(ids))
    chances[:, 2] = torch.tensor([0.75, np.nextafter(np.float32(0.75), np.float32(1)), 1.0])  # circle
    chances[:, 1] = torch.tensor([0.5, 0.25, np.nextafter(np.float32(0.25), np.float32(1))])  # red
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.25]] * 3)
    phrase_boxes = model._boxes(chances, boxes, ids, text)
    assert [box.phrase for box in phrase_boxes] == ["red circle", "red circle"]
    assert [box.score for box in phrase_boxes] == chances[1:, 2].tolist()
    chances[:, 3], chances[:, 2] = chances[:, 2].clone(), 0  # as sure, but of the full stop
    phrase_boxes = model._boxes(chances, boxes, ids, text)
    assert [box.phrase for box in phrase_boxes] == [None, "red circle"]
    assert [box.score for box in phrase_boxes] == chances[1:, 3].tolist()


def test_a_box_cut_by_the_border_keeps_the_part_inside(weights: Path) -> None:
    model = GroundingDino(weights, 0.5, 0.4)
    (text,) = model.texts(["red circle"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    (phrase_box,) = model._boxes(torch.ones(1, len(ids)), torch.tensor([[0.875, 0.25, 0.5, 0.75]]), ids, text)
    assert phrase_box.box == Box(0.625, 0.0, 1.0, 0.625)


def test_boxes_that_overlap_by_exactly_the_limit_are_both_kept() -> None:
    phrase_boxes = [PhraseBox("a", Box(0.0, 0.0, 1.0, 0.5), 0.5), PhraseBox("b", Box(0.0, 0.0, 1.0, 1.0), 0.75)]
    assert without_repeats(phrase_boxes, 0.5) == phrase_boxes[::-1]
    assert without_repeats(phrase_boxes, 0.5 - 1e-6) == phrase_boxes[1:]


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "pot", "##ted", "##plant", "fire", "hydrant"]
PIECES += ["japanese", "_", "fruit", "don", "##ut", "t", "-", "shirt", "cat", "dog", "red", "circle"]


@pytest.mark.parametrize(
    ("tags", "sure", "category"),
    [
        (["pottedplant", "donut"], {"##plant": 0.9}, "pottedplant"),
        (["pottedplant"], {"pot": 0.9, "##ted": 0.9}, "pottedplant"),
        (["cat", "donut"], {"##ut": 0.9}, "donut"),
        (["japanese_fruit"], {"japanese": 0.9, "_": 0.9}, "japanese_fruit"),
        (["dog", "t-shirt"], {"t": 0.9, "-": 0.9, "shirt": 0.9}, "t-shirt"),
        (["cat", "dog"], {"cat": 0.9, "dog": 0.9}, "cat"),  # two tags are not one name
        (["cat", "dog"], {"cat": 0.8, "dog": 0.9}, "dog"),
        (["a fire hydrant", "cat"], {"hydrant": 0.9}, "a fire hydrant"),
        (["red cat", "red dog"], {"red": 0.9, "dog": 0.6}, "red dog"),  # the word that both have does not decide
        (["Fire  Hydrant."], {"fire": 0.9}, "Fire  Hydrant."),  # as it was given
        (["zebra", "cat"], {"[UNK]": 0.9}, "zebra"),  # a word that the tokenizer does not know is still a tag
        (["cat", "dog"], {".": 0.9}, None),
        (["cat", "dog"], {"[SEP]": 0.9}, None),
    ],
)
def test_a_box_has_the_tag_that_was_searched_for(
    tmp_path: Path, tags: list[str], sure: dict[str, float], category: str | None
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    tokenizer = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    model = GroundingDino.__new__(GroundingDino)
    model._processor = SimpleNamespace(tokenizer=tokenizer)
    model._model = SimpleNamespace(config=SimpleNamespace(max_text_len=256))
    model._box_threshold, model._text_threshold = 0.5, 0.4
    (text,) = model.texts(tags)
    ids = torch.tensor(tokenizer(text.words)["input_ids"])
    chances = torch.tensor([[sure.get(token, 0.1) for token in tokenizer.convert_ids_to_tokens(ids)]])
    (phrase_box,) = model._boxes(chances, torch.tensor([[0.5, 0.5, 0.5, 0.5]]), ids, text)
    assert phrase_box.phrase == category


edges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
boxes = st.tuples(edges, edges).map(lambda sides: Box(sides[0][0], sides[1][0], sides[0][1], sides[1][1]))


@given(st.lists(st.builds(PhraseBox, st.none(), boxes, st.floats(0, 1)), max_size=8))
def test_every_box_left_out_overlaps_a_surer_one_that_was_kept(phrase_boxes: list[PhraseBox]) -> None:
    survivors = without_repeats(phrase_boxes, 0.5)
    for phrase_box in phrase_boxes:
        if phrase_box not in survivors:
            assert any(
                geometry.iou(phrase_box.box, other.box) >= 0.5 - 1e-9 and other.score >= phrase_box.score
                for other in survivors
            )
