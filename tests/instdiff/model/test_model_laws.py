"""Laws of the model, on a network small enough to build in each test."""

import copy
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as some
import numpy as np
import pytest
import tiny_pipeline
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from golden_weights import equal
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny_unet import base, noisy
from torch import Tensor

from instdiff.data.format_dropout import DropChances, keep_from_draws, withhold
from instdiff.layouts import masks
from instdiff.layouts.complete import complete
from instdiff.layouts.formats import BY_NAME, FORMATS
from instdiff.model import attention_mask
from instdiff.model.conditions import Conditions, cat, collate, keep, mirrored, null, select
from instdiff.model.grounding import TextAndGrounding, cat_rows
from instdiff.model.grounding import cat as cat_groundings
from instdiff.model.scaleu import scale_low_frequencies
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.guidance import gates, with_guidance
from instdiff.sampling.multi_instance import merge, sample, sample_multi_instance
from instdiff.sampling.plms import Plms
from instdiff.sampling.protocol import Denoise
from instdiff.sampling.solvers import Scheduled
from instdiff.schema import Box, Compat, Instance, Layout, Point

SIZES = tiny_pipeline.SIZES.model_copy(update={"max_instances": 3, "text_width": 8})
WORDS = {word: torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed, word in enumerate("abc")}
NEVER = dict.fromkeys(DropChances.model_fields, 0.0)


def fresh() -> InstanceUNet:
    return InstanceUNet.from_base(base(), SIZES, scale_u=True).eval()


@functools.cache
def trained() -> InstanceUNet:
    """Every gate and scale away from zero, as after training."""
    unet = fresh()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in unet.instance_layers().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return unet


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((32, 32), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def instance(phrase: str, top: int = 4, left: int = 12, side: int = 10) -> Instance:
    mask = square(top, left, side)
    scribble = tuple(Point((left + i) / 32, (top + i) / 32) for i in range(4))
    return Instance(phrase=phrase, mask=masks.encode(mask), scribble=scribble)


def together(*layouts: tuple[Instance, ...]) -> Conditions:
    numbered = [Layout(key=f"k{n}", prompt="", instances=instances) for n, instances in enumerate(layouts)]
    return collate([complete(layout, SIZES) for layout in numbered], WORDS, SIZES)


def same(conditions: Conditions, other: Conditions) -> bool:
    return all(torch.equal(getattr(conditions, field.name), getattr(other, field.name)) for field in fields(Conditions))


# -- UNet


@torch.no_grad()
def test_fresh_instance_layers_leave_the_base_as_it_was() -> None:
    x, t, text = noisy(2)
    conditions = together((instance("a"),), (instance("b"), instance("c")))
    unet = fresh()
    expected = base()(x, t, text).sample
    assert torch.equal(unet(x, t, text, unet.ground(conditions)).sample, expected)
    assert torch.equal(unet(x, t, text, unet.ground(conditions, masked=(8, 8))).sample, expected)


@torch.no_grad()
def test_at_gate_zero_the_grounding_says_nothing() -> None:
    x, t, text = noisy(1)
    grounding = trained().ground(together((instance("a"),)))
    silent = trained()(x, t, text).sample
    assert torch.equal(trained()(x, t, text, grounding.at(0)).sample, silent)
    assert not torch.allclose(trained()(x, t, text, grounding.at(0.5)).sample, silent)


@torch.no_grad()
@pytest.mark.parametrize("masked", [None, (8, 8)])
def test_a_batch_gives_what_its_pictures_give_one_by_one(masked: tuple[int, int] | None) -> None:
    x, t, text = noisy(3)
    layouts = ((instance("a"),), (), (instance("b", 0, 0, 20), Instance(phrase="c", point=Point(0.5, 0.5))))
    grounding = trained().ground(together(*layouts), masked=masked)
    batch = trained()(x, t, text, grounding).sample
    for row, layout in enumerate(layouts):
        grounding_alone = trained().ground(together(layout), masked=masked)
        alone = trained()(x[[row]], t[[row]], text[[row]], grounding_alone).sample
        assert torch.allclose(alone[0], batch[row], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("masked", [None, (8, 8)])
def test_keys_made_once_give_what_keys_made_in_each_pass_give(masked: tuple[int, int] | None) -> None:
    x, t, text = noisy(2)
    unet = trained()
    grounding = unet.ground(together((instance("a"),), (instance("b"), instance("c"))), masked=masked)
    cached = unet.with_cached_keys(text, grounding)
    with calls(unet) as projections:
        expected = unet(x, t, text, grounding).sample
    assert len(projections) == 8 * len(unet.transformers())
    with calls(unet) as projections:
        noise = unet(x, t, cached.text_RLD, cached.grounding, cached.keys).sample
    assert len(projections) == 4 * len(unet.transformers())  # those of the picture, in self-attention and fuser
    assert torch.allclose(noise, expected, atol=1e-5)
    swapped = cached.rows([1, 0])
    again = unet(x[[1, 0]], t[[1, 0]], swapped.text_RLD, swapped.grounding, swapped.keys).sample
    assert torch.allclose(again, expected[[1, 0]], atol=1e-5)


@contextmanager
def calls(unet: InstanceUNet) -> Iterator[list[str]]:
    """Projections to keys and values, each time one is made."""
    projections: list[str] = []
    parts = [(name, part) for name, part in unet.named_modules() if name.endswith((".to_k", ".to_v"))]
    hooks = [part.register_forward_hook(lambda *_, name=name: projections.append(name)) for name, part in parts]
    yield projections
    for hook in hooks:
        hook.remove()


def test_only_instance_layers_learn() -> None:
    x, t, text = noisy(1)
    unet = fresh().freeze_base()
    unet(x, t, text, unet.ground(together((instance("a"),)))).sample.square().mean().backward()
    learning = {name for name, parameter in unet.named_parameters() if parameter.grad is not None}
    assert learning
    assert learning <= set(unet.instance_layers())
    assert any(".fuser.alpha_attn" in name for name in learning)
    assert any(".scale_u.skip" in name for name in learning)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    x, t, text = noisy(1)
    gradients = []
    for checkpointed in (False, True):
        unet = copy.deepcopy(trained()).train()
        if checkpointed:
            unet.enable_gradient_checkpointing()
        unet(x, t, text, unet.ground(together((instance("a"),)))).sample.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in unet.instance_layers().items()})
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None)
        assert gradient is None or torch.allclose(gradient, gradients[1][name], atol=1e-6), name


