"""detector: scenes -> a YOLOv8-seg that finds shapes and their masks."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from skimage.measure import find_contours

from instdiff import stage
from instdiff.files import atomic, recipes
from instdiff.networks.detector import CLASSES, WEIGHTS, Mask, private_settings, write_network, yolo
from instdiff.networks.device import Place
from instdiff.schema import Share, Strict
from instdiff.world import corpus
from instdiff.world.appearance import SHAPES
from instdiff.world.scenes import Scene


class Params(Strict):
    """Where the detector comes from and, if it is trained, how."""

    source: Literal["import", "train"]  # what is shipped, or from nothing
    seed: int  # of the scenes and the first weights
    num_scenes: PositiveInt  # painted to train on
    groups: tuple[str, ...]  # of scenes, in turn
    workers: NonNegativeInt  # processes that paint them
    architecture: str  # a model yaml that ultralytics ships; its letter is the size
    image_size: PositiveInt  # pictures are scaled up to this
    epochs: PositiveInt  # passes over the scenes
    batch_size: PositiveInt  # pictures
    learning_rate: PositiveFloat  # its peak; falls as a cosine
    min_score: Share  # detections below it are not reported
    nms_iou: Share  # of two boxes that overlap more, the less sure goes
    device: Place


def train(params: Params, out: Path) -> dict[str, float]:
    """Fit a detector to scenes and write it with its classes."""
    where = params.device.settled()
    scenes = corpus.rendered(params.seed, params.num_scenes, params.groups, params.workers).scenes
    with TemporaryDirectory() as scratch, private_settings():
        data = _dataset(Path(scratch), scenes, params.image_size)
        model = yolo(params.architecture)
        model.train(
            data=str(data),
            epochs=params.epochs,
            imgsz=params.image_size,
            batch=params.batch_size,
            device=str(where.device),
            workers=0,
            cache="ram",
            amp=where.precision != "float32",
            pretrained=False,
            plots=False,
            val=False,
            seed=params.seed,
            deterministic=True,
            optimizer="AdamW",
            lr0=params.learning_rate,
            cos_lr=True,
            warmup_epochs=0.5,
            overlap_mask=True,
            mask_ratio=2,
            mosaic=0.0,
            hsv_h=0.0,  # a colour is a word here
            hsv_s=0.2,
            hsv_v=0.2,
            scale=0.3,
            translate=0.1,
            erasing=0.0,
            project=scratch,
            name="run",
            verbose=False,
        )
        _keep_the_model(Path(scratch) / "run/weights/last.pt", out / WEIGHTS)
    settings = {"classes": list(SHAPES), **params.model_dump(include={"image_size", "min_score", "nms_iou"})}
    (out / CLASSES).write_text(json.dumps(settings, indent=2) + "\n")
    metrics = {"pictures_seen": float(params.num_scenes * params.epochs)}
    recipes.record(out, params, metrics)
    return metrics


def _keep_the_model(trained: Path, out: Path) -> None:
    """Leave out the trainer's folders, dates and Git state: they say nothing of the model and differ in every run."""
    written = torch.load(trained, map_location="cpu", weights_only=False)  # a moment ago, by the trainer above
    write_network(written["model"], written, out)


def _dataset(folder: Path, scenes: Sequence[Scene], size: int) -> Path:
    """Scenes as ultralytics reads them: pictures, one polygon a line, and the yaml that names the classes."""
    classes = list(SHAPES)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number, scene in enumerate(scenes):
        picture = Image.fromarray(scene.picture).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"images/{number:06d}.png", compress_level=1)
        lines = [f"{classes.index(part.category)} {_polygon(part.mask)}" for part in scene.instances]
        (folder / f"labels/{number:06d}.txt").write_text("\n".join(lines) + "\n")
    names = dict(enumerate(classes))
    data = folder / "data.yaml"
    data.write_text(json.dumps({"path": str(folder), "train": "images", "val": "images", "names": names}))
    return data


def _polygon(mask: Mask) -> str:
    """The contours of a mask as one closed line, x y x y ... in fractions.

    Pieces and holes hang on the first contour by a slit that is walked there and back, which encloses nothing.
    """
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    home = contours[0][:1]
    line = np.concatenate([part for contour in contours for part in (contour, contour[:1], home)])
    height, width = mask.shape
    fractions = (line[:, ::-1] - 0.5) / (width, height)  # padded by one, and a pixel's middle lies at one half
    return " ".join(f"{value:.5f}" for value in np.clip(fractions, 0, 1).ravel())


def run(*, shipped: Path, detector: Path, params: Params) -> dict[str, float]:
    """Nothing, or a shipped folder -> detector."""
    if params.source == "import":
        return recipes.copy(shipped, detector)
    with atomic.folder(detector) as part:
        return train(params, part)


if __name__ == "__main__":
    stage.main(run)
