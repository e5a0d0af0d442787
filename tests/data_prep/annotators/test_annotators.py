"""The small SAM and BLIP of the miniature world: how they are made, and what the stages that ask them get."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from data_world import CAPTION, INGEST, SEGMENT, contents, ledger, mask_iou, prepared, sizes, sources, tables
from torch import Tensor
from transformers import BlipForConditionalGeneration

from data_prep import caption, segment
from data_prep.columns import CAPTIONS, GIVEN, MASKS
from instdiff.config import compose
from instdiff.files import tables as parquet
from instdiff.foundation import blip, sam
from instdiff.layouts import masks
from instdiff.schema import Rle
from instdiff.world import corpus
from instdiff.world.arrangements import GROUPS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes that no annotator was trained on, at the size that all were trained at."""
    root = tmp_path_factory.mktemp("world")
    groups = dict.fromkeys(GROUPS, 10)
    prepared(
        root, "val", ingest=INGEST.model_copy(update={"seed": 5, "num_train": 1, "val_groups": groups}), framed=False
    )
    return root


def values(stage: str) -> Any:
    """What experiment=annotators gives a stage, its weights found from anywhere."""
    page = yaml.safe_load(compose.composed(["experiment=annotators"], ROOT / "configs"))[stage]
    for section in (page, page.get("model") or {}):
        if section.get("weights"):
            section["weights"] = ROOT / section["weights"]
    return page


def test_the_small_sam_fills_boxes_with_what_can_be_seen_of_the_instances(world: Path, tmp_path: Path) -> None:
    params = segment.Params.model_validate(values("segment") | {"work": SEGMENT.work})
    to = {**sources(world, "val"), **tables(world, "val", "instances")}
    segment.run(**to, masks=tmp_path / "masks.parquet", ledger=ledger(tmp_path, "segment"), params=params)
    mask_rows, source_rows = (
        parquet.read(tmp_path / "masks.parquet", MASKS),
        parquet.read(sources(world, "val")["given"], GIVEN),
    )
    size = sizes(world, "val")
    pairs = [[masks.decode(Rle(size=size[key], counts=counts)) for counts in both]
             for key, *both in zip(mask_rows["key"], mask_rows["mask"], source_rows["mask"], strict=True)]  # fmt: skip
    reached = [mask_iou(*pair) for pair in pairs]
    assert len(reached) > 100
    assert np.mean(reached) >= 0.85
    assert np.abs(mask_rows["score"] - reached).mean() < 0.1


def test_the_small_blip_names_the_colour_and_shape_of_crops(world: Path, tmp_path: Path) -> None:
    params = caption.Params.model_validate(values("caption") | {"work": CAPTION.work})
    to = {**sources(world, "val"), **tables(world, "val", "instances")}
    caption.run(**to, captions=tmp_path / "captions.parquet", ledger=ledger(tmp_path, "caption"), params=params)
    captions = parquet.read(tmp_path / "captions.parquet", CAPTIONS)["caption"]
    source_rows = parquet.read(sources(world, "val")["given"], GIVEN)
    right = [
        {row["colour"], row["category"]} <= set(text.split())
        for text, row in zip(captions, source_rows.to_dict("records"), strict=True)
    ]
    assert len(right) > 100
    assert np.mean(right) >= 0.9


def small(stage: str) -> Any:
    """The recipe of an annotator, cut to three steps."""
    page = values(stage)
    page["optimisation"] |= {"steps": 3, "save_every": 1, "log_every": 1}
    return page | {"num_scenes": 8, "workers": 1, "batch_size": 2}


def killed_at(step: int, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same until it is called for the `step`-th time."""
    calls = iter(range(step))

    def dies(*args: Any, **named: Any) -> Tensor:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return forward(*args, **named)

    return dies


@pytest.mark.parametrize(
    ("stage", "name", "home", "asks"),
    [(sam, "sam", sam, "objective"), (blip, "blip", BlipForConditionalGeneration, "forward")],
    ids=["sam", "blip"],
)
def test_a_kill_in_the_making_of_an_annotator_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: ModuleType, name: str, home: Any, asks: str
) -> None:
    rendered = corpus.rendered
    monkeypatch.setattr(corpus, "rendered", lambda seed, count, *how: rendered(seed, min(count, 8), *how))
    params = stage.Params.model_validate(small(name))
    for folder, kill in (("whole", None), ("cut", 2)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        if kill is not None:
            with monkeypatch.context() as during:
                during.setattr(home, asks, killed_at(kill, getattr(home, asks)))
                with pytest.raises(KeyboardInterrupt):
                    stage.run(**{name: Path(name)}, params=params)
            assert not Path(name).exists()
        assert stage.run(**{name: Path(name)}, params=params)
    assert contents(tmp_path / "whole" / name) == contents(tmp_path / "cut" / name)
