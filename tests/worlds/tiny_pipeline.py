"""A pipeline of the real classes, small enough to draw in milliseconds: the miniature's words, random networks."""

import functools
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instdiff.model.drawing import AS_RELEASED
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusionConfig
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler

TOKENIZER = Path(__file__).parents[2] / "weights" / "miniature" / "clip" / "text"
SIZES = UniFusionConfig(
    max_instances=30,
    text_width=16,
    token_width=16,
    hidden_width=16,
    num_scribble_points=4,
    num_outline_points=8,
    mask_size=32,
    mask_widths=(4, 8),
    mask_depths=(1, 1),
)


def base() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def words() -> tuple[CLIPTextModel, CLIPTokenizer]:
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config), tokenizer


def build(solver: str = "plms") -> InstanceDiffusionPipeline:
    """With every gate and scale away from zero, as after training."""
    torch.manual_seed(0)
    text_encoder, tokenizer = words()
    unet = InstanceUNet.from_base(base(), SIZES, scale_u=True, drawing=AS_RELEASED)
    with torch.no_grad():
        for parameter in unet.instance_layers().values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    models = [model.requires_grad_(False).eval() for model in (vae(), text_encoder, unet)]
    pipe = InstanceDiffusionPipeline(models[0], models[1], tokenizer, models[2], scheduler(solver))
    pipe.set_progress_bar_config(disable=True)
    return pipe


shared = functools.cache(build)  # for tests that do not change it
