"""SAM as a segmenter, with segment-anything's own classes: pictures are embedded in batches, boxes decoded together.

Legend: B pictures, N boxes of one, H, W its pixels.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide

from instdiff import geometry
from instdiff.masks import Mask
from instdiff.schema import Box, Strict

Pixels = NDArray[np.uint8]

RELEASED = {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}  # width of the image encoder -> segment-anything's name
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Sizes(Strict):
    """A SAM of any size: what config.json beside model.safetensors holds."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    num_heads: int
    window_size: int
    global_attention: tuple[int, ...]  # the layers that see the whole picture
    prompt_width: int
    mask_width: int


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


def load(weights: Path) -> Sam:
    """A SAM from a released .pth file, or from a folder of ours; ValueError when it is neither."""
    if weights.is_dir():
        sam = build(Sizes.model_validate(json.loads((weights / "config.json").read_text())))
        sam.load_state_dict(load_file(weights / "model.safetensors"))
        return sam
    state = torch.load(weights, map_location="cpu", weights_only=True)
    width = state["image_encoder.pos_embed"].shape[-1] if "image_encoder.pos_embed" in state else None
    if width not in RELEASED:
        raise ValueError(f"{weights}: not the weights of a released SAM (vit_h, vit_l or vit_b)")
    sam = sam_model_registry[RELEASED[width]]()
    sam.load_state_dict(state)
    return sam.eval()


class SegmentAnything:
    """Fills boxes with masks; runs on a GPU where there is one."""

    def __init__(self, weights: Path, max_boxes: int) -> None:
        self._sam = load(weights).to("cuda" if torch.cuda.is_available() else "cpu")
        self._resize = ResizeLongestSide(self._sam.image_encoder.img_size)
        self._max_boxes = max_boxes

    @torch.no_grad()
    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Mask, float]]]:
        """For each box of each picture (H, W, 3) its likeliest mask (H, W) and SAM's own estimate of the IoU.

        The pictures go through the image encoder together and once, the boxes of one through the decoder together.
        """
        resized = [torch.from_numpy(self._resize.apply_image(one).copy()).permute(2, 0, 1) for one in pixels]
        ready_BCSS = torch.stack([self._sam.preprocess(one.to(self._sam.device)) for one in resized])
        embeddings_BDhw = self._sam.image_encoder(ready_BCSS)
        return [
            self._filled(embedding_Dhw[None], one_CHW.shape[1:], one.shape[:2], its)
            for embedding_Dhw, one_CHW, one, its in zip(embeddings_BDhw, resized, pixels, boxes, strict=True)
        ]

    def _filled(
        self, embedding_1Dhw: torch.Tensor, resized: Sequence[int], size: tuple[int, int], boxes: Sequence[Box]
    ) -> list[tuple[Mask, float]]:
        edges_N4 = torch.tensor([geometry.in_pixels(box, *size) for box in boxes], device=self._sam.device)
        filled: list[tuple[Mask, float]] = []
        for some_N4 in self._resize.apply_boxes_torch(edges_N4, size).split(self._max_boxes):
            sparse, dense = self._sam.prompt_encoder(points=None, boxes=some_N4, masks=None)
            logits_N1hw, scores_N1 = self._sam.mask_decoder(
                image_embeddings=embedding_1Dhw,
                image_pe=self._sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            masks_N1HW = self._sam.postprocess_masks(logits_N1hw, tuple(resized), size) > self._sam.mask_threshold
            filled += zip(masks_N1HW[:, 0].cpu().numpy(), scores_N1[:, 0].tolist(), strict=True)
        return filled