@torch.no_grad()
def test_a_copied_unet_has_scales_of_its_own() -> None:
    x, t, text = noisy(1)
    before = trained()(x, t, text).sample
    twin = copy.deepcopy(trained())
    for name, parameter in twin.named_parameters():
        if ".scale_u." in name:
            parameter.add_(1)
    assert torch.equal(trained()(x, t, text).sample, before)
    assert not torch.allclose(twin(x, t, text).sample, before)


@torch.no_grad()
def test_saved_layers_on_the_same_base_predict_the_same_noise(tmp_path: Path) -> None:
    x, t, text = noisy(1)
    conditions = together((instance("a"),))
    expected = trained()(x, t, text, trained().ground(conditions)).sample
    trained().save_instance_layers(tmp_path / "layers")
    again = InstanceUNet.from_base_and_layers(base(), tmp_path / "layers").eval()
    assert torch.allclose(again(x, t, text, again.ground(conditions)).sample, expected, atol=1e-5)
    trained().save_pretrained(tmp_path / "whole")
    whole = InstanceUNet.from_pretrained(tmp_path / "whole").eval()
    assert torch.allclose(whole(x, t, text, whole.ground(conditions)).sample, expected, atol=1e-5)
    assert equal(whole.state_dict(), trained().state_dict())


def test_layers_of_another_unet_are_refused_with_both_sides_listed(tmp_path: Path) -> None:
    InstanceUNet.from_base(base(), SIZES, scale_u=False).save_instance_layers(tmp_path / "layers")
    with pytest.raises(ValueError, match=r"lacks 8 \(up_blocks.*scale_u.*holds, but is not known: nothing"):
        fresh().load_instance_layers(tmp_path / "layers")


# -- ScaleU and attention masks


@given(st.integers(2, 9), st.integers(2, 9), st.floats(-1, 3))
def test_scaleu_is_the_filter_of_four_frequencies(height: int, width: int, scale: float) -> None:
    z = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(3))
    wave = torch.fft.fftshift(torch.fft.fft2(z), dim=(-2, -1))
    wave[..., height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] *= scale
    expected = torch.fft.ifft2(torch.fft.ifftshift(wave, dim=(-2, -1))).real
    assert torch.allclose(scale_low_frequencies(z, torch.tensor([scale])), expected, atol=1e-5)


def test_a_box_masks_the_rows_that_are_its_y() -> None:
    conditions = keep(together((Instance(phrase="a", box=Box(0.0, 0.5, 0.25, 1.0)),)), {"box"})
    region = attention_mask.regions(conditions, 4, 4)[0, 0].view(4, 4)
    assert region.nonzero().tolist() == [[2, 0], [3, 0]]


def test_tokens_of_one_instance_do_not_look_into_another() -> None:
    conditions = together((instance("a", 0, 0, 8), instance("b", 16, 16, 16)))
    allowed = attention_mask.build(conditions, [(4, 4)], 1)[16][0]
    first, second, outside = 0, 15, 3
    assert allowed[first, first]
    assert not allowed[first, second]
    assert allowed[outside].nonzero()[:, 0].tolist()[0] == outside  # itself alone of the visual tokens
    assert allowed[outside, :16].sum() == 1
    slots = allowed[:, 16:-1].unflatten(1, (len(SIZES.located), 3))
    assert slots[first, :, 0].tolist() == [True, True, True, True]
    assert not slots[first, :, 1].any()
    assert allowed[:, -1].all()


