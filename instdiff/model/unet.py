"""The UNet of diffusers with instance layers: UniFusion, gated self-attention in every transformer block, ScaleU.

    unet = InstanceUNet.from_base(base, UniFusionConfig(max_instances=6, ...), scale_u=True)   # gates 0: same as base
    unet.freeze_base()                                           # only instance_layers() require gradients
    slots = unet.unifusion.config
    conditions = collate([complete(layout, slots) for layout in layouts], phrase_features, slots)
    grounding = unet.ground(conditions)                          # tokens, once per layout (differentiable)
    grounding = unet.ground(conditions, masked=(16, 16))         # with instance-masked attention, latents 16 x 16
    noise = unet(latents_B4HW, timestep_B, text_BLD, grounding).sample                       # gate 1
    noise = unet(latents_B4HW, timestep_B, text_BLD, grounding.at(0.5)).sample               # 0: fusers are skipped
    noise = unet(latents_B4HW, timestep_B, text_BLD).sample      # no grounding at all: fusers are skipped
    cached = unet.with_cached_keys(text_BLD, grounding)          # with keys and values of all attention layers, to
    noise = unet(latents_B4HW, timestep_B, cached.text_RLD, cached.grounding, cached.keys).sample  # use in many steps
    unet.save_instance_layers(folder)                            # config.json + instance_layers.safetensors
    unet = InstanceUNet.from_base_and_layers(base, folder)       # the base and what was saved

A forward pass is a function of its arguments: nothing is set from outside, nothing is drawn.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin, UNet2DConditionModel  # noqa: F401 - a pipeline's loader looks for ModelMixin here
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from safetensors.torch import save_file
from torch import Tensor, nn

from instdiff.files import atomic
from instdiff.model import attention_mask, deep_features
from instdiff.model.attention import attach_fuser
from instdiff.model.conditions import Conditions
from instdiff.model.drawing import AS_RELEASED, Drawing
from instdiff.model.grounding import Grounding, KeyValues, TextAndGrounding, heads, kv_to
from instdiff.model.scaleu import ScaleU
from instdiff.model.unifusion import UniFusion, UniFusionConfig
from instdiff.networks import loading, weight_files
from instdiff.schema import Compat, Strict

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "instance_layers.safetensors"


BASE_PARAMETERS = frozenset(inspect.signature(UNet2DConditionModel.__init__).parameters) - {"self"}


def _with_base_parameters(init: Callable[..., None]) -> Callable[..., None]:
    """The signature with the base's parameters in place of `**base`: by it diffusers reads a configuration."""
    own = inspect.signature(init).parameters.values()
    base = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in sorted(BASE_PARAMETERS)]
    described: Any = init
    described.__signature__ = inspect.Signature([*(each for each in own if each.name != "base"), *base])
    return init


class LayersConfig(Strict):
    """What is stated of instance layers beside their weights."""

    unifusion_config: UniFusionConfig
    scale_u: bool
    drawing: Drawing | None = None  # how they were trained and are best drawn; null: nobody has said


