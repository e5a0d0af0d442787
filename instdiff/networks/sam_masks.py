"""SAM asked for the masks of boxes: pictures are embedded in batches, and so are boxes decoded.

Legend: B pictures, M boxes of all, N of some or one, D features, h, w latent cells, H, W pixels, S SAM's own side.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn.functional import scaled_dot_product_attention

from instdiff.layouts import geometry
from instdiff.layouts.masks import Mask
from instdiff.networks import loading, weight_files
from instdiff.networks import sam as networks
from instdiff.networks.device import PLAIN, Place
from instdiff.schema import Box

Pixels = NDArray[np.uint8]

RELEASED = {1280: "vit_h", 1024: "vit_l", 768: "vit_b"}  # width of the image encoder -> segment-anything's name


def load(weights: Path) -> Sam:
    """A SAM from a released .pth file, or from a folder of ours; ValueError when it is neither."""
    if weights.is_dir():
        return networks.load(weights)
    state = weight_files.read(weights)
    width = getattr(state.get("image_encoder.pos_embed"), "shape", (None,))[-1]
    if width not in RELEASED:
        raise ValueError(f"{weights}: not the weights of a released SAM (vit_h, vit_l or vit_b)")
    sam = sam_model_registry[RELEASED[width]]()
    loading.fill(sam, state, str(weights))
    return sam.eval()


class Fused(Attention):
    """The decoder's attention in one kernel: the softmax over the few tokens of a box is most of its time otherwise."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As Attention's."""
        queries, keys, values = (
            self._separate_heads(project(tokens), self.num_heads)
            for project, tokens in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        seen: torch.Tensor = self.out_proj(self._recombine_heads(scaled_dot_product_attention(queries, keys, values)))
        return seen


def fused(sam: Sam) -> Sam:
    """The same SAM, faster."""
    for module in sam.mask_decoder.modules():
        if type(module) is Attention:
            module.__class__ = Fused
    return sam


class SegmentAnything:
    """Fills boxes with masks; runs where `where` says."""

    def __init__(self, weights: Path, max_boxes: int, where: Place = PLAIN) -> None:
        device = where.device
        self._sam = fused(load(weights)).to(device, where.dtype)
        self._resize = ResizeLongestSide(self._sam.image_encoder.img_size)
        self._max_boxes, self._dtype = max_boxes, where.dtype

    @torch.no_grad()
    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Mask, float]]]:
        """For each box of each picture (H, W, 3) its likeliest mask (H, W) and SAM's own estimate of the IoU.

        The pictures go through the image encoder together and once, their boxes through the decoder together.
        """
        resized = [torch.from_numpy(self._resize.apply_image(picture).copy()).permute(2, 0, 1) for picture in pixels]
        ready_BCSS = torch.stack([self._sam.preprocess(picture.to(self._sam.device)) for picture in resized]).to(
            self._dtype
        )
        embeddings_BDhw = self._sam.image_encoder(ready_BCSS)
        edges_M4 = torch.cat(
            [self._edges(boxes_N, picture.shape[:2]) for boxes_N, picture in zip(boxes, pixels, strict=True)]
        )
        owners_M = torch.tensor(
            [number for number, boxes_N in enumerate(boxes) for _ in boxes_N], device=edges_M4.device
        )
        together = zip(owners_M.split(self._max_boxes), edges_M4.split(self._max_boxes), strict=True)
        answers = [networks.decoded(self._sam, embeddings_BDhw[owner_N], edges_N4) for owner_N, edges_N4 in together]
        counts = [len(boxes_N) for boxes_N in boxes]
        logits, scores = (torch.cat(some).float().split(counts) for some in zip(*answers, strict=True))
        return [
            list(
                zip(
                    self._sharp(logits_N1hw, its_CHW.shape[1:], picture.shape[:2]),
                    scores_N1[:, 0].tolist(),
                    strict=True,
                )
            )
            for logits_N1hw, scores_N1, its_CHW, picture in zip(logits, scores, resized, pixels, strict=True)
        ]

    def _edges(self, boxes: Sequence[Box], size: tuple[int, int]) -> torch.Tensor:
        edges_N4 = torch.tensor([geometry.in_pixels(box, *size) for box in boxes], device=self._sam.device)
        scaled_N4: torch.Tensor = self._resize.apply_boxes_torch(edges_N4, size)
        return scaled_N4

    def _sharp(self, logits_N1hw: torch.Tensor, resized: Sequence[int], size: tuple[int, int]) -> list[Mask]:
        """The masks at the picture's size, from logits at a quarter of SAM's."""
        threshold, its_own = self._sam.mask_threshold, (tuple(resized), size)
        some = [self._sam.postprocess_masks(part, *its_own) > threshold for part in logits_N1hw.split(self._max_boxes)]
        return list(torch.cat(some)[:, 0].cpu().numpy())
