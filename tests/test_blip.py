from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
from data_world import CAPTION, prepared, sources
from data_world import tables as tables_of

from data_prep import caption
from data_prep.annotators.crops import Crops, ModelParams, Pixels, Subject
from data_prep.columns import CAPTIONS, GIVEN, GIVEN_CAPTIONED, INSTANCES
from instdiff import tables
from instdiff.layouts import geometry
from instdiff.schema import Box
from instdiff.work.outcomes import Failure
from instdiff.work.pictures import Picture

MODEL = ModelParams(
    weights=Path("w"),
    python=None,
    prompt="a photo of",
    num_beams=2,
    max_tokens=6,
    precision="float32",
    min_area=100,
    name_category=True,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    return root


def captioned(
    root: Path, to: Path, weights: Path, batch_size: int, **change: Any
) -> tuple[Mapping[str, float], pd.DataFrame]:
    model = MODEL.model_copy(update={"weights": weights, **change})
    params = CAPTION.model_copy(update={"backend": "transformers", "batch_size": batch_size, "model": model})
    given = {**sources(root), **tables_of(root, "train", "instances")}
    counts = caption.run(**given, captions=to / "captions.parquet", ledger=to / "ledger.parquet", params=params)
    return counts, tables.read(to / "captions.parquet", CAPTIONS)


@pytest.mark.parametrize("model", [tiny_models.blip, tiny_models.blip2])
def test_crops_in_a_batch_are_described_as_one_by_one(world: Path, tmp_path: Path, model: Any) -> None:
    weights = model(tmp_path / "model")
    _, alone = captioned(world, tmp_path / "1", weights, 1, min_area=0)
    counts, batched = captioned(world, tmp_path / "5", weights, 5, min_area=0)
    assert alone["caption"].tolist() == batched["caption"].tolist()
    assert counts["failed"] == sum(one is None for one in batched["caption"])
    assert batched["caption"].notna().any()
    name = {"blip": "blip", "blip2": "blip-2"}[model.__name__]
    assert batched["backend"].dropna().str.fullmatch(rf"transformers:{name}@[0-9a-f]{{16}}").all()


def test_other_weights_are_another_revision(world: Path, tmp_path: Path) -> None:
    weights = tiny_models.blip(tmp_path / "model")
    _, before = captioned(world, tmp_path, weights, 4, min_area=0)
    path = weights / "model.safetensors"
    written = path.read_bytes()
    path.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    _, after = captioned(world, tmp_path, weights, 4, min_area=0)
    assert not set(before["backend"].dropna()) & set(after["backend"].dropna())


class Parrot:
    """Says how large a crop is."""

    name = "parrot@1"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
        self.batches.append(len(crops))
        return [f"{one.shape[1]}x{one.shape[0]} cat" for one in crops]


def subject(box: Box, category: str | None, key: str = "train-mixed-000000", root: Path = Path()) -> Subject:
    return Subject(Picture(key, root / "pictures" / "train" / f"{key}.png", 64, 64, ""), 0, category, box)


def test_small_instances_are_called_by_their_category_and_a_missing_category_is_said_first(world: Path) -> None:
    large, small = Box(0, 0, 0.5, 0.25), Box(0.1, 0.1, 0.25, 0.25)
    asked = [(large, "Cat"), (small, "cat"), (large, "dog"), (small, None), (large, None)]
    parrot = Parrot()
    said = Crops(parrot, MODEL).caption([subject(box, category, root=world) for box, category in asked])
    assert said[:3] == [("32x16 cat", "parrot@1"), ("cat", "category"), ("dog. 32x16 cat", "parrot@1")]
    assert isinstance(said[3], Failure)
    assert said[3].reason == "no_category"
    assert said[4] == ("32x16 cat", "parrot@1")
    assert parrot.batches == [3]
    plain = Crops(parrot, MODEL.model_copy(update={"name_category": False}))
    assert plain.caption([subject(large, "dog", root=world)]) == [("32x16 cat", "parrot@1")]


def test_the_crops_of_several_pictures_are_one_batch_and_each_its_own_pixels(world: Path) -> None:
    rows = tables.read(world / "instances" / "train.parquet", INSTANCES).to_dict("records")
    for row in rows:
        one = subject(Box(*row["box"]), None, row["key"], world)
        pixels = one.picture.pixels()
        x0, y0, x1, y1 = (round(edge) for edge in geometry.in_pixels(one.box, 64, 64))
        assert np.array_equal(geometry.crop(pixels, one.box), pixels[y0:y1, x0:x1])


def test_what_says_nothing_is_a_reason(world: Path) -> None:
    class Silent(Parrot):
        def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
            return [""] * len(crops)

    (said,) = Crops(Silent(), MODEL).caption([subject(Box(0, 0, 1, 1), "cat", root=world)])
    assert isinstance(said, Failure)
    assert said.reason == "no_words"


def test_given_captions_are_the_sources(tmp_path: Path) -> None:
    prepared(tmp_path)
    path = tmp_path / "given" / "train.parquet"
    given = tables.read(path, GIVEN)
    tables.write(path, given.assign(caption=["a cat", *[None] * (len(given) - 1)]), GIVEN_CAPTIONED)
    backend = caption.Given(path)
    first, second = (subject(Box(0, 0, 1, 1), None, key) for key in given["key"].unique()[:2])
    said = backend.caption([first, second])
    assert said[0] == ("a cat", "given")
    assert isinstance(said[1], Failure)
