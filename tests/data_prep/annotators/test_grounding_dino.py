import codecs
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from data_world import GROUND, prepared, put, sources
from data_world import pictures as pictures_in
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer, CLIPModel, CLIPProcessor

from data_prep import ground
from data_prep.annotators import tags
from data_prep.annotators.grounded import Found
from data_prep.annotators.grounding_dino import GroundingDino, unrepeated
from data_prep.annotators.tags import noun_phrases
from data_prep.columns import INSTANCES
from instdiff import tables
from instdiff.layouts import geometry
from instdiff.schema import Box
from instdiff.tables import LEDGER
from instdiff.work.pictures import Picture

CATEGORIES = {"source": "categories", "categories": ["red circle", "blue square", "triangle", "green circle", "square"]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.grounding_dino(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    return root


def params(weights: Path, batch_size: int = 2, **change: Any) -> ground.Params:
    detector = {"weights": weights, "tags": CATEGORIES, "box_threshold": 0.5, "text_threshold": 0.4, "nms_iou": 0.5}
    return ground.Params.model_validate(
        {**GROUND.model_dump(), "backend": "grounding_dino", "batch_size": batch_size, "detector": detector | change}
    )


def grounded(root: Path, to: Path, how: ground.Params) -> tuple[Mapping[str, float], pd.DataFrame]:
    counts = ground.run(**sources(root), instances=to / "found.parquet", ledger=to / "ledger.parquet", params=how)
    return counts, tables.read(to / "found.parquet", INSTANCES)


def test_a_batch_of_pictures_finds_what_one_at_a_time_does(world: Path, weights: Path, tmp_path: Path) -> None:
    _, alone = grounded(world, tmp_path / "1", params(weights, 1))
    _, batched = grounded(world, tmp_path / "3", params(weights, 3))
    assert len(alone) > 5
    assert alone[["key", "index", "category"]].equals(batched[["key", "index", "category"]])
    assert np.allclose(np.stack(alone["box"]), np.stack(batched["box"]), atol=1e-5)
    assert np.allclose(alone["score"], batched["score"], atol=1e-5)


def test_what_is_found_is_sure_named_and_not_found_twice(world: Path, weights: Path, tmp_path: Path) -> None:
    _, found = grounded(world, tmp_path, params(weights))
    assert (found["score"] > 0.5).all()
    words = set(" ".join(CATEGORIES["categories"]).split())
    assert {word for name in found["category"].dropna() for word in name.split()} <= words
    for _, its in found.groupby("key"):
        boxes = [Box(*box) for box in its["box"]]
        assert its["score"].is_monotonic_decreasing
        assert all(geometry.iou(one, two) <= 0.5 + 1e-9 for i, one in enumerate(boxes) for two in boxes[:i])


def test_nothing_found_and_nothing_to_look_for_are_reasons(world: Path, weights: Path, tmp_path: Path) -> None:
    counts, _ = grounded(world, tmp_path, params(weights, box_threshold=1.0))
    assert counts["failed_nothing_found"] == counts["pictures"] == 5
    counts, _ = grounded(world, tmp_path, params(weights, tags={"source": "categories", "categories": [" . "]}))
    assert counts["failed_no_tags"] == 5


def test_many_tags_are_many_texts_none_longer_than_the_model_reads(weights: Path) -> None:
    model = GroundingDino(params(weights).detector)
    texts = model.texts([*CATEGORIES["categories"], "Red. CIRCLE "])
    assert len(texts) > 1
    assert [tag for text in texts for tag in text.words.removesuffix(".").split(". ")][-1] == "red circle"
    assert [tag for text in texts for tag in text.tags] == [*CATEGORIES["categories"], "Red. CIRCLE "]
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
    assert [tag for text in texts for tag in text.tags] == named
    for text in texts:
        assert len(tokens(text.words)["input_ids"]) <= 8
    for text, following in pairwise(texts):
        longer = f"{text.words} {following.words.partition('.')[0]}."
        assert len(tokens(longer)["input_ids"]) > 8


@given(st.lists(st.tuples(st.sampled_from([(64, 96), (64, 64), (80, 64)]), st.integers(0, 3)), max_size=6))
def test_pictures_of_one_size_are_looked_at_together_and_no_more_than_were_handed_in(
    asked: list[tuple[tuple[int, int], int]],
) -> None:
    batch = [Picture(str(number), Path(), *size, "") for number, (size, _) in enumerate(asked)]
    model = GroundingDino.__new__(GroundingDino)
    named = [tuple(f"{number} {text}" for text in range(count)) for number, (_, count) in enumerate(asked)]
    model._tagger = SimpleNamespace(tags=lambda _: named)
    model._params = SimpleNamespace(nms_iou=1.0)
    looked: list[list[tuple[int, int]]] = []

    def detected(some: Sequence[Picture], texts: Sequence[str]) -> list[list[Found]]:
        looked.append([(picture.height, picture.width) for picture in some])
        assert all(text.split()[0] == picture.key for picture, text in zip(some, texts, strict=True))
        return [[Found(text, Box(0, 0, 1, 1), 0.5)] for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "texts", list)
        patch.setattr(model, "_detected", detected)
        found = model.ground(batch)
    for its, tags_of_one in zip(found, named, strict=True):
        assert {one.category for one in its if isinstance(one, Found)} == set(tags_of_one)
        assert isinstance(its, list) == bool(tags_of_one)
    assert all(len(set(sizes)) == 1 and len(sizes) <= len(batch) for sizes in looked)


def test_the_threshold_of_a_token_names_a_query(weights: Path) -> None:
    model = GroundingDino(params(weights).detector)
    (text,) = model.texts(["red circle", "blue square"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    chances = torch.full((3, len(ids)), 0.1)
    chances[0, 2] = 0.9  # circle
    chances[0, 1] = 0.45  # red
    chances[1, 4] = 0.45  # blue, but no token is sure enough for a box
    chances[2, 3] = 0.9  # the full stop names nothing
    found = model._found(chances, torch.tensor([[0.5, 0.5, 0.5, 0.25]] * 3), ids, text)
    assert [one.category for one in found] == ["red circle", None]
    assert found[0].box == Box(0.25, 0.375, 0.75, 0.625)


def test_a_query_is_found_and_a_token_names_it_only_above_the_threshold(weights: Path) -> None:
    model = GroundingDino(params(weights, box_threshold=0.75, text_threshold=0.25).detector)
    (text,) = model.texts(["red circle", "blue square"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    chances = torch.zeros(3, len(ids))
    chances[:, 2] = torch.tensor([0.75, np.nextafter(np.float32(0.75), np.float32(1)), 1.0])  # circle
    chances[:, 1] = torch.tensor([0.5, 0.25, np.nextafter(np.float32(0.25), np.float32(1))])  # red
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.25]] * 3)
    found = model._found(chances, boxes, ids, text)
    assert [one.category for one in found] == ["red circle", "red circle"]
    assert [one.score for one in found] == chances[1:, 2].tolist()
    chances[:, 3], chances[:, 2] = chances[:, 2].clone(), 0  # as sure, but of the full stop
    found = model._found(chances, boxes, ids, text)
    assert [one.category for one in found] == [None, "red circle"]
    assert [one.score for one in found] == chances[1:, 3].tolist()


def test_a_box_cut_by_the_border_keeps_the_part_inside(weights: Path) -> None:
    model = GroundingDino(params(weights).detector)
    (text,) = model.texts(["red circle"])
    ids = torch.tensor(model._processor.tokenizer(text.words)["input_ids"])
    (found,) = model._found(torch.ones(1, len(ids)), torch.tensor([[0.875, 0.25, 0.5, 0.75]]), ids, text)
    assert found.box == Box(0.625, 0.0, 1.0, 0.625)


def test_boxes_that_overlap_by_exactly_the_limit_are_both_kept() -> None:
    found = [Found("a", Box(0.0, 0.0, 1.0, 0.5), 0.5), Found("b", Box(0.0, 0.0, 1.0, 1.0), 0.75)]
    assert unrepeated(found, 0.5) == found[::-1]
    assert unrepeated(found, 0.5 - 1e-6) == found[1:]


def test_each_weight_that_has_a_say_is_in_the_digest(tmp_path: Path) -> None:
    detector = params(tmp_path / "dino").detector
    words = {"source": "vocabulary", "clip": tmp_path / "clip", "words": tmp_path / "words.txt", "template": ""}
    for change, others in (
        ({}, []),
        ({"tags": {**words, "most": 1, "min_probability": 0}}, ["clip", "words.txt"]),
        ({"tags": {**words, "words": None, "most": 1, "min_probability": 0}}, ["clip"]),
        ({"tags": {"source": "ram", "weights": tmp_path / "ram.pth", "image_size": 8}}, ["ram.pth"]),
        ({"tags": {"source": "caption"}}, []),
    ):
        how = tags.DetectorParams.model_validate({**detector.model_dump(), **change})
        assert how.weight_paths() == [tmp_path / name for name in ("dino", *others)]


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
    model._params = SimpleNamespace(text_threshold=0.4, box_threshold=0.5)
    (text,) = model.texts(tags)
    ids = torch.tensor(tokenizer(text.words)["input_ids"])
    chances = torch.tensor([[sure.get(token, 0.1) for token in tokenizer.convert_ids_to_tokens(ids)]])
    (found,) = model._found(chances, torch.tensor([[0.5, 0.5, 0.5, 0.5]]), ids, text)
    assert found.category == category


edges = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
boxes = st.tuples(edges, edges).map(lambda sides: Box(sides[0][0], sides[1][0], sides[0][1], sides[1][1]))


@given(st.lists(st.builds(Found, st.none(), boxes, st.floats(0, 1)), max_size=8))
def test_every_box_left_out_overlaps_a_surer_one_that_was_kept(found: list[Found]) -> None:
    kept = unrepeated(found, 0.5)
    for one in found:
        if one not in kept:
            assert any(geometry.iou(one.box, other.box) >= 0.5 - 1e-9 and other.score >= one.score for other in kept)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A red circle on the blue square.", ("red circle", "blue square")),
        ("Two dogs playing with a tennis ball, near a building", ("dogs", "tennis ball", "building")),
        ("a photo of a cat and a cat", ("cat",)),
        ("", ()),
        ("!!! 42", ()),
        ("Cling swing flying BUILDING_kite", ("cling swing", "building", "kite")),
    ],
)
def test_noun_phrases_are_what_stands_between_function_words(caption: str, phrases: tuple[str, ...]) -> None:
    assert noun_phrases(caption) == phrases


def pictures(root: Path) -> Sequence[Picture]:
    return list(pictures_in(root).values())


def test_clip_names_the_likeliest_words_whatever_the_batch(world: Path, tmp_path: Path) -> None:
    folder = tiny_models.clip(tmp_path / "clip")
    (tmp_path / "words.txt").write_text("# shapes\ncircle\nsquare\n\nstar\n")
    how = tags.VocabularyTags(
        source="vocabulary", clip=folder, words=tmp_path / "words.txt", template="a {word}", most=2, min_probability=0.0
    )
    tagger = tags.tagger(how)
    together = tagger.tags(pictures(world))
    assert together == [tagger.tags([picture])[0] for picture in pictures(world)]
    assert all(len(its) == 2 and set(its) <= {"circle", "square", "star"} for its in together)
    sure = tags.tagger(how.model_copy(update={"min_probability": 1.1}))
    assert sure.tags(pictures(world)[:1]) == [()]


def test_a_words_probability_is_that_of_transformers_logits(world: Path, tmp_path: Path) -> None:
    words, batch = ("circle", "square", "star", "kite"), pictures(world)
    folder = tiny_models.clip(tmp_path / "clip")
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        model.logit_scale.add_(1.5)  # far enough from even that every word has a probability of its own
    model.save_pretrained(folder)
    (tmp_path / "words.txt").write_text("\n".join(words))
    inputs = processor(
        text=[f"a {word}" for word in words],
        images=[one.pixels() for one in batch],
        return_tensors="pt",
        padding=True,
    )
    with torch.no_grad():
        chances = model(**inputs).logits_per_image.softmax(-1).tolist()
    how = tags.VocabularyTags(
        source="vocabulary", clip=folder, words=tmp_path / "words.txt", template="a {word}", most=9, min_probability=0.0
    )
    for chance, ranked in zip(chances, tags.tagger(how).tags(batch), strict=True):
        assert list(ranked) == [word for _, word in sorted(zip(chance, words, strict=True), reverse=True)]
    edges = sorted({chance for its in chances for chance in its})
    middles = [(one + next_one) / 2 for one, next_one in pairwise(edges) if next_one - one > 1e-5]
    assert len(middles) > 6
    for middle in middles[:: len(middles) // 6]:
        tagged = tags.tagger(how.model_copy(update={"min_probability": middle})).tags(batch)
        assert [len(its) for its in tagged] == [sum(chance > middle for chance in its) for its in chances]


def test_a_word_of_exactly_the_smallest_probability_is_a_tag(world: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("circle")  # the only word, so of probability 1
    how = tags.VocabularyTags(
        source="vocabulary",
        clip=tiny_models.clip(tmp_path / "clip"),
        words=tmp_path / "words.txt",
        template="{word}",
        most=1,
        min_probability=1.0,
    )
    assert tags.tagger(how).tags(pictures(world)[:1]) == [("circle",)]
    above = how.model_copy(update={"min_probability": 1.0 + 1e-6})
    assert tags.tagger(above).tags(pictures(world)[:1]) == [()]


def test_a_vocabulary_is_its_lines_without_comments_and_white_space(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(codecs.BOM_UTF8 + b"circle\n#star\n\n kite \ncircle\n")
    assert tags.words(tmp_path / "words.txt") == ("circle", "kite")
    (tmp_path / "words.txt").write_text("# none\n")
    with pytest.raises(ValueError, match=r"words\.txt: a vocabulary without words"):
        tags.words(tmp_path / "words.txt")


def test_the_built_in_vocabulary_has_no_word_twice() -> None:
    text = (Path(tags.__file__).parent / "vocabulary.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert list(tags.words(None)) == lines


def test_ram_is_asked_when_its_package_is_there_and_named_when_not(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = tags.RamTags(source="ram", weights=Path("ram.pth"), image_size=8)
    with pytest.raises(ValueError, match="need the package of recognize-anything"):
        tags.tagger(how)

    shapes: list[tuple[int, ...]] = []

    class StandIn(torch.nn.Module):
        def generate_tag(self, pixels: torch.Tensor) -> tuple[list[str], list[str]]:
            shapes.append(tuple(pixels.shape))
            return ["cat | dog"] * len(pixels), [""] * len(pixels)

    package, inner = ModuleType("ram"), ModuleType("ram.models")
    package.get_transform = lambda image_size: lambda image: torch.zeros(3, image_size, image_size)  # type: ignore[attr-defined]
    options: dict[str, object] = {}

    def ram(**given: object) -> StandIn:
        options.update(given)
        return StandIn()

    inner.ram = ram  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ram", package)
    monkeypatch.setitem(sys.modules, "ram.models", inner)
    assert tags.tagger(how).tags(pictures(world)[:2]) == [("cat", "dog"), ("cat", "dog")]
    assert (options["pretrained"], options["image_size"], shapes) == ("ram.pth", 8, [(2, 3, 8, 8)])


def test_an_unreadable_picture_is_a_reason_and_costs_no_other(weights: Path, tmp_path: Path) -> None:
    prepared(tmp_path)
    put(tmp_path, {"train-mixed-000001": b"no picture"})
    counts, found = grounded(tmp_path, tmp_path / "to", params(weights, 3))
    assert counts["failed_unreadable_picture"] == 1
    assert found["key"].nunique() == 4
    lost = tables.read(tmp_path / "to" / "ledger.parquet", LEDGER)
    assert lost["key"].tolist() == ["train-mixed-000001"]
