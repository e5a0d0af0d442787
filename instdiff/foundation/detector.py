"""detector: scenes -> a YOLOv8-seg that finds shapes and their masks; the only importer of ultralytics (AGPL-3.0)."""

import json
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from skimage.measure import find_contours

from instdiff import atomic, stage
from instdiff.appearance import SHAPES
from instdiff.foundation import corpus, recipe
from instdiff.scenes import Scene
from instdiff.schema import Box, Strict

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
WEIGHTS, CLASSES = "detector.pt", "classes.json"


class Params(Strict):
    """Where the detector comes from and, if it is trained, how."""

    source: Literal["import", "train"]  # what is shipped, or from nothing
    seed: int  # of the scenes and the first weights
    num_scenes: int  # painted to train on
    groups: tuple[str, ...]  # of scenes, in turn
    workers: int  # processes that paint them
    architecture: str  # a model yaml that ultralytics ships; its letter is the size
    image_size: int  # pictures are scaled up to this
    epochs: int  # passes over the scenes
    batch_size: int  # pictures
    learning_rate: float  # its peak; falls as a cosine
    min_score: float  # detections below it are not reported
    nms_iou: float  # of two boxes that overlap more, the less sure goes


@dataclass(frozen=True)
class Detection:
    """One thing found: its class, how sure, where (box in fractions, mask at the picture's size)."""

    category: str
    score: float
    box: Box
    mask: Mask


@dataclass(frozen=True)
class Detector:
    """A YOLO segmentation model and what it is asked for."""

    model: Any
    classes: tuple[str, ...]
    image_size: int
    min_score: float
    nms_iou: float

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """What is seen in each picture (H, W, 3) uint8 RGB, surest first; masks touch only what they cover."""
        with _private_settings():
            results = self.model.predict(
                [one[..., ::-1].copy() for one in pictures],  # ultralytics takes BGR arrays
                imgsz=self.image_size,
                conf=self.min_score,
                iou=self.nms_iou,
                retina_masks=True,
                device="cpu",
                verbose=False,
                save=False,
            )
        return [list(self._found(result)) for result in results]

    def _found(self, result: Any) -> Iterator[Detection]:
        if result.masks is None:
            return
        height, width = result.orig_shape
        for row, mask in zip(result.boxes.data.tolist(), result.masks.data.cpu().numpy() > 0.5, strict=True):
            x0, y0, x1, y1, score, number = row
            box = Box(x0 / width, y0 / height, x1 / width, y1 / height)
            yield Detection(self.classes[int(number)], score, box, mask)


def load(folder: Path) -> Detector:
    """The detector of a folder."""
    settings = json.loads((folder / CLASSES).read_text())
    with _private_settings():
        from ultralytics.models.yolo.model import YOLO

        model = YOLO(folder / WEIGHTS)
    return Detector(
        model, tuple(settings["classes"]), settings["image_size"], settings["min_score"], settings["nms_iou"]
    )


@contextmanager
def _private_settings() -> Iterator[None]:
    """Ultralytics neither downloads, installs, reports nor writes outside a folder of its own."""
    with TemporaryDirectory() as folder:
        wanted = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": folder}
        for name, value in wanted.items():
            os.environ.setdefault(name, value)
        opens, world = Image.open, os.environ.pop("WORLD_SIZE", None)
        from ultralytics import settings  # which, told of other processes, would wait for all of them to import it

        if world is not None:
            os.environ["WORLD_SIZE"] = world
        Image.open = opens  # it leaves one in its place that installs packages when a picture cannot be read
        settings.update(
            {
                name: False
                for name in ("sync", "mlflow", "tensorboard", "wandb", "dvc", "comet", "clearml")
                if name in settings
            }
        )
        yield


