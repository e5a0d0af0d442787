"""SAM of any size in segment-anything's own classes: built, kept in a folder, asked for the mask of a box.

Legend: N boxes, D features, h, w latent cells.
"""

import json
from functools import partial
from pathlib import Path

import torch
from pydantic import PositiveInt
from safetensors.torch import save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor

from instdiff.files.texts import read_json
from instdiff.networks import loading, weight_files
from instdiff.schema import Strict

WEIGHTS, SIZES = "model.safetensors", "config.json"
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Sizes(Strict):
    """A SAM of any size: what config.json beside model.safetensors holds."""

    image_size: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    num_heads: PositiveInt
    window_size: PositiveInt
    global_attention: tuple[int, ...]  # the layers that see the whole picture
    prompt_width: PositiveInt
    mask_width: PositiveInt


def build(sizes: Sizes) -> Sam:
    """A SAM with random weights."""
    grid = sizes.image_size // sizes.patch_size
    encoder = ImageEncoderViT(
        img_size=sizes.image_size,
        patch_size=sizes.patch_size,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        mlp_ratio=4,
        out_chans=sizes.prompt_width,
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=sizes.window_size,
        global_attn_indexes=sizes.global_attention,
    )
    prompts = PromptEncoder(
        embed_dim=sizes.prompt_width,
        image_embedding_size=(grid, grid),
        input_image_size=(sizes.image_size, sizes.image_size),
        mask_in_chans=sizes.mask_width,
    )
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=sizes.prompt_width, mlp_dim=8 * sizes.prompt_width, num_heads=4
    )
    decoder = MaskDecoder(
        transformer_dim=sizes.prompt_width,
        transformer=transformer,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=sizes.prompt_width,
    )
    return Sam(encoder, prompts, decoder, list(PIXEL_MEAN), list(PIXEL_STD)).eval()


def load(folder: Path) -> Sam:
    """The SAM of a folder, in fp32 and evaluation mode."""
    sam = build(Sizes.model_validate(read_json(folder / SIZES)))
    loading.fill(sam, weight_files.read(folder / WEIGHTS), str(folder / WEIGHTS))
    return sam


def save(sam: Sam, sizes: Sizes, folder: Path) -> None:
    """Write a SAM in half precision."""
    state = {name: value.half().contiguous() for name, value in sam.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    (folder / SIZES).write_text(json.dumps(sizes.model_dump(), indent=2) + "\n")


def decoded(sam: Sam, embeddings_NDhw: Tensor, boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, 1, 4h, 4w) of the mask of each box, in pixels of the SAM's own size, and its IoU as SAM guesses it.

    Each box has the embedding of its own picture, or all share one (1, D, h, w).
    """
    sparse, dense_NDhw = sam.prompt_encoder(points=None, boxes=boxes_N4, masks=None)
    # The decoder takes one picture and adds it to each dense prompt; ours are added before, each to its own.
    logits, scores = sam.mask_decoder(
        image_embeddings=boxes_N4.new_zeros(1, 1, 1, 1),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=embeddings_NDhw + dense_NDhw,
        multimask_output=False,
    )
    return logits, scores
