"""Layers carry how they are drawn through every form of their weights, and a value by hand goes before."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_pipeline import SIZES, base

from instdiff.checkpoints import assemble, reading
from instdiff.model.drawing import AS_RELEASED, Drawing, chosen, remark
from instdiff.model.unet import InstanceUNet

OWN = Drawing(
    solver="dpm", steps=12, guidance=3.0, negative_prompt="", alpha=1.0, mis=0.0, merge="mean", masked_attention=True
)
SHIPPED = Path(__file__).parents[3] / "weights" / "miniature"
OTHER: dict[str, Any] = {
    "solver": "unipc",
    "steps": 7,
    "guidance": 5.0,
    "negative_prompt": "blurry",
    "alpha": 0.5,
    "mis": 0.2,
    "merge": "regions",
    "masked_attention": "finest",
}


@pytest.mark.parametrize("name", Drawing.model_fields)
def test_a_value_by_hand_goes_before_and_the_remark_names_it_alone(name: str) -> None:
    taken = chosen(OWN, {**dict.fromkeys(Drawing.model_fields), name: OTHER[name]})
    assert taken == OWN.model_copy(update={name: OTHER[name]})
    sentence = remark(OWN, taken)
    assert sentence is not None
    assert [other for other in Drawing.model_fields if f"{other} " in sentence.replace("drawn with", "")] == [name]


def test_what_the_layers_say_needs_no_remark() -> None:
    assert chosen(OWN, {}) == OWN
    assert remark(OWN, chosen(OWN, OWN.model_dump())) is None


def test_layers_carry_it_through_their_folder_and_through_a_whole_pipeline(tmp_path: Path) -> None:
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=True, drawing=OWN)
    unet.save_instance_layers(tmp_path / "layers")
    assert InstanceUNet.from_base_and_layers(base(), tmp_path / "layers").drawing == OWN
    assert reading.stated(tmp_path).drawing == reading.read(tmp_path).drawing == OWN
    unet.save_pretrained(tmp_path / "whole/unet")
    assert InstanceUNet.from_pretrained(tmp_path / "whole/unet").drawing == OWN
    assert reading.stated(tmp_path / "whole") == (OWN, SIZES.max_instances)


def test_the_released_script_leads_away_from_ten_things() -> None:
    assert AS_RELEASED.negative_prompt.split(", ") == [
        *(
            "longbody",
            "lowres",
            "bad anatomy",
            "bad hands",
            "missing fingers",
            "extra digit",
            "fewer digits",
            "cropped",
        ),
        *("worst quality", "low quality"),
    ]


def test_layers_that_say_nothing_are_drawn_as_the_released_ones_with_a_warning(tmp_path: Path) -> None:
    InstanceUNet.from_base(base(), SIZES, scale_u=True).save_instance_layers(tmp_path / "layers")
    with pytest.warns(UserWarning, match="does not say how its layers are drawn"):
        assert reading.stated(tmp_path).drawing == AS_RELEASED


def test_a_file_and_what_is_not_there_are_taken_for_the_released_weights(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"some")
    for path in (tmp_path / "weights.pth", tmp_path / "nothing"):
        assert assemble.stated(path, None) == (AS_RELEASED, 30)


def test_the_shipped_layers_say_how_they_were_trained() -> None:
    stated = assemble.stated(SHIPPED, SHIPPED / "instance")
    recipe = json.loads((SHIPPED / "instance/recipe.json").read_text())
    assert stated.drawing.masked_attention == recipe["params"]["masked_attention"]
    assert stated.slots == recipe["params"]["unifusion"]["max_instances"]
