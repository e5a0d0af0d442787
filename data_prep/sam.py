"""SAM as a segmenter, with segment-anything's own classes: pictures are embedded in batches, boxes decoded together.

Legend: B pictures, N boxes of one, H, W its pixels.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

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

    def __init__(self, weights: Path) -> None:
        self._sam = load(weights).to("cuda" if torch.cuda.is_available() else "cpu")
        self._resize = ResizeLongestSide(self._sam.image_encoder.img_size)

    @torch.no_grad()
    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Mask, float]]]:
        """For each box of each picture (H, W, 3) its likeliest mask (H, W) and SAM's own estimate of the IoU."""
        questions = [self._question(*one) for one in zip(pixels, boxes, strict=True)]
        return [_masks(answer) for answer in self._sam(questions, multimask_output=False)]

    def _question(self, pixels_HWC: Pixels, boxes: Sequence[Box]) -> dict[str, Any]:
        size = pixels_HWC.shape[:2]
        resized_HWC = self._resize.apply_image(pixels_HWC)
        boxes_N4 = torch.tensor([geometry.in_pixels(box, *size) for box in boxes], device=self._sam.device)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(resized_HWC.transpose(2, 0, 1))).to(self._sam.device),
            "boxes": self._resize.apply_boxes_torch(boxes_N4, size),
            "original_size": size,
        }


def _masks(answer: dict[str, torch.Tensor]) -> list[tuple[Mask, float]]:
    masks_NHW, scores_N = answer["masks"][:, 0].cpu().numpy(), answer["iou_predictions"][:, 0].tolist()
    return list(zip(masks_NHW, scores_N, strict=True))
