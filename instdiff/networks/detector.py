"""A YOLO segmentation model that finds instances and their masks; the only importer of ultralytics (AGPL-3.0)."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from instdiff.networks import loading, weight_files
from instdiff.networks.device import PLAIN, Place
from instdiff.schema import Box

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
WEIGHTS, CLASSES = "detector.pt", "classes.json"


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
    where: Place = PLAIN

    def detect(self, pictures: Sequence[Picture]) -> list[list[Detection]]:
        """What is seen in each picture (H, W, 3) uint8 RGB, surest first; masks touch only what they cover."""
        with private_settings():
            results = self.model.predict(
                [picture[..., ::-1].copy() for picture in pictures],  # ultralytics takes BGR arrays
                imgsz=self.image_size,
                conf=self.min_score,
                iou=self.nms_iou,
                retina_masks=True,
                device=str(self.where.device),
                **({"quantize": 16} if self.where.precision == "float16" else {}),
                verbose=False,
                save=False,
            )
        return [list(self._detections(result)) for result in results]

    def _detections(self, result: Any) -> Iterator[Detection]:
        if result.masks is None:
            return
        height, width = result.orig_shape
        for row, mask in zip(result.boxes.data.tolist(), result.masks.data.cpu().numpy() > 0.5, strict=True):
            x0, y0, x1, y1, score, number = row
            box = Box(x0 / width, y0 / height, x1 / width, y1 / height)
            yield Detection(self.classes[int(number)], score, box, mask)


def load(folder: Path, where: Place = PLAIN) -> Detector:
    """The detector of a folder; ValueError for bfloat16, in which ultralytics does not predict."""
    if where.precision == "bfloat16":
        raise ValueError("the detector's precision is bfloat16; ultralytics knows float32 and float16")
    where = where.settled()
    settings = json.loads((folder / CLASSES).read_text())
    weight_files.recognised(folder / WEIGHTS)
    with private_settings():
        model = yolo(folder / WEIGHTS)
    loading.refuse_not_finite(model.model.state_dict(), str(folder / WEIGHTS))
    return Detector(
        model, tuple(settings["classes"]), settings["image_size"], settings["min_score"], settings["nms_iou"], where
    )


def classes(folder: Path) -> tuple[str, ...]:
    """The classes of the detector of a folder, without its weights."""
    return tuple(json.loads((folder / CLASSES).read_text())["classes"])


def yolo(source: Path | str) -> Any:
    """Ultralytics' own handle on a file of weights, or on an untrained network by the name of its yaml."""
    from ultralytics.models.yolo.model import YOLO

    return YOLO(source)


@contextmanager
def private_settings() -> Iterator[None]:
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


def imported(weights: Path, out: Path, settings: Mapping[str, float]) -> None:
    """A YOLO segmentation file of ultralytics', of any classes, as a folder of ours; `asked` as in `Detector`.

    Such a file is a pickle of the whole network. Nothing in it is executed: torch's restricted reader builds layers of
    torch and of ultralytics alone, and what is kept is a network made anew with the weights read.
    """
    with private_settings():
        from ultralytics.nn.tasks import SegmentationModel

        held = weight_files.read(weights, allowed=_layers())
        network = held.get("ema") or held.get("model")
        if not isinstance(network, SegmentationModel):
            raise ValueError(f"{weights}: holds no segmentation network but a {type(network).__name__}")
        names = [network.names[number] for number in sorted(network.names)]
        model = SegmentationModel(network.yaml, nc=len(names), verbose=False)
        loading.fill(model, network.state_dict(), str(weights))
        model.names = dict(enumerate(names))
        write_network(model.half(), {"version": None, "license": None} | held, out / WEIGHTS)
    (out / CLASSES).write_text(json.dumps({"classes": names, **settings}, indent=2) + "\n")


def _layers() -> list[Any]:
    """Every type that the network of a YOLO file is made of."""
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import block, conv, head

    modules = [torch.nn, torch.nn.modules.container, tasks, block, conv, head]
    types = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [set, *sorted((kind for kind in types if issubclass(kind, torch.nn.Module)), key=str)]


def write_network(model: Any, written: Mapping[str, Any], out: Path) -> None:
    """A file that ultralytics reads, of the network alone."""
    model.args, model.criterion = {}, None
    header = {name: written[name] for name in ("version", "license")}
    torch.save({"model": model, "ema": None, "train_args": {"task": "segment"}, **header}, out)
