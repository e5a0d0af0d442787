import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from data_world import GROUND, prepared, sources
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer

from data_prep import ground
from data_prep.annotators import tags
from data_prep.annotators.grounded import Found
from data_prep.annotators.grounding_dino import GroundingDino, unrepeated
from data_prep.annotators.tags import noun_phrases
from data_prep.columns import INSTANCES
from instdiff import tables
from instdiff.layouts import geometry
from instdiff.schema import Box
from instdiff.tables import IMAGES, LEDGER
from instdiff.work.pictures import Picture, pictures_of

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
    counts, _ = grounded(world, tmp_path, params(weights, box_threshold=1.1))
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
    ],
)
def test_noun_phrases_are_what_stands_between_function_words(caption: str, phrases: tuple[str, ...]) -> None:
    assert noun_phrases(caption) == phrases


def pictures(root: Path) -> Sequence[Picture]:
    return pictures_of(root / "pictures" / "train", tables.read(root / "images" / "train.parquet", IMAGES))


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

    class StandIn(torch.nn.Module):
        def generate_tag(self, pixels: torch.Tensor) -> tuple[list[str], list[str]]:
            return ["cat | dog"] * len(pixels), [""] * len(pixels)

    package, inner = ModuleType("ram"), ModuleType("ram.models")
    package.get_transform = lambda image_size: lambda image: torch.zeros(3, image_size, image_size)  # type: ignore[attr-defined]
    inner.ram = lambda **options: StandIn()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ram", package)
    monkeypatch.setitem(sys.modules, "ram.models", inner)
    assert tags.tagger(how).tags(pictures(world)[:2]) == [("cat", "dog"), ("cat", "dog")]


def test_an_unreadable_picture_is_a_reason_and_costs_no_other(weights: Path, tmp_path: Path) -> None:
    prepared(tmp_path)
    (tmp_path / "pictures" / "train" / "train-mixed-000001.png").write_bytes(b"no picture")
    counts, found = grounded(tmp_path, tmp_path / "to", params(weights, 3))
    assert counts["failed_unreadable_picture"] == 1
    assert found["key"].nunique() == 4
    lost = tables.read(tmp_path / "to" / "ledger.parquet", LEDGER)
    assert lost["key"].tolist() == ["train-mixed-000001"]
