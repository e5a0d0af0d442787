"""The probe sees what the log must show: whether instances are in place and of the right colour."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from train_world import engine, made

from instdiff.config import compose
from instdiff.data import shards
from instdiff.data.from_shards import ShardSet, Store, last
from instdiff.model.unet import InstanceUNet
from instdiff.networks import base_unet as base
from instdiff.networks import vae
from instdiff.networks.detector import Detection
from instdiff.randomness import torch_generator
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler
from instdiff.schema import Box, Instance, Layout
from instdiff.training import train
from instdiff.training.probe import Models, Probe, ProbeParams, sheet
from instdiff.world.appearance import COLOURS

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "weights" / "miniature"
PARAMS = ProbeParams(
    every=2,
    layouts=4,
    steps=2,
    guidance=2.0,
    finder=None,
    min_score=0.25,
    patience=2,
)
MODELS = Models(SHIPPED / "clip/text", SHIPPED / "vae", SHIPPED / "detector", SHIPPED / "clip/judge")


TRAINED = {"masked_attention": True, "compat": None}


def pictures(folder: Path, count: int) -> list[np.ndarray]:
    """Those of the last samples, as squares like those that the model draws."""
    decoded = [Image.open(io.BytesIO(sample.picture)).convert("RGB") for sample in list(shards.read(folder))[-count:]]
    return [np.asarray(picture.resize((64, 64))) for picture in decoded]


def test_a_probe_draws_as_the_pipeline_does_and_tells_right_pictures_from_wrong_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path)
    where = [ShardSet(Store(tmp_path / "shards"), Store(tmp_path / "embeddings"))]
    probe = Probe(PARAMS, MODELS, last(where, 4), engine(tmp_path), tmp_path / "probe", **TRAINED)
    values = yaml.safe_load(compose.composed(["layout.max_instances=12"], ROOT / "configs"))["train"]
    sizes = train.Params.model_validate(values).unifusion
    torch.manual_seed(0)
    unet = InstanceUNet.from_base(base.load(SHIPPED / "unet"), sizes, scale_u=True)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "alpha_" in name:
                weight.fill_(0.7)
    pipeline = InstanceDiffusionPipeline(
        vae.load(MODELS.vae), probe.text.model, probe.text.tokenizer, unet, scheduler("dpm")
    )
    shape = (4, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    expected = pipeline(
        probe.layouts,
        negative_prompt="",
        num_inference_steps=2,
        guidance_scale=2.0,
        alpha=1.0,
        mis=0.0,
        masked_attention=True,
        latents=torch.randn(shape, generator=torch_generator(0, "probe")),
        max_rows=8,
        output_type="latent",
    ).images
    latents = probe.draw(unet)
    assert torch.allclose(latents, expected, atol=1e-3)
    assert torch.equal(latents, probe.draw(unet))
    assert not latents.requires_grad
    assert len(probe.decode(latents)) == 4
    right = pictures(tmp_path / "shards", 4)
    rows = []
    for shown in (right, [*right[1:], right[0]]):
        monkeypatch.setattr(probe, "decode", lambda _, shown=shown: shown)
        rows.append(probe(2, unet))
    assert rows[0]["in_place"] > 0.7
    assert rows[0]["right_colour"] > 0.7
    assert rows[1]["in_place"] < rows[0]["in_place"] - 0.3
    assert rows[1]["right_colour"] < rows[0]["right_colour"] - 0.3
    assert probe(3, unet) == {}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "probe/00000002.png")), sheet([*right[1:], right[0]]))
    shares = [0.1, 0.3, 0.2, 0.3, 0.29]
    assert [probe.enough([{"in_place": share} for share in shares[:count]]) for count in (2, 3, 4, 5)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("score", "width", "placed"), [
    (0.25, 1.0, True), (0.249, 1.0, False), (1.0, 0.5, True), (1.0, 0.499, False), (1.0, 0.501, True),
])  # fmt: skip
def test_an_instance_is_in_place_from_exactly_the_least_score_and_overlap_on(
    score: float, width: float, placed: bool
) -> None:
    """A detection that covers a share of the box overlaps it by that share."""
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="a", category="disc", box=Box(0, 0, 1, 0.5)),))
    probe = Probe.__new__(Probe)
    probe.params, probe.layouts = PARAMS, [layout]
    for category in ("disc", "ring"):
        detection = Detection(category, score, Box(0, 0, width, 0.5), np.ones((1, 1), dtype=bool))
        probe.finder = SimpleNamespace(classes=("disc", "ring"), find=lambda *_, detection=detection: [[detection]])
        assert list(probe._placed([np.zeros((1, 1, 3), dtype=np.uint8)])) == [placed and category == "disc"]


def test_an_open_finder_is_asked_for_the_categories_of_each_layout_a_closed_one_for_all_it_knows() -> None:
    places = [[("red ring", "ring"), ("a disc", "disc"), ("another ring", "ring"), ("a sky", None)], [("bar", "bar")]]
    layouts = [
        Layout(
            key=str(number),
            prompt="",
            instances=tuple(
                Instance(phrase=phrase, category=category, box=Box(0, 0, 1, 1)) for phrase, category in own
            ),
        )
        for number, own in enumerate(places)
    ]
    probe = Probe.__new__(Probe)
    probe.params, probe.layouts = PARAMS, layouts
    requests: list[list[list[str]]] = []

    def find(pictures: list[np.ndarray], phrases: list[list[str]]) -> list[list[Detection]]:
        requests.append([list(each) for each in phrases])
        return [[] for _ in pictures]

    pictures = [np.zeros((1, 1, 3), dtype=np.uint8)] * 2
    for classes in (None, ("disc", "ring", "bar")):
        probe.finder = SimpleNamespace(classes=classes, find=find)
        assert list(probe._placed(pictures)) == [False] * 5
    assert requests == [[["disc", "ring"], ["bar"]], [["disc", "ring", "bar"]] * 2]


class Spots:
    """A judge that sees in a crop the colour whose number its first pixel has, and reads of a text its colours."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def image_features(self, pictures: list[np.ndarray]) -> torch.Tensor:
        return torch.eye(len(COLOURS))[[int(picture[0, 0, 0]) for picture in pictures]]

    def text_features(self, texts: list[str]) -> torch.Tensor:
        self.texts.append(list(texts))
        return torch.tensor([[float(colour in text.split()) for colour in COLOURS] for text in texts])


