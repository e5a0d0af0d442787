import codecs
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from data_world import GROUND, prepared, put, sources
from data_world import pictures as pictures_in
from transformers import CLIPModel, CLIPProcessor

from data_prep import ground
from data_prep.annotators import tags
from data_prep.annotators.tags import noun_phrases
from data_prep.columns import INSTANCES
from instdiff.files import tables
from instdiff.layouts import geometry
from instdiff.schema import Box
from instdiff.work.ledger import LEDGER
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
    detector = {
        "weights": weights,
        "tags": CATEGORIES,
        "box_threshold": 0.5,
        "text_threshold": 0.4,
        "nms_iou": 0.5,
        "device": "cpu",
    }
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
    _, detections = grounded(world, tmp_path, params(weights))
    assert (detections["score"] > 0.5).all()
    words = set(" ".join(CATEGORIES["categories"]).split())
    assert {word for name in detections["category"].dropna() for word in name.split()} <= words
    for _, rows in detections.groupby("key"):
        boxes = [Box(*box) for box in rows["box"]]
        assert rows["score"].is_monotonic_decreasing
        assert all(geometry.iou(box, other) <= 0.5 + 1e-9 for i, box in enumerate(boxes) for other in boxes[:i])


def test_nothing_found_and_nothing_to_look_for_are_reasons(world: Path, weights: Path, tmp_path: Path) -> None:
    counts, _ = grounded(world, tmp_path, params(weights, box_threshold=1.0))
    assert counts["failed_nothing_found"] == counts["pictures"] == 5
    counts, _ = grounded(world, tmp_path, params(weights, tags={"source": "categories", "categories": [" . "]}))
    assert counts["failed_no_tags"] == 5


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
    assert all(
        len(picture_tags) == 2 and set(picture_tags) <= {"circle", "square", "star"} for picture_tags in together
    )
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
        images=[picture.pixels() for picture in batch],
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
    edges = sorted({chance for row in chances for chance in row})
    middles = [(edge + next_edge) / 2 for edge, next_edge in pairwise(edges) if next_edge - edge > 1e-5]
    assert len(middles) > 6
    for middle in middles[:: len(middles) // 6]:
        tagged = tags.tagger(how.model_copy(update={"min_probability": middle})).tags(batch)
        assert [len(picture_tags) for picture_tags in tagged] == [
            sum(chance > middle for chance in row) for row in chances
        ]


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

    def ram(**arguments: object) -> StandIn:
        options.update(arguments)
        return StandIn()

    inner.ram = ram  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ram", package)
    monkeypatch.setitem(sys.modules, "ram.models", inner)
    assert tags.tagger(how).tags(pictures(world)[:2]) == [("cat", "dog"), ("cat", "dog")]
    assert (options["pretrained"], options["image_size"], shapes) == ("ram.pth", 8, [(2, 3, 8, 8)])


def test_an_unreadable_picture_is_a_reason_and_costs_no_other(weights: Path, tmp_path: Path) -> None:
    prepared(tmp_path)
    put(tmp_path, {"train-mixed-000001": b"no picture"})
    counts, detections = grounded(tmp_path, tmp_path / "to", params(weights, 3))
    assert counts["failed_unreadable_picture"] == 1
    assert detections["key"].nunique() == 4
    lost = tables.read(tmp_path / "to" / "ledger.parquet", LEDGER)
    assert lost["key"].tolist() == ["train-mixed-000001"]