@pytest.mark.parametrize("name", FORMATS)
def test_the_reference_masks_a_picture_with_a_box_an_outline_or_a_mask_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_mask, "_REFERENCE_GRID", (4, 4))
    conditions = keep(together((instance("a", 0, 0, 8), instance("b", 16, 16, 16))), {name})
    allowed = attention_mask.build(conditions, [(4, 4), (2, 2), (4, 8)], 1, "reference")
    assert list(allowed) == [16]
    assert bool(allowed[16].all()) == (name in {"point", "scribble"})
    closed = dict.fromkeys(SIZES.located, name in {"box", "outline", "mask"}) | {"point": False, "scribble": False}
    of_tokens = allowed[16][0, :, 16:-1].unflatten(1, (len(SIZES.located), 3))
    assert {each: not bool(of_tokens[:, place].all()) for place, each in enumerate(SIZES.located)} == closed


def test_an_instance_of_unknown_place_may_be_anywhere() -> None:
    unknown = Instance(phrase="a")
    conditions = together((instance("b"), unknown), (unknown,))
    assert attention_mask.build(conditions, [(4, 4)], 1)[16][:, :, :16].all()


def test_a_point_alone_reaches_a_disc_and_a_scribble_the_cells_along_it() -> None:
    point = Instance(phrase="a", point=Point(0.5, 0.25))
    scribble = Instance(phrase="b", scribble=tuple(Point((2 * i + 1) / 8, 0.85) for i in range(4)))
    regions = attention_mask.regions(together((point, scribble)), 10, 10)[0].view(-1, 10, 10)
    rows, columns = regions[0].nonzero().T
    distance = ((rows + 0.5) / 10 - 0.25).square() + ((columns + 0.5) / 10 - 0.5).square()
    assert len(rows) == 12  # middles of cells of a tenth that lie in a disc of radius 0.2
    assert distance.max() <= BY_NAME["point"].reach ** 2
    assert regions[1].nonzero().tolist() == [[8, column] for column in (0, 1, 3, 4, 5, 6, 8, 9)]


def test_the_smallest_stroke_keeps_the_cell_it_lies_in() -> None:
    conditions = together((Instance(phrase="a", scribble=(Point(0.3, 0.3),)),))
    region = attention_mask.near(conditions.scribble_BNS, 2, 2, 0.01)[0, 0]
    assert region.tolist() == [True, False, False, False]


def test_the_smallest_instance_keeps_a_cell() -> None:
    conditions = together((Instance(phrase="a", box=Box(0.6, 0.1, 0.61, 0.11)),))
    assert attention_mask.regions(conditions, 4, 4)[0, 0].nonzero()[:, 0].tolist() == [2]


GRIDS = [(2, 4), (4, 2), (8, 2), (1, 8), (4, 4), (1, 1)]
any_mask = some.arrays(np.bool_, (8, 8), elements=st.booleans()).filter(np.any)
eighth = st.integers(0, 8).map(lambda number: number / 8)


def covered_most(covered: np.ndarray) -> np.ndarray:
    """The rule of regions, cell by cell."""
    return covered >= 0.5 if (covered >= 0.5).any() else (covered == covered.max()) & (covered > 0)