def test_an_instance_is_judged_by_its_colour_where_its_phrase_names_a_single_one_and_it_has_a_place(
    tmp_path: Path,
) -> None:
    red, blue = (list(COLOURS).index(colour) for colour in ("red", "blue"))
    picture = np.full((4, 8, 3), red, dtype=np.uint8)
    picture[:, 4:] = blue
    left, right = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
    told = [("a red ring", left), ("a blue ring", left), ("a red and blue ring", left), ("a ring", left)]
    parts = [Instance(phrase=phrase, box=box) for phrase, box in [*told, ("a red ring", None), ("a blue ring", right)]]
    probe: Any = Probe.__new__(Probe)
    probe.params, probe.pictures, probe.decode = PARAMS, tmp_path, lambda _: [picture]
    probe.engine, probe.judge = SimpleNamespace(show_picture=lambda *_: None), Spots()
    probe.finder = SimpleNamespace(classes=("ring",), find=lambda *_: [[]])
    probe.layouts = [Layout(key="k", prompt="", instances=tuple(parts))]
    assert list(probe._coloured([picture])) == [True, False, True]
    assert probe.judge.texts[0] == [f"a {colour} ring" for colour in COLOURS]
    assert probe._judged(2, torch.zeros(1)) == {"in_place": 0.0, "right_colour": pytest.approx(2 / 3)}
    probe.layouts = [Layout(key="k", prompt="", instances=(Instance(phrase="a red ring"),))]
    assert probe._judged(4, torch.zeros(1)) == {}  # nothing was measured
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002.png", "00000004.png"]


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 1, 4), (5, 2, 4), (8, 2, 4), (9, 3, 4)]
)
def test_a_sheet_holds_its_pictures_row_by_row_four_to_a_row(count: int, rows: int, columns: int) -> None:
    pictures = [np.full((2, 3, 3), number + 1, dtype=np.uint8) for number in range(count)]
    whole = sheet(pictures)
    assert whole.shape == (rows * 2, columns * 3, 3)
    for number in range(rows * columns):
        row, column = divmod(number, 4)
        place = whole[row * 2 : row * 2 + 2, column * 3 : column * 3 + 3]
        assert (place == (number + 1 if number < count else 0)).all()
