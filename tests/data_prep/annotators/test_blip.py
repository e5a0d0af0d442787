from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from data_world import CAPTION, pictures, prepared, read, sizes, sources, write
from data_world import tables as tables_of

from data_prep import caption
from data_prep.annotators.blip import Blip
from data_prep.annotators.crops import Crops, ModelParams, Pixels, area
from data_prep.annotators.instances import Instance, with_instances
from data_prep.columns import CAPTIONS, GIVEN, GIVEN_CAPTIONED, INSTANCES
from instdiff.files import tables
from instdiff.layouts import geometry
from instdiff.schema import Box
from instdiff.work.outcomes import Failure
from instdiff.work.packs import Pack
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
    device="cpu",
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
    inputs = {**sources(root), **tables_of(root, "train", "instances")}
    counts = caption.run(**inputs, captions=to / "captions.parquet", ledger=to / "ledger.parquet", params=params)
    return counts, tables.read(to / "captions.parquet", CAPTIONS)


@pytest.mark.parametrize("model", [tiny_models.blip, tiny_models.blip2])
def test_crops_in_a_batch_are_described_as_one_by_one(world: Path, tmp_path: Path, model: Any) -> None:
    weights = model(tmp_path / "model")
    _, alone = captioned(world, tmp_path / "1", weights, 1, min_area=0)
    counts, batched = captioned(world, tmp_path / "5", weights, 5, min_area=0)
    assert alone["caption"].tolist() == batched["caption"].tolist()
    assert counts["failed"] == sum(text is None for text in batched["caption"])
    assert batched["caption"].notna().any()
    name = {"blip": "blip", "blip2": "blip-2"}[model.__name__]
    assert batched["backend"].dropna().str.fullmatch(rf"transformers:{name}@[0-9a-f]{{16}}").all()


@pytest.mark.parametrize("height", [1, 3, 4])
def test_a_crop_a_few_pixels_high_is_seen_as_the_picture_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    """Rows are not taken for colours."""
    blip = Blip(MODEL.model_copy(update={"weights": tiny_models.blip(tmp_path / "model")}))
    seen: list[torch.Tensor] = []

    def generate(**inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs["pixel_values"])
        return inputs["input_ids"]

    monkeypatch.setattr(blip._model, "generate", generate)
    for bright in (0, 255):
        crop = np.full((height, 4, 3), (bright, 0, 0), np.uint8)
        blip.describe([crop])
    dark, red = (pixels_13SS[0].mean((1, 2)) for pixels_13SS in seen)
    assert (red - dark > 0.1).tolist() == [True, False, False]


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
        return [f"{crop.shape[1]}x{crop.shape[0]} cat" for crop in crops]


def subject(box: Box, category: str | None, key: str = "train-mixed-000000", *, root: Path) -> Instance:
    return Instance(pictures(root)[key], 0, category, box)


def test_small_instances_are_called_by_their_category_and_a_missing_category_is_said_first(world: Path) -> None:
    large, small = Box(0, 0, 0.5, 0.25), Box(0.1, 0.1, 0.2, 0.25)
    cases = [(large, "Cat"), (small, "cat"), (large, "dog"), (small, None), (large, None)]
    parrot = Parrot()
    captions = Crops(parrot, MODEL).caption([subject(box, category, root=world) for box, category in cases])
    assert captions[:3] == [("48x16 cat", "parrot@1"), ("cat", "category"), ("dog. 48x16 cat", "parrot@1")]
    assert isinstance(captions[3], Failure)
    assert captions[3].reason == "no_category"
    assert captions[4] == ("48x16 cat", "parrot@1")
    assert parrot.batches == [3]
    plain = Crops(parrot, MODEL.model_copy(update={"name_category": False}))
    assert plain.caption([subject(large, "dog", root=world)]) == [("48x16 cat", "parrot@1")]


@pytest.mark.parametrize(("across", "down"), [(10, 10), (10.5, 10.5), (10.99, 10.99), (20.5, 5.5), (4.9, 25.9)])
def test_a_box_is_as_large_as_its_sides_cut_to_whole_pixels(across: float, down: float) -> None:
    instance = Instance(
        Picture("k", Path("none.png"), 64, 96, ""),
        0,
        "cat",
        geometry.from_pixels(3.25, 7.5, 3.25 + across, 7.5 + down, height=64, width=96),
    )
    assert area(instance) == 100