@given(any_mask, st.sampled_from(GRIDS))
def test_a_mask_holds_the_cells_that_it_covers_by_half_or_else_those_covered_the_most(
    mask: np.ndarray, grid: tuple[int, int]
) -> None:
    height, width = grid
    conditions = together((Instance(phrase="a", mask=masks.encode(mask)),))
    covered = mask.reshape(height, 8 // height, width, 8 // width).mean((1, 3))
    region = attention_mask.regions(conditions, *grid)[0, 0].view(grid).numpy()
    assert np.array_equal(region, covered_most(covered))


@given(st.tuples(eighth, eighth, eighth, eighth), st.sampled_from(GRIDS))
def test_a_box_holds_the_cells_that_it_covers_by_half_or_else_those_covered_the_most(
    edges: tuple[float, ...], grid: tuple[int, int]
) -> None:
    height, width = grid
    box = Box(min(edges[0], edges[1]), min(edges[2], edges[3]), max(edges[0], edges[1]), max(edges[2], edges[3]))
    assume(box.area > 0)
    pixels = np.zeros((8, 8), dtype=bool)
    pixels[round(8 * box.y0) : round(8 * box.y1), round(8 * box.x0) : round(8 * box.x1)] = True
    covered = pixels.reshape(height, 8 // height, width, 8 // width).mean((1, 3))
    region = attention_mask.regions(together((Instance(phrase="a", box=box),)), *grid)[0, 0].view(grid).numpy()
    assert np.array_equal(region, covered_most(covered))


@pytest.mark.parametrize(("edge", "belongs"), [(-1 / 1024, False), (0, True), (1 / 1024, True)])
def test_a_cell_just_less_than_half_covered_does_not_belong(edge: float, belongs: bool) -> None:
    """The box covers the left column of a grid of 2 x 2 whole and of the right one a half, or nearly."""
    conditions = together((Instance(phrase="a", box=Box(0, 0, 0.75 + edge, 1)),))
    assert attention_mask.regions(conditions, 2, 2)[0, 0].tolist() == [True, belongs, True, belongs]


EVERYWHERE = Instance(
    phrase="a",
    mask=masks.encode(square(0, 0, 8)),
    box=Box(0.5, 0, 1, 0.25),
    scribble=(Point(0.1, 0.9),),
    point=Point(0.9, 0.9),
)


@pytest.mark.parametrize("formats", [("mask",), ("box",), ("scribble",), ("point",)])
@given(st.data())
def test_the_region_is_that_of_mask_box_scribble_or_point_whichever_comes_first(
    formats: tuple[str], data: st.DataObject
) -> None:
    order = ("mask", "box", "scribble", "point")
    less_telling = order[order.index(formats[0]) + 1 :]
    besides = data.draw(st.sets(st.sampled_from(less_telling))) if less_telling else set()
    conditions = together((EVERYWHERE,))
    alone, among = (attention_mask.regions(keep(conditions, names), 4, 8) for names in (formats, {*formats, *besides}))
    assert torch.equal(alone, among)
    others = [attention_mask.regions(keep(conditions, {name}), 4, 8)[0, 0] for name in order if name != formats[0]]
    assert not any(torch.equal(alone[0, 0], other) for other in others)


@pytest.mark.parametrize(("beyond", "near"), [(-1 / 1024, True), (0, True), (1 / 1024, False)])
def test_a_cell_whose_middle_is_exactly_at_reach_is_near(beyond: float, near: bool) -> None:
    point = torch.tensor([[[0.75 + beyond, 0.25]]])  # in the second cell; the first one's middle is at (0.25, 0.25)
    assert attention_mask.near(point, 2, 2, 0.5)[0, 0].tolist() == [near, True, False, beyond == 0]


@pytest.mark.parametrize("grid", [(2, 4), (4, 2)])
def test_a_point_on_the_border_of_cells_lies_in_each_of_them(grid: tuple[int, int]) -> None:
    height, width = grid
    held = attention_mask.near(torch.tensor([[[1 / width, 1 / height]]]), height, width, 0.0)[0, 0].view(grid)
    assert held.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_visual_tokens_are_counted_row_by_row_on_grids_that_are_not_square() -> None:
    left, other = Instance(phrase="a", box=Box(0, 0, 0.5, 1)), Instance(phrase="b", box=Box(0.5, 0.5, 1, 1))
    for masked in ((4, 8), (8, 4)):
        grounding = trained().ground(together((left, other)), masked=masked)
        levels = [masked, (masked[0] // 2, masked[1] // 2)]
        assert list(grounding.allowed) == [height * width for height, width in levels]
        for height, width in levels:
            allowed = grounding.allowed[height * width][0]
            inside = torch.zeros(height, width, dtype=torch.bool)
            inside[:, : width // 2] = True
            assert torch.equal(allowed[:, height * width].view(height, width), inside)  # of the token of its box
            assert torch.equal(allowed[0, : height * width].view(height, width), inside)
            inside = torch.zeros(height, width, dtype=torch.bool)
            inside[height // 2 :, width // 2 :] = True
            assert torch.equal(allowed[:, height * width + 1].view(height, width), inside)


# -- Conditions


@given(
    some.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))).filter(np.any), st.sampled_from([16, 32])
)
def test_a_mask_of_any_shape_is_brought_to_the_models_square(mask: np.ndarray, size: int) -> None:
    """Each place is that of the picture at its upper left corner."""
    height, width = mask.shape
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="a", mask=masks.encode(mask)),))
    sizes = SIZES.model_copy(update={"mask_size": size})
    brought = collate([complete(layout, sizes)], WORDS, sizes)
    expected = [[mask[row * height // size, column * width // size] for column in range(size)] for row in range(size)]
    assert brought.mask_BNHW[0, 0].tolist() == expected
    assert bool(brought.mask_given_BN[0, 0])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    edges = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
    assert brought.box_BN4[0, 0].tolist() == pytest.approx(edges)


def outlines(*masks_of: np.ndarray, key: str = "k") -> list[list[float]]:
    layout = Layout(key=key, prompt="", instances=tuple(Instance(phrase="a", mask=masks.encode(m)) for m in masks_of))
    sizes = SIZES.model_copy(update={"max_instances": len(masks_of), "num_outline_points": 256})
    coordinates: list[list[float]] = collate([complete(layout, sizes)], WORDS, sizes).outline_BNP[0].tolist()
    return coordinates


@given(st.integers(2, 8), st.integers(2, 8), st.integers(1, 4))
@settings(max_examples=20)
def test_equal_tiny_masks_get_outlines_of_their_own_by_layout_and_slot(height: int, width: int, slot: int) -> None:
    """An outline of so few pixels is drawn at random; the draw belongs to the layout's key and the slot."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[3 : 3 + height, 5 : 5 + width] = True
    here, there = outlines(*[mask] * 5), outlines(*[mask] * 5, key="other")
    assert here[0] != here[slot]
    assert here[slot] != there[slot]
    assert here == outlines(*[mask] * 5)


edge = st.floats(-2, 3, width=32)


@given(edge, edge, edge, edge)
def test_a_point_filled_in_is_the_centre_of_what_can_be_seen_of_the_box(
    x0: float, y0: float, x1: float, y1: float
) -> None:
    box = Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    ours, released = (completed(Instance(phrase="a", box=box), compat) for compat in (None, "reference"))
    seen = np.clip(box, 0, 1)
    if seen[0] < seen[2] and seen[1] < seen[3]:
        centre = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
        assert ours["point"].tolist() == np.float32(centre).tolist()
    else:
        assert ours == {}
    assert released["point"].tolist() == np.float32(box.centre).tolist()


def completed(instance: Instance, compat: Compat | None = None) -> dict[str, np.ndarray]:
    """The numbers of each format of an instance that stands alone in its layout."""
    layout = Layout(key="k", prompt="", instances=(instance,))
    return dict(complete(layout, SIZES, compat).instances[0].numbers)


def test_what_is_given_is_not_filled_in() -> None:
    moved = instance("a").model_copy(update={"box": Box(0, 0, 0.5, 1)})
    outline = tuple(Point(number / 8, 1 - number / 8) for number in range(8))
    whole = moved.model_copy(update={"point": Point(0.75, 0.25), "outline": outline})
    numbers = completed(whole)
    for name in ("box", "point", "scribble", "outline"):
        assert numbers[name].tolist() == np.ravel(getattr(whole, name)).tolist(), name
    assert np.array_equal(numbers["mask"], masks.decode(whole.mask))
    filled = completed(moved)
    assert (filled["box"].tolist(), filled["point"].tolist()) == ([0, 0, 0.5, 1], [0.25, 0.5])


@pytest.mark.parametrize("box", [Box(1.25, 0, 1.5, 1), Box(0, 0.5, 1, 0.5), Box(-1, -1, 0, 1)])
def test_a_box_of_which_nothing_can_be_seen_counts_as_not_given_and_the_mask_says_where(box: Box) -> None:
    mask = masks.encode(square(8, 16, 8))
    filled = completed(Instance(phrase="a", box=box, mask=mask))
    assert (filled["box"].tolist(), filled["point"].tolist()) == ([0.5, 0.25, 0.75, 0.5], [0.625, 0.375])


@torch.no_grad()
@pytest.mark.parametrize("name", SIZES.located)
def test_an_instance_without_a_format_gets_its_null_token(name: str) -> None:
    conditions = keep(together((instance("a"),)), {other for other in FORMATS if other != name})
    unifusion = trained().unifusion
    tokens = unifusion(conditions)[0].split([3, 3, 3, 3, SIZES.num_mask_tokens])[SIZES.located.index(name)]
    expected = unifusion.mlps[name](torch.cat([WORDS["a"], unifusion.null[name]]))
    assert torch.allclose(tokens[0], expected, atol=1e-6)


@torch.no_grad()
def test_numbers_of_a_format_not_given_do_not_matter() -> None:
    conditions = keep(together((instance("a"),)), {"box"})
    other = replace(conditions, scribble_BNS=conditions.scribble_BNS + 9, mask_BNHW=~conditions.mask_BNHW)
    assert torch.equal(trained().unifusion(conditions), trained().unifusion(other))


@torch.no_grad()
def test_the_order_of_instances_is_the_order_of_their_slots_and_no_more() -> None:
    tokens = trained().unifusion(together((instance("a", 0, 0, 8), instance("b"))))[0]
    tokens_swapped = trained().unifusion(together((instance("b"), instance("a", 0, 0, 8))))[0]
    for first, second in zip(tokens[:12].split(3), tokens_swapped[:12].split(3), strict=True):
        assert torch.allclose(first[[1, 0, 2]], second, atol=1e-6)


def test_a_fourth_instance_in_three_slots_is_an_error() -> None:
    with pytest.raises(ValueError, match="k0: 4 instances, but the model has slots for 3"):
        together((instance("a"),) * 4)


def test_an_instance_of_a_picture_is_named_by_its_own_number_and_no_phrase_by_its_features() -> None:
    numbered = [Layout(key=f"k{n}", prompt="", instances=(instance("a"), instance("b"))) for n in range(2)]
    of_all = [complete(layout, SIZES) for layout in numbered]
    with pytest.raises(ValueError, match="k0: instance 1: no features of the phrase 'b'"):
        collate(of_all, {"a": WORDS["a"]}, SIZES)
    with pytest.raises(ValueError, match="no phrase features"):
        collate(of_all, {}, SIZES)
    learned = {word: feature.clone().requires_grad_() for word, feature in WORDS.items()}
    assert not collate(of_all, learned, SIZES).text_BND.requires_grad


def test_a_phrase_without_features_is_an_error() -> None:
    with pytest.raises(ValueError, match="k0: instance 0: no features of the phrase 'z'"):
        together((instance("z"),))


def test_what_is_absent_is_not_given_but_the_reference_reads_zeros() -> None:
    layout = Layout(key="k", prompt="", instances=(Instance(phrase="a", point=Point(0.5, 0.5)),))
    ours, theirs = (collate([complete(layout, SIZES, compat)], WORDS, SIZES) for compat in (None, "reference"))
    assert [bool(ours.given(entry.name)[0, 0]) for entry in ours.formats] == [False, True, False, False, False]
    assert [bool(theirs.given(entry.name)[0, 0]) for entry in theirs.formats] == [True, True, True, True, False]


def test_a_mask_gives_its_outline_and_completing_gives_box_and_point() -> None:
    conditions = together((instance("a", 4, 12, 10),))
    assert all(bool(conditions.given(entry.name)[0, 0]) for entry in conditions.formats)
    assert conditions.box_BN4[0, 0].tolist() == [12 / 32, 4 / 32, 22 / 32, 14 / 32]
    assert conditions.point_BN2[0, 0].tolist() == [17 / 32, 9 / 32]
    assert np.array_equal(conditions.mask_BNHW[0, 0].numpy(), square(4, 12, 10))


def test_boxes_end_at_the_border_and_boxes_without_area_are_not_given() -> None:
    past = Instance(phrase="a", box=Box(0.5, -0.5, 1.5, 0.5))
    flat = Instance(phrase="b", box=Box(0.0, 1.0, 0.0, 1.0))
    conditions = together((past, flat))
    assert conditions.box_BN4[0, 0].tolist() == [0.5, 0, 1, 0.5]
    assert conditions.box_given_BN[0].tolist() == [True, False, False]


def test_the_reference_is_fed_a_box_without_area_as_it_stands() -> None:
    flat = Layout(key="k", prompt="", instances=(Instance(phrase="b", box=Box(0.25, 1.0, 0.25, 1.0)),))
    theirs = collate([complete(flat, SIZES, "reference")], WORDS, SIZES)
    assert theirs.box_BN4[0, 0].tolist() == [0.25, 1.0, 0.25, 1.0]
    assert theirs.point_BN2[0, 0].tolist() == [0.25, 1.0]
    assert bool(theirs.box_given_BN[0, 0])


def test_a_selected_instance_stands_alone_in_slot_0() -> None:
    conditions = together((instance("a"), instance("b", 0, 0, 8)))
    assert same(select(conditions, 1), together((instance("b", 0, 0, 8),)))


def test_rows_and_cat_undo_each_other() -> None:
    conditions = together((instance("a"),), (instance("b"), instance("c")))
    assert same(cat([conditions.rows([0]), conditions.rows([1])]), conditions)


def test_a_mirror_turned_twice_shows_what_was_there() -> None:
    conditions = together((instance("a"), instance("b", 0, 0, 8)))
    once, twice = mirrored(conditions), mirrored(mirrored(conditions))
    assert once.box_BN4[0, 1].tolist() == [0.75, 0, 1, 0.25]
    assert once.mask_BNHW[0, 1, :8, 24:].all()
    for name in ("box_BN4", "point_BN2", "mask_BNHW"):
        assert torch.allclose(getattr(twice, name).float(), getattr(conditions, name).float()), name
    for name in ("scribble_BNS", "outline_BNP"):  # which a mirror puts in the order of strokes
        assert torch.allclose(getattr(mirrored(twice), name), getattr(once, name)), name


def test_a_mirror_keeps_strokes_in_their_order() -> None:
    conditions = mirrored(together((instance("a"), instance("b", 0, 0, 8))))
    for points_BNF in (conditions.scribble_BNS, conditions.outline_BNP):
        assert (points_BNF.unflatten(-1, (-1, 2)).norm(dim=-1).diff(dim=-1) >= -1e-6).all()


# -- Drops


def withheld(conditions: Conditions, **chances: float) -> Conditions:
    uniforms = torch.rand(len(conditions), len(NEVER), generator=torch.Generator().manual_seed(0))
    return withhold(conditions, keep_from_draws(uniforms, DropChances(**NEVER | chances)))


def test_drops_that_never_happen_change_nothing() -> None:
    conditions = together((instance("a"),), (instance("b"),))
    assert same(withheld(conditions), conditions)


def test_everything_dropped_is_the_null_condition() -> None:
    conditions = together((instance("a"),))
    gone = withheld(conditions, everything=1.0)
    expected = trained().unifusion(null(conditions))
    assert torch.equal(trained().unifusion(gone), expected)


def test_pictures_are_dropped_one_by_one() -> None:
    conditions = together(*((instance("a"),) for _ in range(64)))
    assert 16 < int(withheld(conditions, only_point=0.5).box_given_BN[:, 0].sum()) < 48


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=9, max_size=9))
def test_something_is_always_kept(odds: list[float]) -> None:
    chances = dict(zip(DropChances.model_fields, [*odds, 0.0], strict=True))
    conditions = withheld(together((instance("a"),)), **chances)
    assert any(bool(conditions.given(name)[0, 0]) for name in FORMATS)


# -- Sampling


def denoiser(layout: tuple[Instance, ...], count: int, max_rows: int = 64) -> Denoise:
    unet, (_, _, text) = trained(), noisy(count)
    conditions = cat([together(layout)] * count)
    nothing = unet.ground(null(conditions.rows([0])))
    grounding = unet.ground(conditions)
    return with_guidance(unet, text, grounding, torch.zeros(1, 5, 16), nothing, guidance=3.0, max_rows=max_rows)


def solvers() -> list[Plms | Scheduled]:
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    dpm = DPMSolverMultistepScheduler(**settings)
    return [Plms.of(5), Scheduled.of(dpm, 5), Scheduled.of(DDIMScheduler(**settings, clip_sample=False), 5)]


@torch.no_grad()
@pytest.mark.parametrize("number", range(3))
def test_the_bound_on_rows_changes_no_picture(number: int) -> None:
    solver, noise = solvers()[number], noisy(3)[0]
    opened = gates(solver.num_steps, 0.8)
    whole, in_parts = (sample(denoiser((instance("a"),), 3, rows), noise, solver, opened) for rows in (64, 2))
    assert torch.allclose(whole, in_parts, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("null_rows", "scale"), [(1, 3.0), (3, 3.0), (3, 0.5), (1, 1.0), (1, 0.0)])
def test_guidance_leads_each_row_from_its_own_null_text_as_far_as_the_scale_says(null_rows: int, scale: float) -> None:
    unet, (x, t, text) = trained(), noisy(3)
    null_text = torch.randn(null_rows, 5, 16, generator=torch.Generator().manual_seed(7))
    denoise = with_guidance(unet, text, None, null_text, None, guidance=scale, max_rows=4)
    conditional, unconditional = (unet(x, t[1], words).sample.double() for words in (text, null_text.expand(3, -1, -1)))
    expected = unconditional + scale * (conditional - unconditional)
    assert torch.allclose(denoise(x, t[1], 1.0).double(), expected, atol=1e-4)
    unguided = replace(denoise, steps=range(1, 2)).at_step(0, begins=True, alike=False)
    assert torch.allclose(unguided(x, t[1], 1.0).double(), conditional, atol=1e-5)


@torch.no_grad()
def test_rows_of_a_picture_share_their_null_row_while_they_hold_the_same_latents() -> None:
    unet, (x, t, text) = trained(), noisy(3)
    conditions = together((instance("a"),), (instance("b"),), (instance("c"),))
    arguments = text, unet.ground(conditions), torch.zeros(1, 5, 16), unet.ground(null(conditions.rows([0])))
    alone, shared = (
        with_guidance(unet, *arguments, guidance=3.0, max_rows=4, picture_R=picture_R, num_pictures=2)
        for picture_R in (None, torch.tensor([0, 1, 1]))
    )
    alike = x[[0, 1, 1]]
    first = shared.at_step(0, begins=True, alike=True)
    for latents, num_rows, denoise in ((x, [4, 2], shared), (alike, [4, 1], first), (x, [4, 2], first)):
        passes: list[int] = []
        hook = unet.conv_in.register_forward_hook(lambda _, inputs, __, passes=passes: passes.append(len(inputs[0])))
        noise = denoise(latents, t[0], 1.0)
        hook.remove()
        assert passes == num_rows
        assert torch.allclose(noise, alone(latents, t[0], 1.0), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("number", range(3))
def test_a_multi_instance_sampler_without_instances_is_the_plain_one(number: int) -> None:
    solver, noise = solvers()[number], noisy(2)[0]
    opened = gates(solver.num_steps, 0.8)
    denoise = denoiser((), 2)
    rows = torch.arange(2)
    apart = sample_multi_instance(denoise, denoise, noise, solver, opened, picture_R=rows, share=0.4)
    assert torch.allclose(apart, sample(denoise, noise, solver, opened), atol=1e-4)


def test_a_merge_by_regions_takes_each_instance_in_its_place_and_the_picture_where_none_is() -> None:
    # two pictures and three instances, four cells each: the first picture has two instances, which share a cell
    rows = torch.tensor([[1.0] * 4, [2.0] * 4, [10.0] * 4, [20.0] * 4, [30.0] * 4]).view(5, 1, 1, 4)
    places = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool().view(5, 1, 4)
    merged = merge(rows, torch.tensor([0, 1, 0, 0, 1]), 2, places)
    assert merged.flatten(1).tolist() == [[10, 15, 20, 1], [2, 2, 2, 30]]
    assert merge(rows, torch.tensor([0, 1, 0, 0, 1]), 2)[:, 0, 0, 0].tolist() == [pytest.approx(31 / 3), 16]


@torch.no_grad()
def test_at_share_one_the_mean_is_returned_and_by_the_reference_the_last_instance() -> None:
    def denoise(x: Tensor, _: Tensor, __: float) -> Tensor:
        return torch.arange(3.0)[:, None, None, None].expand_as(x)

    solver, noise, rows = Plms.of(4), noisy(1)[0], torch.zeros(3, dtype=torch.int64)
    each = sample(denoise, noise[rows], solver, [1.0] * 4)
    ends = [
        sample_multi_instance(denoise, denoise, noise, solver, [1.0] * 4, picture_R=rows, share=1.0, compat=compat)
        for compat in (None, "reference")
    ]
    assert torch.allclose(ends[0], each.mean(0, keepdim=True))
    assert torch.equal(ends[1], each[2:])


def test_a_wrong_number_of_gates_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 gates for 5 steps"):
        sample(lambda x, _, __: x, noisy(1)[0], Plms.of(5), [1.0] * 3)


def everything(value: Any) -> list[Tensor]:
    """Every tensor in there, in its order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for key in sorted(value) for tensor in everything(value[key])]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in everything(part)]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in everything(getattr(value, field.name))]
    return []


