"""start: the instance layers before the first step, fresh or from weights that exist, and which of them are trained."""

from pathlib import Path
from typing import Literal

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import PositiveInt

from instdiff.checkpoints import official, reading
from instdiff.model.unet import InstanceUNet
from instdiff.schema import Share, Strict

FUSER_LINEARS = r".*\.fuser\.(linear|attn\.to_[qkv]|attn\.to_out\.0|ff\.net\.0\.proj|ff\.net\.2)"
SMALL = ("lora_", ".alpha_", ".scale_u.")  # what is trained with LoRA: its matrices, gates, ScaleU


class Lora(Strict):
    """Low-rank updates of the fusers' matrices (Hu et al. 2021); UniFusion stays as it is."""

    rank: PositiveInt  # of an update; 4 to 64 are usual
    alpha: PositiveInt  # the update is scaled by alpha / rank
    dropout: Share  # share of its inputs that is left out in training


class Start(Strict):
    """What training starts from."""

    kind: Literal["fresh", "layers", "released", "gligen"]  # from nothing, our layers, a released model, or GLIGEN's
    weights: Path | None  # folder of our layers, file of the released model, or GLIGEN's
    lora: Lora | None  # train low-rank updates and gates alone; null: all layers


def start(unet: InstanceUNet, how: Start) -> None:
    """Give the instance layers their first values and ask gradients of those that are trained, and only those.

    "layers" is a folder of `save_instance_layers`; "released" an official InstanceDiffusion checkpoint, whose base is
    taken too; "gligen" gives the fusers alone, which InstanceDiffusion shares with it.
    ValueError names the file and lists what does not fit.
    """
    if how.kind != "fresh":
        if how.weights is None:
            raise ValueError(f"train.start.kind is {how.kind!r}, which needs train.start.weights")
        _load(unet, how.kind, how.weights)
    unet.freeze_base()
    if how.lora is not None:
        lora = how.lora
        inject_adapter_in_model(
            LoraConfig(target_modules=FUSER_LINEARS, r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout),
            unet,
        )
        for name, weight in unet.named_parameters():
            weight.requires_grad_(any(part in name for part in SMALL))


def merge(unet: InstanceUNet) -> None:
    """Add the low-rank updates, if there are any, to the matrices they update."""
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            unet.set_submodule(name, layer.get_base_layer())


def _load(unet: InstanceUNet, kind: str, weights: Path) -> None:
    if kind == "layers":
        unet.load_instance_layers(weights)
    elif kind == "released":
        released = reading.read(weights)
        official.load_base(unet, released.unet, released.source)
        official.load_instance_layers(unet, released.layers, released.source)
    else:
        official.load_gligen_fusers(unet, weights)
