"""A text encoder and a VAE of a few hundred weights, at random."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from instdiff.foundation.clip import new_tokenizer

LENGTH = 40  # tokens of a text


def write(root: Path, width: int = 16) -> None:
    """As the folders text and vae below `root`; a text's tokens have `width` numbers."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer(LENGTH)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        eos_token_id=tokenizer.eos_token_id,
    )
    CLIPTextModel(config).save_pretrained(root / "text")
    tokenizer.save_pretrained(root / "text")
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.5,
    )
    vae.save_pretrained(root / "vae")