@functools.cache
def two_groundings() -> tuple[TextAndGrounding, TextAndGrounding]:
    """Of two pictures, masked at two levels, and of one that is not masked, each with keys; both at half a gate."""
    text, unet = noisy(3)[2], trained()
    first = unet.ground(together((instance("a"),), (instance("b", 0, 0, 8), instance("c"))), gate=0.5, masked=(8, 8))
    other = unet.ground(together((instance("c"),)), gate=0.5)
    return unet.with_cached_keys(text[:2], first), unet.with_cached_keys(text[2:], other)


def test_what_is_put_together_is_what_it_was_apart_and_a_level_without_a_mask_is_open_to_all() -> None:
    masked, plain = two_groundings()
    for whole, rows in (
        (cat_rows([masked, plain]), (slice(0, 2), slice(2, 3))),
        (cat_rows([plain, masked]), (slice(1, 3), slice(0, 1))),
    ):
        assert len(whole) == 3
        assert whole.grounding is not None and whole.grounding.gate == 0.5
        assert list(whole.grounding.allowed) == [16, 64]
        first, last = (whole.rows(index) for index in rows)
        assert len(everything(first)) == len(everything(masked))
        assert all(map(torch.equal, everything(first), everything(masked)))
        opened = {size: torch.ones(1, size, size + SIZES.num_tokens, dtype=torch.bool) for size in (16, 64)}
        as_read = replace(plain, grounding=replace(plain.grounding, allowed=opened))
        assert len(everything(last)) == len(everything(as_read))
        assert all(map(torch.equal, everything(last), everything(as_read)))


