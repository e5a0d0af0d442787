"""SAM 2 as a segmenter, through transformers: pictures are embedded in batches, boxes decoded together.

Legend: B pictures, N boxes of one, H, W its pixels, S side of the square it is seen as.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2Model, Sam2Processor

from instdiff.layouts import geometry
from instdiff.layouts.masks import Mask
from instdiff.networks import loading
from instdiff.networks.device import PLAIN, Place
from instdiff.schema import Box

Pixels = NDArray[np.uint8]


class Sam2:
    """Fills boxes with masks; runs where `where` says."""

    def __init__(self, weights: Path, max_boxes: int, where: Place = PLAIN) -> None:
        device = where.device
        self._processor: Any = Sam2Processor.from_pretrained(weights, local_files_only=True)
        self._model: Any = loading.from_folder(Sam2Model, weights, where.dtype)
        self._model.to(device)
        self._max_boxes = max_boxes

    @torch.no_grad()
    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Mask, float]]]:
        """For each box of each picture (H, W, 3) its likeliest mask (H, W) and SAM's own estimate of the IoU.

        The pictures go through the image encoder together and once, the boxes of one through the decoder together.
        """
        ready = self._processor(images=list(pixels), return_tensors="pt", input_data_format="channels_last")
        ready_B3SS = ready.pixel_values.to(self._model.device, self._model.dtype)
        scales = self._model.get_image_embeddings(ready_B3SS)
        return [
            self._filled([scale[place : place + 1] for scale in scales], picture.shape[:2], boxes_N)
            for place, (picture, boxes_N) in enumerate(zip(pixels, boxes, strict=True))
        ]

    def _filled(
        self, embedding: list[torch.Tensor], size: tuple[int, int], boxes: Sequence[Box]
    ) -> list[tuple[Mask, float]]:
        filled: list[tuple[Mask, float]] = []
        for start in range(0, len(boxes), self._max_boxes):
            edges = [list(geometry.in_pixels(box, *size)) for box in boxes[start : start + self._max_boxes]]
            inputs = self._processor(input_boxes=[edges], original_sizes=[size], return_tensors="pt")
            outputs = self._model(
                image_embeddings=embedding,
                input_boxes=inputs.input_boxes.to(self._model.device, self._model.dtype),
                multimask_output=False,
            )
            (masks_N1HW,) = self._processor.post_process_masks(outputs.pred_masks.float(), [size])
            filled += zip(masks_N1HW[:, 0].cpu().numpy(), outputs.iou_scores[0, :, 0].tolist(), strict=True)
        return filled
