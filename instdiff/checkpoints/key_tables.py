"""Names of weights elsewhere: pure tables from our names to those of the released files, read in both directions.

The released UNet, VAE and text encoder follow the latent-diffusion code ("official"); the port to diffusers keeps
diffusers' names for the UNet and the official ones for the instance layers ("port").
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Rename = Callable[[str], str]

_NULLS = {
    "text": "null_positive_feature",
    "box": "null_position_feature",
    "point": "null_point_feature",
    "scribble": "null_scribble_feature",
    "outline": "null_polygon_feature",
    "mask": "null_seg_feature",
}
_MLPS = ("box", "point", "scribble", "outline", "mask")
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNIFUSION = {
    "mask_in": "in_conv",
    "mask_trunk": "convnext_tiny_backbone",
    "mask_position": "pos_embedding",
    **{f"null.{ours}": theirs for ours, theirs in _NULLS.items()},
    **{f"mlps.{name}": f"linears_list.{number}" for number, name in enumerate(_MLPS)},
}
_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE_PARTS = {
    r"^decoder\.up_blocks\.(\d+)": lambda m, last: f"decoder.up.{last - int(m[1])}",
    r"^encoder\.down_blocks\.": "encoder.down.",
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0": "mid.attn_1",
    r"\.resnets\.": ".block.",
    r"\.(up|down)samplers\.0": r".\1sample",
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"attn_1\.group_norm": "attn_1.norm",
    r"attn_1\.to_([qkv])": r"attn_1.\1",
    r"attn_1\.(query|key|value)": lambda m, _: f"attn_1.{m[1][0]}",  # these two: of diffusers before 0.18
    r"attn_1\.proj_attn": "attn_1.proj_out",
    r"attn_1\.to_out\.0": "attn_1.proj_out",
}


@dataclass(frozen=True)
class UNetShape:
    """What of a UNet's structure its official names depend on."""

    layers_per_block: int
    up_blocks_with_attention: frozenset[int]


def shape_of(names: Iterable[str]) -> UNetShape:
    """The structure of a UNet, or of instance layers alone, as our names or the port's tell it."""
    names = list(names)
    matches = [re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", name) for name in names]
    places = [(int(each[1]), each[2], int(each[3])) for each in matches if each]
    attentive = frozenset(block for block, kind, _ in places if kind == "attentions")
    return UNetShape(max((layer for *_, layer in places), default=0), attentive)


def official_unet(name: str, shape: UNetShape) -> str:
    """Our name of a UNet weight -> the released file's."""
    if instance := _instance_layer(name, shape):
        return instance
    return _residual(_block(name, shape) or _renamed(name, _ENDS))


def port_unet(name: str, shape: UNetShape) -> str:
    """Our name of a UNet weight -> that of the port to diffusers."""
    return _instance_layer(name, shape) or name


def official_vae(name: str, num_levels: int) -> str:
    """Diffusers' name of a VAE weight -> the released file's; the four attention matrices there are 1 x 1 kernels."""
    for pattern, theirs in _VAE_PARTS.items():
        name = re.sub(pattern, theirs if isinstance(theirs, str) else lambda m, t=theirs: t(m, num_levels - 1), name)
    return name


def official_text(name: str) -> str:
    """Transformers' name of a CLIP text weight (with or without the level `text_model`) -> the released file's."""
    return "transformer.text_model." + name.removeprefix("text_model.")


def table(names: Iterable[str], rename: Rename) -> Mapping[str, str]:
    """Theirs -> ours for all our names; ValueError when two of ours share one of theirs."""
    theirs_to_ours: dict[str, str] = {}
    for ours in names:
        theirs = rename(ours)
        if theirs in theirs_to_ours:
            raise ValueError(f"{ours} and {theirs_to_ours[theirs]} would both be {theirs}")
        theirs_to_ours[theirs] = ours
    return theirs_to_ours


def _instance_layer(name: str, shape: UNetShape) -> str | None:
    """UniFusion and ScaleU; the fusers keep their place in their block."""
    if name.startswith("unifusion."):
        return "position_net." + _renamed(name.removeprefix("unifusion."), _UNIFUSION)
    scale = re.fullmatch(r"up_blocks\.(\d+)\.resnets\.(\d+)\.scale_u\.(backbone|skip)", name)
    if scale is None:
        return None
    number = int(scale[1]) * (shape.layers_per_block + 1) + int(scale[2])
    return f"scaleu_{'b' if scale[3] == 'backbone' else 's'}_{number}"


def _block(name: str, shape: UNetShape) -> str | None:
    """Blocks on the way down and up, which the released code counts in one row each."""
    place = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if place is None:
        return None
    way, block, kind, layer, rest = place[1], int(place[2]), place[3], int(place[4]), place[5]
    step = shape.layers_per_block + 1
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * step}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{block * step + step - 1}.{1 + (block in shape.up_blocks_with_attention)}.{rest}"
    number = block * step + layer + (way == "down")
    return f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}.{rest}"


def _residual(name: str) -> str:
    """Parts of a residual block, wherever it stands."""
    place = re.fullmatch(r"((?:input|output)_blocks\.\d+\.0|middle_block\.[02])\.(\w+)\.(weight|bias)", name)
    return f"{place[1]}.{_RESIDUAL[place[2]]}.{place[3]}" if place and place[2] in _RESIDUAL else name


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    """The name with its first part exchanged; KeyError when it starts with none of `parts`."""
    for ours, theirs in parts.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)
