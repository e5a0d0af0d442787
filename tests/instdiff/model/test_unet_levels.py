"""Levels of the network that are masked, and what of it is trained."""

import copy
import functools
from pathlib import Path

import pytest
import tiny_pipeline
import torch

from instdiff.layouts.complete import complete
from instdiff.layouts.formats import Slots
from instdiff.model.conditions import collate
from instdiff.model.grounding import Grounding
from instdiff.model.unet import InstanceUNet, is_instance_layer
from instdiff.model.unifusion import UniFusionConfig
from instdiff.schema import Box, Instance, Layout


@functools.cache
def unet() -> InstanceUNet:
    torch.manual_seed(0)
    return InstanceUNet.from_base(tiny_pipeline.base(), tiny_pipeline.SIZES, scale_u=True).eval()


@pytest.mark.parametrize("latent", [(8, 8), (8, 12), (9, 15), (1, 2), (5, 4)])
def test_a_level_has_half_the_cells_of_the_one_above_rounded_up(latent: tuple[int, int]) -> None:
    grids = unet().attention_grids(latent)
    depths = [depth for depth, block in enumerate(unet().down_blocks) if hasattr(block, "attentions")]
    depths = sorted({*depths, len(unet().down_blocks) - 1})
    assert grids == [
        ((latent[0] + 2**depth - 1) // 2**depth, (latent[1] + 2**depth - 1) // 2**depth) for depth in depths
    ]


def test_every_level_is_masked_or_the_finest_alone_or_none() -> None:
    slots = tiny_pipeline.SIZES
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="a", box=Box(0, 0, 0.5, 0.5)),))
    conditions = collate([complete(layout, slots)], {"a": torch.zeros(slots.text_width)}, slots)
    cells = [height * width for height, width in unet().attention_grids((8, 12))]
    with torch.no_grad():
        assert list(unet().ground(conditions, masked=(8, 12)).allowed) == cells
        assert list(unet().ground(conditions, masked=(8, 12), finest=True).allowed) == cells[:1]
        assert unet().ground(conditions).allowed == {}
        assert (
            unet().ground(conditions, gate=0.25).gate
            == unet().ground(conditions, gate=0.25, masked=(8, 12)).gate
            == 0.25
        )


def test_instance_layers_are_unifusion_fusers_and_scales_and_nothing_else_learns() -> None:
    names = [name for name, _ in unet().named_parameters()]
    own = [name for name in names if name.startswith("unifusion.") or ".fuser." in name or ".scale_u." in name]
    assert list(unet().instance_layers()) == own == [name for name in names if is_instance_layer(name)]
    base = {name for name, _ in tiny_pipeline.base().named_parameters()}
    assert set(names) - set(own) == base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_are_made_in_the_precision_of_their_base(dtype: torch.dtype) -> None:
    network = InstanceUNet.from_base(tiny_pipeline.base().to(dtype), tiny_pipeline.SIZES, scale_u=False)
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}


def test_layers_that_were_saved_take_the_precision_and_the_very_weights_of_their_base(tmp_path: Path) -> None:
    unet().save_instance_layers(tmp_path / "layers")
    base = tiny_pipeline.base().to(torch.bfloat16)
    network = InstanceUNet.from_base_and_layers(base, tmp_path / "layers")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    own = dict(network.named_parameters())
    assert all(own[name].data_ptr() == weight.data_ptr() for name, weight in base.named_parameters())
    layers = unet().instance_layers()
    assert all(torch.equal(own[name], layer.to(torch.bfloat16)) for name, layer in layers.items())


def test_a_base_with_weights_that_have_no_place_is_refused() -> None:
    base = tiny_pipeline.base()
    base.odd = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match=r"the base does not fit: missing \[.*\], unexpected \['odd'\]"):
        InstanceUNet.from_base(base, tiny_pipeline.SIZES, scale_u=True)


def test_of_a_frozen_network_the_instance_layers_learn_again_and_scales_alone_are_taken_away() -> None:
    network = copy.deepcopy(unet()).requires_grad_(False)
    with torch.no_grad():
        for layer in network.instance_layers().values():
            layer.fill_(0.5)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    assert network.freeze_base().disable_scale_u() is network
    learns = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert learns == list(network.instance_layers())
    changed = {name for name, weight in network.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if ".scale_u." in name}
    assert not any(network.state_dict()[name].any() for name in changed)


def test_cached_keys_have_no_gradient() -> None:
    cached = unet().with_cached_keys(torch.zeros(1, 3, 16), Grounding(torch.zeros(1, 2, 16)))
    assert cached.grounding is not None
    for keys in (cached.keys, cached.grounding.keys):
        assert len(keys) == len(unet().transformers())
        assert not any(tensor.requires_grad for pair in keys.values() for tensor in pair)


SIZES = {
    **Slots(max_instances=2, mask_size=16, num_scribble_points=2, num_outline_points=2).model_dump(),
    "text_width": 4,
    "token_width": 4,
    "hidden_width": 4,
}


@pytest.mark.parametrize(
    ("size", "widths", "depths", "tokens"),
    [(16, (4, 8), (1, 1), 1), (32, (4, 8), (1, 1), 4), (512, (4, 8, 8, 8), (1, 1, 1, 1), 64), (8, (4,), (2,), 1)],
)
def test_masks_make_whole_tokens(size: int, widths: tuple[int, ...], depths: tuple[int, ...], tokens: int) -> None:
    config = UniFusionConfig(**{**SIZES, "mask_size": size}, mask_widths=widths, mask_depths=depths)
    assert config.num_mask_tokens == tokens
    assert config.num_tokens == 4 * 2 + tokens


@pytest.mark.parametrize(
    ("size", "widths", "depths"),
    [(16, (4, 8), (1,)), (16, (4,), (1, 1)), (8, (4, 8), (1, 1)), (20, (4, 8), (1, 1)), (24, (4, 8), (1, 1))],
)
def test_other_sizes_of_masks_are_refused(size: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must"):
        UniFusionConfig(**{**SIZES, "mask_size": size}, mask_widths=widths, mask_depths=depths)