def test_of_keys_those_that_all_have_go_on_and_text_with_instances_does_not_join_text_without() -> None:
    masked, plain = two_groundings()
    name = next(iter(plain.keys))
    fewer = replace(plain, keys={name: plain.keys[name]})
    assert list(cat_rows([masked, fewer]).keys) == list(cat_rows([fewer, masked]).keys) == [name]
    bare = TextAndGrounding(plain.text_RLD)
    assert cat_rows([bare, bare]).grounding is None
    for parts in ([masked, bare], [bare, masked]):
        with pytest.raises(ValueError, match="give a grounding and a null grounding, or neither"):
            cat_rows(parts)


def test_all_of_it_goes_to_another_device_or_nothing() -> None:
    masked, _ = two_groundings()
    for value in (masked, masked.grounding, together((instance("a"),))):
        there = value.to("meta")  # type: ignore[union-attr]
        assert [tensor.shape for tensor in everything(there)] == [tensor.shape for tensor in everything(value)]
        assert {tensor.device.type for tensor in everything(there)} == {"meta"}


def test_groundings_of_different_gates_do_not_share_a_pass() -> None:
    grounding = trained().ground(together((instance("a"),)))
    with pytest.raises(ValueError, match="different gates"):
        cat_groundings([grounding, grounding.at(0.5)])


# -- Drops at their exact chances


def test_a_draw_of_exactly_the_chance_drops_nothing_and_one_just_below_does() -> None:
    chances = DropChances(**NEVER | {"everything": 0.5, "scribble": 0.25})
    columns = list(DropChances.model_fields)
    uniforms = torch.ones(3, len(columns))
    uniforms[:, columns.index("everything")] = torch.tensor([0.5, 0.499, 0.9])
    uniforms[:, columns.index("scribble")] = torch.tensor([0.25, 0.9, 0.249])
    flags = keep_from_draws(uniforms, chances)
    assert flags.anything.tolist() == [True, False, True]
    assert flags.scribble.tolist() == [True, True, False]
    assert keep_from_draws(torch.zeros(1, len(columns)), DropChances(**NEVER)).scribble.all()
