"""SAM as a segmenter, with segment-anything's own classes: pictures are embedded in batches, boxes decoded together.

Legend: B pictures, N boxes of one, H, W its pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from instdiff import geometry
from instdiff import sam as networks
from instdiff.masks import Mask
from instdiff.schema import Box

Pixels = NDArray[np.uint8]

RELEASED = {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}  # width of the image encoder -> segment-anything's name


def load(weights: Path) -> Sam:
    """A SAM from a released .pth file, or from a folder of ours; ValueError when it is neither."""
    if weights.is_dir():
        return networks.load(weights)
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
            logits_N1hw, scores_N1 = networks.decoded(self._sam, embedding_1Dhw, some_N4)
            masks_N1HW = self._sam.postprocess_masks(logits_N1hw, tuple(resized), size) > self._sam.mask_threshold
            filled += zip(masks_N1HW[:, 0].cpu().numpy(), scores_N1[:, 0].tolist(), strict=True)
        return filled
