"""The table of location formats: one entry a format, and everything that reads formats goes through it."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import tiny_pipeline
import torch
import yaml

from instdiff.config import compose
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, COLUMNS
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import BY_NAME, FORMATS, LOCATION_FORMATS, RELEASED, Format, Slots
from instdiff.model import attention_mask
from instdiff.model.conditions import Conditions, collate, mirrored
from instdiff.model.unifusion import UniFusion, UniFusionConfig
from instdiff.schema import Box, Instance, Layout, Point

ROOT = Path(__file__).parents[3]
LAYOUT = Layout(key="k", prompt="", instances=(Instance(phrase="a", box=Box(0.25, 0.25, 0.75, 1.0)),))
WORDS = {"a": torch.ones(tiny_pipeline.SIZES.text_width)}


def test_a_format_has_its_field_its_column_and_its_tensors() -> None:
    assert get_args(Format) == FORMATS
    assert FORMATS[:5] == ("box", "point", "scribble", "outline", "mask")  # the released ones, in their order
    tensors = {field.name for field in fields(Conditions)}
    for entry in LOCATION_FORMATS:
        assert entry.name in Instance.model_fields
        assert ANNOTATED.field(entry.name).type == COLUMNS[entry.kind]
        assert {entry.tensor, f"{entry.name}_given_BN"} <= tensors
        assert entry.count is None or entry.count in Slots.model_fields


@pytest.mark.parametrize("entry", [entry for entry in LOCATION_FORMATS if entry.count], ids=lambda entry: entry.name)
def test_a_model_without_points_of_a_format_has_no_such_format(entry: object) -> None:
    name, count = entry.name, entry.count  # type: ignore[attr-defined]
    sizes = tiny_pipeline.SIZES.model_copy(update={count: 0})
    unifusion = UniFusion(sizes)
    assert name not in sizes.located
    assert name not in unifusion.mlps
    assert name not in unifusion.null
    conditions = mirrored(collate([complete(LAYOUT, sizes)], WORDS, sizes))
    assert not conditions.given(name).any()
    assert unifusion(conditions).shape[1] == sizes.num_tokens
    allowed = attention_mask.build(conditions, [(4, 4)], sizes.num_mask_tokens)[16]
    assert allowed.shape[2] == 16 + sizes.num_tokens


def test_a_layout_completed_for_a_model_has_arrays_of_its_sizes() -> None:
    mask = torch.zeros(10, 20, dtype=torch.bool).numpy()
    mask[2:6, 5:15] = True
    written = Instance(phrase="a", mask=masks.encode(mask), scribble=(Point(0.3, 0.3), Point(0.5, 0.5)))
    (instance,) = complete(Layout(key="k", prompt="", instances=(written,)), tiny_pipeline.SIZES).instances
    assert {name: numbers.shape for name, numbers in instance.numbers.items()} == {
        name: BY_NAME[name].shape(tiny_pipeline.SIZES) for name in (*tiny_pipeline.SIZES.located, "mask")
    }
    assert instance.numbers["box"].tolist() == pytest.approx([0.25, 0.2, 0.75, 0.6])
    assert instance.numbers["point"].tolist() == pytest.approx([0.5, 0.4])
    assert instance.numbers["scribble"].tolist() == pytest.approx([0.3, 0.3] * 2 + [0.5, 0.5] * 2)


def test_the_released_sizes_are_those_of_the_experiment_that_names_them() -> None:
    values = yaml.safe_load(compose.composed(["experiment=sd15"], ROOT / "configs"))
    sizes = UniFusionConfig.model_validate(values["train"]["unifusion"])
    assert {name: getattr(sizes, name) for name in Slots.model_fields} == RELEASED.model_dump()
