"""Fresh instance layers: what is learned begins small, and what would change a picture at nothing."""

import torch
from tiny_pipeline import SIZES
from tiny_unet import base

from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusion

WIDE = SIZES.model_copy(  # enough values of each kind for a spread
    update={
        "max_instances": 2,
        "text_width": 512,
        "token_width": 8,
        "hidden_width": 8,
        "num_scribble_points": 8,
        "mask_widths": (4, 128),
    }
)


def test_what_is_read_where_nothing_is_said_and_places_of_masks_are_drawn_with_a_spread_of_a_fiftieth() -> None:
    torch.manual_seed(0)
    unifusion = UniFusion(WIDE)
    random_values = {**unifusion.null, "place": unifusion.mask_position}
    wide = {name: values for name, values in random_values.items() if values.numel() >= 500}
    assert wide.keys() == {"text", "scribble", "outline", "mask", "place"}
    for name, values in wide.items():
        assert abs(float(values.std()) - 0.02) < 0.003, name
        assert abs(float(values.mean())) < 0.004, name


def test_gates_and_scales_begin_at_nothing_and_what_convnext_adds_at_a_tenth() -> None:
    layers = InstanceUNet.from_base(base(), SIZES, scale_u=True).instance_layers()
    firsts = {
        part: {float(value) for name, weight in layers.items() if part in name for value in weight.flatten()}
        for part in (".alpha_", ".scale_u.", ".gamma")
    }
    assert firsts == {".alpha_": {0.0}, ".scale_u.": {0.0}, ".gamma": {float(torch.tensor(0.1))}}
