"""Where our network meets diffusers: what we write out of it and override is as the installed version has it."""

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest
import torch
from diffusers import ConfigMixin, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor2_0
from packaging.specifiers import SpecifierSet
from tiny_pipeline import SIZES
from tiny_unet import base, noisy
from torch import nn

from instdiff.model.attention import CachedCrossAttention, InstanceBlock, attach_fuser
from instdiff.model.grounding import Grounding
from instdiff.model.unet import InstanceUNet
from instdiff.sampling.pipeline import InstanceDiffusionPipeline

OURS = (InstanceUNet, InstanceBlock, CachedCrossAttention, InstanceDiffusionPipeline)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (InstanceBlock.forward, BasicTransformerBlock.forward),
        (CachedCrossAttention.__call__, AttnProcessor2_0.__call__),
    ],
)
def test_what_stands_in_place_of_a_method_of_diffusers_takes_its_arguments(ours: object, theirs: object) -> None:
    def names(function: object) -> list[str]:
        parameters = inspect.signature(function).parameters.values()
        return [
            each.name
            for each in parameters
            if each.kind is not each.VAR_POSITIONAL and each.kind is not each.VAR_KEYWORD
        ]

    assert names(ours)[: len(names(theirs))] == names(theirs)


@torch.no_grad()
def test_a_block_without_grounding_computes_what_the_block_of_diffusers_computes() -> None:
    """Bit for bit, with each argument that Stable Diffusion's blocks take."""
    torch.manual_seed(0)
    theirs = BasicTransformerBlock(16, 2, 8, cross_attention_dim=12).eval()
    ours = BasicTransformerBlock(16, 2, 8, cross_attention_dim=12).eval()
    ours.load_state_dict(theirs.state_dict())
    attach_fuser("block", ours, token_width=16)
    x, text = torch.randn(2, 9, 16), torch.randn(2, 5, 12)
    own_bias, text_bias = torch.randn(2, 1, 9), torch.randn(2, 1, 5)
    for options in ({}, {"attention_mask": own_bias}, {"encoder_attention_mask": text_bias}):
        expected = theirs(x, encoder_hidden_states=text, **options)
        assert torch.equal(ours(x, encoder_hidden_states=text, **options), expected), options


@torch.no_grad()
def test_keys_of_the_text_are_read_where_nothing_masks_it_and_of_the_block_alone() -> None:
    """With a mask the text is read itself, as diffusers reads it."""
    torch.manual_seed(0)
    block = BasicTransformerBlock(16, 2, 8, cross_attention_dim=12).eval()
    attach_fuser("block", block, token_width=16)
    x, text, other = torch.randn(2, 9, 16), torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    plain, of_other = (block(x, encoder_hidden_states=each) for each in (text, other))
    heads = [layer(other).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (block.attn2.to_k, block.attn2.to_v)]
    for name, expected in (("block.attn2", of_other), ("another.attn2", plain)):
        read = block(x, encoder_hidden_states=text, cross_attention_kwargs={"keys": {name: tuple(heads)}})
        assert torch.allclose(read, expected, atol=1e-6), name
    masked = {"encoder_hidden_states": text, "encoder_attention_mask": torch.randn(2, 1, 5)}
    keys = {"keys": {"block.attn2": tuple(heads)}}
    assert torch.equal(block(x, **masked, cross_attention_kwargs=keys), block(x, **masked))


@pytest.mark.parametrize(
    "other",
    [
        {"norm_type": "ada_norm", "num_embeds_ada_norm": 4},
        {"only_cross_attention": True},
        {"double_self_attention": True},
        {"cross_attention_dim": None},
        {"positional_embeddings": "sinusoidal", "num_positional_embeddings": 9},
    ],
)
def test_a_block_that_ours_does_not_write_out_is_refused(other: dict[str, object]) -> None:
    block = BasicTransformerBlock(16, 2, 8, **{"cross_attention_dim": 16, **other})
    with pytest.raises(ValueError, match="mid: not a transformer block as Stable Diffusion 1.5 has them"):
        attach_fuser("mid", block, token_width=16)


