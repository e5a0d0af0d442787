"""Levels of the network that are masked, and what of it is trained."""

import functools

import pytest
import tiny_pipeline
import torch

from instdiff.layouts.complete import complete
from instdiff.layouts.formats import Slots
from instdiff.model.conditions import collate
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
