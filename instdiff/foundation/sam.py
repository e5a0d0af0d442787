"""sam: scenes -> a small SAM that fills boxes with masks, in segment-anything's own classes.

It is asked in one way only, a box for one mask, so its other prompts and its three masks of a point stay as they began.
Legend: B pictures, N boxes of one, H, W its pixels, D features, h, w latent cells.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import NonNegativeInt, PositiveInt
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.layouts import geometry
from instdiff.networks.device import Place
from instdiff.networks.sam import Sizes, build, decoded, load, save
from instdiff.randomness import generator
from instdiff.schema import Strict
from instdiff.training.engine import Engine, Optimisation
from instdiff.training.loop import fit
from instdiff.work import resume
from instdiff.world import corpus
from instdiff.world.arrangements import GROUPS, SIZE
from instdiff.world.scenes import Scene


class Params(Strict):
    """How it is trained."""

    seed: int
    num_scenes: PositiveInt
    workers: NonNegativeInt
    sizes: Sizes
    batch_size: PositiveInt  # pictures, each with all its boxes
    optimisation: Optimisation
    device: Place


def embedded(sam: Sam, pictures_BHW3: npt.NDArray[np.uint8]) -> Tensor:
    """Embeddings (B, D, h, w) of pictures of the SAM's own size."""
    pixels_B3HW = torch.from_numpy(pictures_BHW3).permute(0, 3, 1, 2)
    features: Tensor = sam.image_encoder(sam.preprocess(pixels_B3HW.to(sam.device)))
    return features


def _truth(scene: Scene) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) in pixels and masks (N, H, W) in {0, 1} of a scene."""
    boxes = torch.tensor([geometry.in_pixels(part.box, SIZE, SIZE) for part in scene.instances], dtype=torch.float32)
    return boxes, torch.from_numpy(np.stack([part.mask for part in scene.instances])).float()


def _filled(sam: Sam, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and exact masks (N, H, W) of all instances of some scenes, and the guessed IoU (N)."""
    truths = [tuple(part.to(sam.device) for part in _truth(scene)) for scene in scenes]
    embeddings = embedded(sam, np.stack([scene.picture for scene in scenes]))
    answers = [decoded(sam, embedding[None], boxes) for embedding, (boxes, _) in zip(embeddings, truths, strict=True)]
    logits = F.interpolate(
        torch.cat([mask_logits for mask_logits, _ in answers]), (SIZE, SIZE), mode="bilinear", align_corners=False
    )
    return logits[:, 0], torch.cat([masks for _, masks in truths]), torch.cat([scores[:, 0] for _, scores in answers])


def iou(logits_NHW: Tensor, masks_NHW: Tensor) -> Tensor:
    """Of the pixels above zero with the exact mask, (N)."""
    predicted, true = logits_NHW > 0, masks_NHW > 0
    return (predicted & true).sum((1, 2)) / (predicted | true).sum((1, 2)).clamp(min=1)


def objective(logits_NHW: Tensor, masks_NHW: Tensor, guessed_N: Tensor) -> Tensor:
    """Cross-entropy and dice of the mask, and the squared error of the guessed IoU (Kirillov et al. 2023)."""
    entropy = F.binary_cross_entropy_with_logits(logits_NHW, masks_NHW)
    soft = logits_NHW.sigmoid()
    shared = 2 * (soft * masks_NHW).sum((1, 2)) + 1
    dice = 1 - shared / (soft.sum((1, 2)) + masks_NHW.sum((1, 2)) + 1)
    return 5 * entropy + dice.mean() + F.mse_loss(guessed_N, iou(logits_NHW, masks_NHW))


def train(params: Params, out: Path) -> dict[str, float]:
    """Fit a SAM to scenes and write it."""
    torch.manual_seed(params.seed)
    where = params.device.settled()
    sam = build(params.sizes).train().to(where.device)
    scenes = corpus.rendered(params.seed, params.num_scenes, GROUPS, params.workers).scenes

    def loss(step: int) -> Tensor:
        draw = generator(params.seed, "sam", step)
        return objective(*_filled(sam, [scenes[i] for i in draw.integers(len(scenes), size=params.batch_size)]))

    scratch = resume.folder(resume.digest(__name__, params))
    fit(sam, loss, params.optimisation, scratch=scratch, log=out / "log.csv", engine=Engine(where))
    save(sam, params.sizes, out)
    metrics = accuracy(load(out), corpus.rendered(params.seed + 1, 400, GROUPS, params.workers).scenes)
    recipes.record(out, params, metrics)
    resume.clear(scratch)
    return metrics


@torch.no_grad()
def accuracy(sam: Sam, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean IoU with the exact visible masks, prompted with their boxes, and how far off the guessed IoU is."""
    answers = [_filled(sam, scenes[start : start + 32]) for start in range(0, len(scenes), 32)]
    logits, masks, guessed = (torch.cat(parts) for parts in zip(*answers, strict=True))
    reached = iou(logits, masks)
    return {"mean_iou": reached.mean().item(), "score_error": (guessed - reached).abs().mean().item()}


def run(*, sam: Path, params: Params) -> dict[str, float]:
    """Nothing -> sam."""
    with atomic.folder(sam) as part:
        return train(params, part)


if __name__ == "__main__":
    stage.main(run)
