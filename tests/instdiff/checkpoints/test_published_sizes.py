"""The networks that a file without settings is taken for are those of Stable Diffusion 1.5 as it is published."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from instdiff.checkpoints import official
from instdiff.checkpoints.sizes import Sizes


def test_a_base_has_as_many_weights_as_the_published_one() -> None:
    sizes = Sizes()
    with torch.device("meta"):
        networks = {
            859_520_964: UNet2DConditionModel(**sizes.unet),
            83_653_863: AutoencoderKL(**sizes.vae),
            123_060_480: CLIPTextModel(CLIPTextConfig(**sizes.text)),
        }
    for count, network in networks.items():
        assert sum(weight.numel() for weight in network.parameters()) == count


def test_what_no_weight_tells_is_as_published() -> None:
    text = CLIPTextConfig(**official.SD15_TEXT)
    assert (text.num_attention_heads, text.max_position_embeddings, text.vocab_size) == (12, 77, 49_408)
    assert (official.SD15_UNET["attention_head_dim"], official.SD15_UNET["sample_size"]) == (8, 64)
    assert official.SD15_VAE["scaling_factor"] == pytest.approx(0.18215)
    assert official.SD15_VAE["sample_size"] == 512


def test_the_masks_of_the_released_model_become_as_many_tokens_as_its_positions() -> None:
    released = official.OFFICIAL_UNIFUSION
    assert (released.mask_stride, released.num_mask_tokens) == (32, 64)  # 512 / 32 = 16 a side, in strips of four
    assert released.num_tokens == 4 * 30 + 64
    assert (released.text_width, released.token_width, released.hidden_width) == (768, 768, 3072)
    assert (released.mask_widths, released.mask_depths) == ((96, 192, 384, 768), (3, 3, 9, 3))  # ConvNeXt-T
