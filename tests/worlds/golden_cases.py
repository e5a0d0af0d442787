"""Golden vectors: the network they were made with, and their inputs as our conditions."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from golden_weights import drawn
from safetensors.torch import load_file
from torch import Tensor

from instdiff.checkpoints import official as checkpoint
from instdiff.checkpoints.key_tables import official_unet, table
from instdiff.data.format_dropout import DropChances
from instdiff.layouts.complete import CompleteLayout
from instdiff.layouts.formats import FORMATS, Format
from instdiff.model.conditions import Conditions, collate, keep
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig

FOLDER = Path(__file__).parents[1] / "golden"
UNIFUSION = UniFusionConfig(
    max_instances=30,
    text_width=64,
    token_width=64,
    hidden_width=96,
    num_scribble_points=20,
    num_outline_points=256,
    mask_size=512,
    mask_widths=(16, 32, 64, 128),
    mask_depths=(3, 3, 9, 3),
)
UNET = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
KEPT: dict[str, set[Format]] = {  # what the released configurations keep, and each format alone
    "box": {"box", "point"},
    "point": {"point"},
    "scribble": {"box", "point", "scribble", "outline", "mask"},
    "mask": {"box", "point", "outline", "mask"},
    "only_box": {"box"},
    "only_point": {"point"},
    "only_scribble": {"scribble"},
    "only_mask": {"outline", "mask"},
    "all_dropped": {"box"},
}
REFERENCE_ODDS = DropChances(
    box=0.1,
    point=0.1,
    scribble=0.1,
    mask=0.1,
    only_point=0.1,
    only_scribble=0,
    only_mask=0,
    no_scribble=0.1,
    only_box=0,
    everything=0.1,
)  # of the released training


@functools.cache
def unet() -> InstanceUNet:
    """The small network, every weight drawn from its name."""
    with torch.device("meta"):
        model = InstanceUNet(**UNET, unifusion_config=UNIFUSION.model_dump(), scale_u=True).eval()
    shapes = {name: tensor.shape for name, tensor in checkpoint.official(model).items()}
    checkpoint.load_unet(model, drawn(shapes), "drawn")
    return model


@functools.cache
def tensors(name: str) -> dict[str, Tensor]:
    """The vectors of a file."""
    return load_file(FOLDER / f"{name}.safetensors")


def inputs(name: str, prefix: str = "in/") -> dict[str, Tensor]:
    """The tensors of a file under a prefix."""
    return {key.removeprefix(prefix): value for key, value in tensors(name).items() if key.startswith(prefix)}


def conditions(vectors: Mapping[str, Tensor]) -> Conditions:
    """As the released code reads its inputs: a filled slot counts as given, whatever its numbers."""
    filled = vectors["masks"] > 0
    drawn_somewhere = {name: filled | (vectors[name].sum(-1) > 0) for name in ("scribbles", "polygons")}
    points = vectors["points"] if "points" in vectors else (vectors["boxes"][..., :2] + vectors["boxes"][..., 2:]) / 2
    nothing = collate([CompleteLayout("", ())] * len(filled), {"": torch.zeros(UNIFUSION.text_width)}, UNIFUSION)
    return replace(
        nothing,
        text_BND=vectors["text_embeddings"],
        filled_BN=filled,
        box_BN4=vectors["boxes"],
        box_given_BN=filled,
        point_BN2=points,
        point_given_BN=filled,
        scribble_BNS=vectors["scribbles"],
        scribble_given_BN=drawn_somewhere["scribbles"],
        outline_BNP=vectors["polygons"],
        outline_given_BN=drawn_somewhere["polygons"],
        mask_BNHW=vectors["segs"] > 0,
        mask_given_BN=vectors["segs"].flatten(2).sum(-1) > 0,
    )


def kept(name: str, vectors: Mapping[str, Tensor]) -> Conditions:
    """The conditions of one configuration."""
    return keep(conditions(vectors), KEPT[name])


def without_points(vectors: Mapping[str, Tensor]) -> Conditions:
    """Conditions of inputs whose points are the centres of their boxes."""
    return conditions({name: value for name, value in vectors.items() if name != "points"})


def difference(tensor: Tensor, other: Tensor) -> float:
    """Largest difference between two tensors of the same shape."""
    assert tensor.shape == other.shape
    return float((tensor - other).abs().max())


def dropped(whole: Conditions, *names: Format) -> Conditions:
    """Without these formats."""
    return replace(keep(whole, set(FORMATS) - set(names)))


def ours(official: Iterable[str]) -> dict[str, str]:
    """Our names of official ones."""
    shape = checkpoint.unet_shape(unet())
    names = table(unet().state_dict(), lambda name: official_unet(name, shape))
    return {name: names[name] for name in official}