@torch.no_grad()
def test_diffusers_hands_each_block_what_comes_as_cross_attention_kwargs() -> None:
    """By this road the grounding reaches every fuser, and nothing of GLIGEN's is used."""
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=False).eval()
    received = []
    for block in unet.transformers().values():
        block.register_forward_pre_hook(
            lambda _, args, options: received.append(options["cross_attention_kwargs"]), with_kwargs=True
        )
    x, t, text = noisy(1)
    UNet2DConditionModel.forward(unet, x, t, text, cross_attention_kwargs={"keys": {"a": 1}})
    assert received == [{"keys": {"a": 1}}] * len(unet.transformers())
    assert not hasattr(unet, "position_net")


@torch.no_grad()
def test_what_a_caller_hands_to_the_cross_attentions_reaches_every_block_beside_grounding_and_keys() -> None:
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=False).eval()
    received: list[object] = []
    for block in unet.transformers().values():
        block.register_forward_pre_hook(
            lambda _, args, options: received.append(options["cross_attention_kwargs"]), with_kwargs=True
        )
    grounding = Grounding(torch.randn(1, SIZES.num_tokens, SIZES.token_width))
    mine: dict[str, object] = {"keys": {"mine": 1}}
    keys = {"another": 2}
    for own, instances, cached, expected in (
        (None, None, None, None),
        (None, grounding.at(0), {}, None),
        (None, grounding, None, {"grounding": grounding}),
        (mine, None, None, mine),
        (mine, grounding.at(0), None, mine),
        (mine, grounding, None, {**mine, "grounding": grounding}),
        (mine, grounding, keys, {"keys": keys, "grounding": grounding}),
    ):
        received.clear()
        unet(*noisy(1), instances, cached, cross_attention_kwargs=own)  # type: ignore[arg-type]
        assert received == [expected] * len(unet.transformers())
    assert mine == {"keys": {"mine": 1}}


def test_no_private_member_of_diffusers_is_overridden() -> None:
    private = {
        (ours.__name__, name)
        for ours in OURS
        for name in vars(ours)
        if name.startswith("_") and not name.endswith("__")
        for theirs in ours.__mro__[1:]
        if name in vars(theirs) and theirs.__module__.split(".")[0] == "diffusers" and name not in vars(nn.Module)
    }
    assert {(owner, name) for owner, name in private if not name.startswith("_abc")} == set()


@torch.no_grad()
def test_blocks_are_compiled_once_for_a_size_and_not_once_for_a_block() -> None:
    """With keys and grounding of their own, by name: the code that is compiled knows no name."""
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=False).eval()
    x, t, text = noisy(1)
    cached = unet.with_cached_keys(text, Grounding(torch.randn(1, SIZES.num_tokens, SIZES.token_width)))
    inputs = x, t, cached.text_RLD, cached.grounding, cached.keys
    expected, graphs = unet(*inputs).sample, []
    widths = {block.norm1.normalized_shape for block in unet.transformers().values()}
    unet.compile_repeated_blocks(backend=lambda graph, _: graphs.append(graph) or graph.forward, dynamic=False)
    assert torch.allclose(unet(*inputs).sample, expected, atol=1e-5)
    assert len(widths) <= len(graphs) < len(unet.transformers())


def test_a_configuration_of_ours_holds_every_parameter_of_the_base(tmp_path: Path) -> None:
    """Diffusers reads the names in a configuration from the signature."""
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=True)
    unet.save_config(tmp_path)
    again = InstanceUNet.from_config(InstanceUNet.load_config(tmp_path))
    assert {name: shape.shape for name, shape in again.state_dict().items()} == {
        name: shape.shape for name, shape in unet.state_dict().items()
    }
    parameters = set(inspect.signature(InstanceUNet.__init__).parameters)
    assert parameters >= set(inspect.signature(UNet2DConditionModel.__init__).parameters)
    assert issubclass(InstanceUNet, ConfigMixin)


def test_the_installed_diffusers_lies_within_the_bounds_that_we_ask_for() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    bounds = re.search(r'"diffusers([^"]+)"', text)
    assert bounds is not None
    assert "<" in bounds[1]
    assert importlib.metadata.version("diffusers") in SpecifierSet(bounds[1])
