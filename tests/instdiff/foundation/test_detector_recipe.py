"""How the detector is trained: what ultralytics is asked for, the files of scenes it reads, and what is kept."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from instdiff.files import recipes
from instdiff.foundation import detector
from instdiff.networks.detector import CLASSES, WEIGHTS
from instdiff.networks.device import PLAIN
from instdiff.world import corpus
from instdiff.world.appearance import SHAPES

PARAMS = detector.Params(
    source="train",
    seed=4,
    num_scenes=3,
    groups=("small", "crowded"),
    workers=1,
    architecture="some.yaml",
    image_size=96,
    epochs=5,
    batch_size=2,
    learning_rate=0.25,
    min_score=0.125,
    nms_iou=0.75,
    device=PLAIN,
)
FIXED = {  # as when the shipped detector was trained; a change that is meant wants a new one
    "workers": 0,
    "cache": "ram",
    "pretrained": False,
    "plots": False,
    "val": False,
    "deterministic": True,
    "optimizer": "AdamW",
    "cos_lr": True,
    "warmup_epochs": 0.5,
    "overlap_mask": True,
    "mask_ratio": 2,
    "mosaic": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.2,
    "hsv_v": 0.2,
    "scale": 0.3,
    "translate": 0.1,
    "erasing": 0.0,
    "name": "run",
    "verbose": False,
}


class Read(NamedTuple):
    """What a trainer finds in its folder."""

    page: dict[str, Any]
    pictures: list[NDArray[np.uint8]]
    labels: list[list[str]]


class Trainer:
    """Stands in for ultralytics' own, and reads all it is given before the folder goes."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.read = Read({}, [], [])

    def train(self, *, data: str, project: str, **options: Any) -> None:
        self.options = options
        page = json.loads(Path(data).read_text())
        pictures, labels = (sorted((Path(page["path"]) / kind).iterdir()) for kind in (page["train"], "labels"))
        assert [path.stem for path in pictures] == [path.stem for path in labels]
        self.read = Read(
            page, [np.asarray(Image.open(path)) for path in pictures], [path.read_text().split("\n") for path in labels]
        )
        last = Path(project) / options["name"] / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        whole = {"model": torch.nn.Linear(1, 1), "version": "8.4", "license": "some", "date": "today", "git": {}}
        torch.save(whole, last)


def trained(folder: Path, params: detector.Params = PARAMS) -> tuple[Trainer, list[object]]:
    """What was asked of the trainer, and the names and scenes that were asked for."""
    trainer, calls = Trainer(), list[object]()
    rendered = corpus.rendered

    def rendering(*how: Any) -> corpus.Corpus:
        calls.append(how)
        return rendered(*how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "private_settings", nullcontext)
        patch.setattr(detector, "yolo", lambda name: (calls.append(name), trainer)[1])
        patch.setattr(corpus, "rendered", rendering)
        counts = detector.run(shipped=folder / "none", detector=folder / "detector", params=params)
    assert counts == {"pictures_seen": params.num_scenes * params.epochs}
    return trainer, calls


@pytest.mark.parametrize(("precision", "amp"), [("float32", False), ("bfloat16", True)])
def test_a_detector_is_trained_by_what_its_recipe_says(tmp_path: Path, precision: str, amp: bool) -> None:
    where = PLAIN.model_copy(update={"precision": precision})
    trainer, calls = trained(tmp_path, PARAMS.model_copy(update={"device": where}))
    own = {"epochs": 5, "imgsz": 96, "batch": 2, "device": "cpu", "amp": amp, "seed": 4, "lr0": 0.25}
    assert trainer.options == own | FIXED
    assert calls == [(4, 3, ("small", "crowded"), 1), "some.yaml"]


def enclosed(line: str, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose middle a closed line of fractions x y x y ... encloses, by the rule of even and odd.

    A piece that is walked there and back is crossed twice.
    """
    corners = np.array(line.split(), dtype=float).reshape(-1, 2) * (width, height)
    inside = np.zeros((height, width), dtype=bool)
    middles_y, middles_x = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted([tuple(start), tuple(end)], key=lambda corner: (corner[1], corner[0]))
        if y0 < y1:
            at = x0 + (middles_y - y0) * (x1 - x0) / (y1 - y0)
            inside ^= ((y0 <= middles_y) & (middles_y < y1)) & (middles_x < at)
    return inside


some_masks = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))).filter(lambda mask: bool(mask.any()))


@given(some_masks)
def test_the_line_around_a_mask_encloses_its_pixels_its_pieces_too_and_not_its_holes(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(enclosed(detector._polygon(mask), *mask.shape), mask)


def test_ultralytics_reads_each_scene_at_the_networks_size_with_the_class_and_the_mask_of_each_instance(
    tmp_path: Path,
) -> None:
    read, classes = trained(tmp_path)[0].read, list(SHAPES)
    assert read.page["names"] == {str(number): name for number, name in enumerate(classes)}
    scenes = corpus.rendered(4, 3, PARAMS.groups, 1).scenes
    for scene, picture, lines in zip(scenes, read.pictures, read.labels, strict=True):
        larger = Image.fromarray(scene.picture).resize((96, 96), Image.Resampling.BICUBIC)
        assert np.array_equal(picture, np.asarray(larger))
        assert lines[-1] == ""
        for part, line in zip(scene.instances, lines[:-1], strict=True):
            number, _, around = line.partition(" ")
            assert classes[int(number)] == part.category
            assert np.array_equal(enclosed(around, *part.mask.shape), part.mask)


def test_what_is_kept_of_a_detector_is_its_network_its_classes_and_its_recipe(tmp_path: Path) -> None:
    trained(tmp_path)
    content = torch.load(tmp_path / "detector" / WEIGHTS, weights_only=False)
    assert isinstance(content.pop("model"), torch.nn.Linear)
    assert content == {"ema": None, "train_args": {"task": "segment"}, "version": "8.4", "license": "some"}
    settings = json.loads((tmp_path / "detector" / CLASSES).read_text())
    assert settings == {"classes": list(SHAPES), "image_size": 96, "min_score": 0.125, "nms_iou": 0.75}
    recipe = recipes.read(tmp_path / "detector")
    assert recipe == {"params": PARAMS.model_dump(mode="json"), "metrics": {"pictures_seen": 15.0}}