def test_a_box_of_exactly_the_smallest_area_is_described(world: Path) -> None:
    height, width = sizes(world)["train-mixed-000000"]
    box = geometry.from_pixels(1, 2, 11.5, 12.5, height=height, width=width)
    for min_area, backend in ((99, "parrot@1"), (100, "parrot@1"), (101, "category")):
        crops = Crops(Parrot(), MODEL.model_copy(update={"min_area": min_area}))
        ((_, by),) = crops.caption([subject(box, "cat", root=world)])
        assert by == backend


def test_each_value_of_a_model_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = MODEL.model_copy(update={"weights": tiny_models.blip(tmp_path / "model"), "precision": "bfloat16"})
    arguments: dict[str, Any] = {}
    model = Blip(params)
    assert {weight.dtype for weight in model._model.parameters()} == {torch.bfloat16}
    generate = model._model.generate

    def watched(**options: Any) -> Any:
        arguments.update(options)
        return generate(**options)

    monkeypatch.setattr(model._model, "generate", watched)
    model.describe([np.zeros((8, 12, 3), np.uint8)] * 3)
    assert (arguments["num_beams"], arguments["max_new_tokens"], arguments["do_sample"]) == (2, 6, False)
    assert arguments["pixel_values"].dtype == torch.bfloat16
    words = model._processor.batch_decode(arguments["input_ids"], skip_special_tokens=True)
    assert words == ["a photo of"] * 3


def test_a_caption_goes_on_from_the_prompt_and_does_not_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Blip(MODEL.model_copy(update={"weights": tiny_models.blip(tmp_path / "model"), "prompt": "A photo of "}))
    decoded = ["a photo of  a red circle ", "the a photo of", ""]
    monkeypatch.setattr(model._processor, "batch_decode", lambda *_, **__: decoded)
    assert model.describe([np.zeros((8, 12, 3), np.uint8)] * 3) == ["a red circle", "the a photo of", ""]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_captions_are_asked_for_in_batches_of_instances(world: Path, tmp_path: Path, batch_size: int) -> None:
    parrot = Parrot()
    instances = tables.rows_of(tables.read(world / "instances" / "train", INSTANCES))
    todo = with_instances(list(pictures(world).values()), instances)
    params = CAPTION.model_copy(update={"batch_size": batch_size})
    crops = Crops(parrot, MODEL.model_copy(update={"min_area": 0}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caption, "captioner", lambda *_: crops)
        answers = list(caption.caption(todo, Pack("00000", {"given": tmp_path}, ""), params, ""))
    count = sum(map(len, instances.values()))
    assert parrot.batches == [batch_size] * (count // batch_size) + [count % batch_size] * bool(count % batch_size)
    for answer, item in zip(answers, todo, strict=True):
        height, width = item.picture.height, item.picture.width
        for row, instance in zip(answer.rows, item.instances, strict=True):
            down, across = geometry.sides(instance.box, height, width)
            assert (row["key"], row["index"]) == (item.key, instance.index)
            assert row["caption"].endswith(f"{across}x{down} cat")


def test_the_crops_of_several_pictures_are_one_batch_and_each_its_own_pixels(world: Path) -> None:
    rows = tables.read(world / "instances" / "train", INSTANCES).to_dict("records")
    for row in rows:
        instance = subject(Box(*row["box"]), None, row["key"], root=world)
        pixels = instance.picture.pixels()
        x0, y0, x1, y1 = (round(edge) for edge in geometry.in_pixels(instance.box, *sizes(world)[row["key"]]))
        assert np.array_equal(geometry.crop(pixels, instance.box), pixels[y0:y1, x0:x1])


def test_what_says_nothing_is_a_reason(world: Path) -> None:
    class Silent(Parrot):
        def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
            return [""] * len(crops)

    (answer,) = Crops(Silent(), MODEL).caption([subject(Box(0, 0, 1, 1), "cat", root=world)])
    assert isinstance(answer, Failure)
    assert answer.reason == "no_words"


def test_given_captions_are_the_sources(tmp_path: Path) -> None:
    prepared(tmp_path)
    source_rows = read(tmp_path, "given", GIVEN)
    path = write(
        tmp_path, "given", source_rows.assign(caption=["a cat", *[None] * (len(source_rows) - 1)]), GIVEN_CAPTIONED
    )
    backend = caption.FromSource(path)
    first, second = (subject(Box(0, 0, 1, 1), None, key, root=tmp_path) for key in source_rows["key"].unique()[:2])
    captions = backend.caption([first, second])
    assert captions[0] == ("a cat", "given")
    assert isinstance(captions[1], Failure)