class InstanceUNet(UNet2DConditionModel):
    """UNet2DConditionModel(**base) with instance layers; `save_pretrained` and `from_pretrained` hold all of it."""

    @_with_base_parameters
    def __init__(
        self, *, unifusion_config: dict[str, Any], scale_u: bool, drawing: dict[str, Any] | None = None, **base: Any
    ) -> None:
        super().__init__(**base | {"attention_type": "default"})  # fusers are ours
        config = UniFusionConfig.model_validate(unifusion_config)
        self.register_to_config(unifusion_config=config.model_dump(mode="json"), scale_u=scale_u)
        self.register_to_config(drawing=None if drawing is None else Drawing.model_validate(drawing).model_dump())
        self.unifusion = UniFusion(config)
        for name, block in self.transformers().items():
            attach_fuser(name, block, config.token_width)
        if scale_u:
            _add_scale_u(self)

    @classmethod
    def from_base(
        cls,
        base: UNet2DConditionModel,
        unifusion: UniFusionConfig,
        *,
        scale_u: bool,
        drawing: Drawing | None = None,
    ) -> InstanceUNet:
        """A copy of `base` with fresh instance layers: gates and scales are 0, so it computes what `base` computes."""
        config = {name: value for name, value in base.config.items() if name in BASE_PARAMETERS}
        how = None if drawing is None else drawing.model_dump()
        unet = cls(**config, unifusion_config=unifusion.model_dump(mode="json"), scale_u=scale_u, drawing=how)
        missing, unexpected = unet.load_state_dict(base.state_dict(), strict=False)
        if unexpected or set(missing) != set(unet.instance_layers()):
            raise ValueError(f"the base does not fit: missing {missing[:5]}, unexpected {unexpected[:5]}")
        if base.dtype != unet.dtype:
            unet.to(dtype=base.dtype)
        unet.to(base.device)
        return unet

    @classmethod
    def from_base_and_layers(cls, base: UNet2DConditionModel, folder: Path) -> InstanceUNet:
        """`base`, whose weights it shares, with the instance layers that `save_instance_layers` wrote."""
        stated = layers_config(folder / CONFIG_FILE)
        config = {name: value for name, value in base.config.items() if name in BASE_PARAMETERS}
        with torch.device("meta"):
            unet = cls(**config, **stated.model_dump(mode="json"))
        unet.load_state_dict(base.state_dict(), strict=False, assign=True)
        unet.load_instance_layers(folder, base.dtype)
        return unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        grounding: Grounding | None = None,
        keys: KeyValues | None = None,
        **options: Any,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """Predicted noise (B, 4, h, w) at `.sample`; `options` are those of UNet2DConditionModel.

        `keys` are those of the text in the cross-attentions, from `with_cached_keys`; by default they are computed.
        """
        attention_kwargs = dict(options.pop("cross_attention_kwargs", None) or {}) | _of_blocks(grounding, keys)
        options["cross_attention_kwargs"] = attention_kwargs or None
        return super().forward(sample, timestep, encoder_hidden_states, **options)

    def with_deep_features(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """The noise of a forward pass of these inputs, and what `shallow` needs of it."""
        return deep_features.full(self, *inputs)

    def shallow(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        grounding: Grounding | None = None,
        keys: KeyValues | None = None,
        *,
        deep: Tensor,
    ) -> Tensor:
        """Predicted noise (B, 4, h, w) from the finest level anew and the deep features of an earlier step."""
        options = _of_blocks(grounding, keys) or None
        return deep_features.shallow(self, sample, timestep, encoder_hidden_states, deep, options)

    def compile_repeated_blocks(self, *args: Any, **options: Any) -> None:
        """`torch.compile` of what all transformer blocks have in common: compiled once for a size, not for a block."""
        for block in self.transformers().values():
            block.evaluate = torch.compile(block.evaluate, *args, **options)

    def ground(
        self,
        conditions: Conditions,
        *,
        gate: float = 1.0,
        masked: tuple[int, int] | None = None,
        finest: bool = False,
        compat: Compat | None = None,
    ) -> Grounding:
        """Tokens of the conditions and, for latents of `masked` = (height, width), the masks of every level.

        `finest` masks the level of the most tokens alone.
        """
        if masked is None:
            return Grounding(self.unifusion(conditions), gate=gate)
        num_mask_tokens = self.unifusion.config.num_mask_tokens
        grids = self.attention_grids(masked)[: 1 if finest else None]
        allowed = attention_mask.build(conditions, grids, num_mask_tokens, compat)
        return Grounding(self.unifusion(conditions), allowed, gate)

    @torch.no_grad()
    def with_cached_keys(self, text_BLD: Tensor, grounding: Grounding | None = None) -> TextAndGrounding:
        """Text and grounding with the keys and values of every layer, computed where the weights are."""
        home, precision = self.conv_in.weight.device, self.conv_in.weight.dtype
        text = text_BLD.to(home, precision)
        tokens = None if grounding is None else grounding.tokens_BTW.to(home, precision)
        of_text, of_tokens = {}, {}
        for name, block in self.transformers().items():
            cross = block.attn2
            of_text[f"{name}.attn2"] = heads(cross, cross.to_k(text)), heads(cross, cross.to_v(text))
            if tokens is not None:
                of_tokens[block.fuser.name] = block.fuser.keys(tokens)
        if grounding is not None:
            grounding = replace(grounding, keys=kv_to(of_tokens, grounding.tokens_BTW.device))
        return TextAndGrounding(text_BLD, grounding, kv_to(of_text, text_BLD.device))

    @property
    def drawing(self) -> Drawing:
        """How the layers are best drawn, as they state it; those of the released script where they do not."""
        return AS_RELEASED if self.config.drawing is None else Drawing.model_validate(self.config.drawing)

    def transformers(self) -> dict[str, BasicTransformerBlock]:
        """The transformer blocks by name."""
        return {name: block for name, block in self.named_modules() if isinstance(block, BasicTransformerBlock)}

    def attention_grids(self, latent: tuple[int, int]) -> list[tuple[int, int]]:
        """(height, width) of the levels that have transformer blocks, for latents of this size."""
        last = len(self.down_blocks) - 1
        depths = {depth for depth, block in enumerate(self.down_blocks) if hasattr(block, "attentions")} | {last}
        return [(-(-latent[0] // 2**depth), -(-latent[1] // 2**depth)) for depth in sorted(depths)]

    def instance_layers(self) -> dict[str, nn.Parameter]:
        """Parameters of UniFusion, fusers and ScaleU by name: all that is trained."""
        return {name: parameter for name, parameter in self.named_parameters() if is_instance_layer(name)}

    def freeze_base(self) -> InstanceUNet:
        """Let only the instance layers require gradients."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(is_instance_layer(name))
        return self

    def disable_scale_u(self) -> InstanceUNet:
        """Set every ScaleU to the identity."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if ".scale_u." in name:
                    parameter.zero_()
        return self

    def save_instance_layers(self, folder: Path) -> None:
        """Write the instance layers, their sizes and how they are drawn; the folder appears when it is complete."""
        tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in self.instance_layers().items()}
        config = {name: self.config[name] for name in LayersConfig.model_fields}
        with atomic.folder(folder) as part:
            save_file(tensors, part / WEIGHTS_FILE)
            (part / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def load_instance_layers(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Read what `save_instance_layers` wrote; ValueError lists what is missing, unknown, misshapen, not finite."""
        file = folder / WEIGHTS_FILE
        places = {name: name for name in self.instance_layers()}
        loading.fill(self, weight_files.read(file), str(file), places, dtype)


def _of_blocks(grounding: Grounding | None, keys: KeyValues | None) -> dict[str, Any]:
    """What is handed to the transformer blocks as options of their cross-attention."""
    seen = grounding is not None and grounding.gate != 0
    return ({"grounding": grounding} if seen else {}) | ({"keys": keys} if keys else {})


def is_instance_layer(name: str) -> bool:
    """Does the parameter belong to UniFusion, a fuser or ScaleU?"""
    return name.startswith("unifusion.") or ".fuser." in name or ".scale_u." in name


def layers_config(file: Path) -> LayersConfig:
    """What stands beside saved instance layers."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        return LayersConfig.model_validate({name: config[name] for name in LayersConfig.model_fields if name in config})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{file}: does not state the sizes of instance layers") from error


def _add_scale_u(unet: UNet2DConditionModel) -> None:
    """Give each residual block of the way up a ScaleU that changes its input, features joined with skip features."""
    skips = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        skips += [layer.out_channels for layer in [*block.resnets, *(block.downsamplers or [])]]
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.scale_u = ScaleU(resnet.in_channels - skips.pop())
            resnet.register_forward_pre_hook(_Scaled(resnet.scale_u))


class _Scaled:
    """A hook that scales the first input; an object, so that a copied model gets a hook of its own."""

    def __init__(self, scale_u: ScaleU) -> None:
        self.scale_u = scale_u

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.scale_u(inputs[0]), *inputs[1:])
