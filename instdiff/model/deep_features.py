"""Deep features of a UNet, kept from one step for the next: only the finest level is evaluated anew (Ma et al. 2023).

Consecutive steps change the deep levels little. A full pass hands out what the last block of the way up reads; a
shallow pass evaluates the first block of the way down and that last block alone.

Shapes: R rows, C channels, H x W latents, h x w the grid of the last block, L text positions, D features.
"""

from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor


def full(unet: UNet2DConditionModel, *inputs: Any) -> tuple[Tensor, Tensor]:
    """The network's output, and the features (R, C, h, w) that its last block reads."""
    held: list[Tensor] = []

    def keep(_: object, __: object, options: dict[str, Any]) -> None:
        held.append(options["hidden_states"])

    handle = unet.up_blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        noise: Tensor = unet(*inputs, return_dict=False)[0]
    finally:
        handle.remove()
    return noise, held[0]


def shallow(
    unet: UNet2DConditionModel, x_RCHW: Tensor, timestep: Tensor, text_RLD: Tensor, deep_RChw: Tensor, options: Any
) -> Tensor:
    """The network's output with these deep features; `options` are those of the cross-attentions."""
    emb = unet.time_embedding(unet.get_time_embed(sample=x_RCHW, timestep=timestep.expand(len(x_RCHW))))
    x = unet.conv_in(x_RCHW)
    down, up = unet.down_blocks[0], unet.up_blocks[-1]
    of_text = {"encoder_hidden_states": text_RLD, "cross_attention_kwargs": options}
    skips = [x]
    for number, resnet in enumerate(down.resnets):
        x = resnet(x, emb)
        if hasattr(down, "attentions"):
            x = down.attentions[number](x, **of_text, return_dict=False)[0]
        skips.append(x)
    own = of_text if hasattr(up, "attentions") else {}
    x = up(hidden_states=deep_RChw, temb=emb, res_hidden_states_tuple=tuple(skips), **own)
    noise: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return noise