def train(params: Params, out: Path) -> dict[str, float]:
    """Fit a detector to scenes and write it with its classes."""
    scenes = corpus.rendered(params.seed, params.num_scenes, params.groups, params.workers).scenes
    with TemporaryDirectory() as scratch, _private_settings():
        from ultralytics.models.yolo.model import YOLO

        data = _dataset(Path(scratch), scenes, params.image_size)
        model = YOLO(params.architecture)
        model.train(
            data=str(data),
            epochs=params.epochs,
            imgsz=params.image_size,
            batch=params.batch_size,
            device="cpu",
            workers=0,
            cache="ram",
            amp=False,
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
    kept = {"classes": list(SHAPES), **params.model_dump(include={"image_size", "min_score", "nms_iou"})}
    (out / CLASSES).write_text(json.dumps(kept, indent=2) + "\n")
    metrics = {"pictures_seen": float(params.num_scenes * params.epochs)}
    recipe.record(out, params, metrics)
    return metrics


def imported(weights: Path, out: Path, asked: Mapping[str, float]) -> None:
    """A YOLO segmentation file of ultralytics', of any classes, as a folder of ours; `asked` as in `Detector`.

    Such a file is a pickle of the whole network. Nothing in it is executed: torch's restricted reader builds layers of
    torch and of ultralytics alone, and what is kept is a network made anew with the weights read.
    """
    with _private_settings():
        from ultralytics.nn.tasks import SegmentationModel

        try:
            with torch.serialization.safe_globals(_layers()):
                held = torch.load(weights, map_location="cpu", weights_only=True)
        except (
            pickle.UnpicklingError,
            RuntimeError,
            EOFError,
            AttributeError,
            TypeError,
            ValueError,
            KeyError,
        ) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{weights}: refused; not a network of ultralytics' layers alone ({reason})") from error
        found = (held.get("ema") or held.get("model")) if isinstance(held, dict) else None
        if not isinstance(found, SegmentationModel):
            raise ValueError(f"{weights}: holds no segmentation network but a {type(found).__name__}")
        names = [found.names[number] for number in sorted(found.names)]
        model = SegmentationModel(found.yaml, nc=len(names), verbose=False)
        model.load_state_dict(found.state_dict())
        model.names = dict(enumerate(names))
        _write(model.half(), {"version": None, "license": None} | held, out / WEIGHTS)
    (out / CLASSES).write_text(json.dumps({"classes": names, **asked}, indent=2) + "\n")


def _layers() -> list[Any]:
    """Every type that the network of a YOLO file is made of."""
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import block, conv, head

    modules = [torch.nn, torch.nn.modules.container, tasks, block, conv, head]
    types = {one for module in modules for one in vars(module).values() if isinstance(one, type)}
    return [set, *sorted((one for one in types if issubclass(one, torch.nn.Module)), key=str)]


def _keep_the_model(trained: Path, out: Path) -> None:
    """Leave out the trainer's folders, dates and Git state: they say nothing of the model and differ in every run."""
    written = torch.load(trained, map_location="cpu", weights_only=False)  # a moment ago, by the trainer above
    _write(written["model"], written, out)


def _write(model: Any, written: Mapping[str, Any], out: Path) -> None:
    """A file that ultralytics reads, of the network alone."""
    model.args, model.criterion = {}, None
    kept = {name: written[name] for name in ("version", "license")}
    torch.save({"model": model, "ema": None, "train_args": {"task": "segment"}, **kept}, out)


def _dataset(folder: Path, scenes: Sequence[Scene], size: int) -> Path:
    """Scenes as ultralytics reads them: pictures, one polygon a line, and the yaml that names the classes."""
    classes = list(SHAPES)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number, one in enumerate(scenes):
        picture = Image.fromarray(one.picture).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"images/{number:06d}.png", compress_level=1)
        lines = [f"{classes.index(part.category)} {_polygon(part.mask)}" for part in one.instances]
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
        return recipe.copy(shipped, detector)
    with atomic.folder(detector) as part:
        return train(params, part)


if __name__ == "__main__":
    stage.main(run)
