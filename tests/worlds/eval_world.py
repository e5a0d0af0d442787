"""A tiny synthetic evaluation: coloured rectangles, a detector and a judge that look at pixels.

Nothing is learned, so what each number must be can be worked out by hand. Pictures differ in size and most are not
square, so that a number computed with exchanged axes, or with the size of another picture, is wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from data_world import WORK
from detection_cases import CATEGORIES, random_case, sized
from numpy.typing import NDArray
from PIL import Image

from eval import detect
from eval.inputs import detections, ground_truth, pictures
from eval.inputs.vocabulary import DetectionVocabulary
from eval.metrics import average_precision
from eval.scoring import ap_matches, difference, paired
from eval.scoring.columns import SCORES
from eval.scoring.features import Judges
from eval.scoring.row import DistanceParams, Inputs, Params
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.networks import device
from instdiff.networks.detector import CLASSES as CLASSES_FILE
from instdiff.networks.finders.closed import ClosedFinder
from instdiff.schema import Box

_OWN = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["detect"]
DETECT = detect.Params.model_validate(
    _OWN | {"batch_size": 3, "square": None, "device": device.PLAIN.model_dump(), "work": WORK.model_dump()}
)
NOTHING = paired.of_pictures((), {}).assign(seed=0)
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
TEXTURES = ("rubber", "glass")
CLASSES = ["square", "bar"]
Pixels = NDArray[np.uint8]

# key, group, (height, width), [(category, colour, left, top, right, bottom in pixels)]
SCENES = (
    ("a", "mixed", (40, 24), (("square", "red", 2, 4, 12, 12),)),
    ("b", "crowded", (20, 36), (("square", "green", 2, 2, 12, 12), ("square", "red", 12, 2, 22, 12))),
    ("c", "crowded", (32, 32), (("bar", "blue", 0, 20, 32, 28), ("square", "green", 4, 4, 14, 14))),
    ("d", "same_shape", (30, 32), (("bar", "red", 0, 2, 32, 10), ("bar", "blue", 0, 20, 32, 28))),
)
SIZES = tuple(size for _, _, size, _ in SCENES)


@dataclass(frozen=True)
class PixelDetection:
    """A detection."""

    category: str
    score: float
    box: Box
    mask: NDArray[np.bool_]


class PixelDetector:
    """Finds the rectangle of each pure colour; wider than 20 pixels it is a bar."""

    classes = CLASSES

    def detect(self, images: Sequence[Pixels]) -> list[list[PixelDetection]]:
        return [
            [detection for colour in COLOURS.values() if (detection := _rectangle_of(pixels, colour))]
            for pixels in images
        ]


def write_detector(folder: Path, weights: bytes) -> None:
    """The folder of a detector whose network a test puts in its place."""
    folder.mkdir()
    (folder / "weights").write_bytes(weights)
    (folder / CLASSES_FILE).write_text(json.dumps({"classes": CLASSES}))


def detected(path: Path, judged: pictures.Pictures, source: str = "abc", batch_size: int = 3) -> dict[str, int]:
    """Write what the pixel detector sees in the pictures, and count it."""
    finder = ClosedFinder(PixelDetector())
    vocabulary = DetectionVocabulary(tuple(CLASSES), (tuple(CLASSES),) * len(judged.keys))
    made_by = detect.made_by(judged, pd.DataFrame(), source, DETECT)
    return detect.write(path, finder, judged, vocabulary, made_by, DETECT)


def row_inputs(world: Path, folder: str) -> Inputs:
    """The detect stage, then what the score stage reads."""
    truth = ground_truth.load(world / "images.parquet", world / "annotated.parquet")
    judged = pictures.find(world / folder, truth.images, None)
    detected(world / f"{folder}.json", judged)
    results = detections.read(world / f"{folder}.json", judged.sizes)
    return Inputs(truth, judged, pictures.find(world / "real", truth.images, None), results)


class PixelJudge:
    """Mean colour of a crop against the colour a phrase names; all shapes and textures look alike to it."""

    def image_features(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        return _unit(np.array([[*pixels.reshape(-1, 3).mean(0), 1.0] for pixels in images]))

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float64]:
        named = [[np.array(rgb) for word, rgb in COLOURS.items() if word in text.split()] for text in texts]
        return _unit(np.array([[*(rgbs[0] if rgbs else (1, 1, 1)), 1.0] for rgbs in named], np.float64))


def write(folder: Path) -> None:
    """images.parquet, annotated.parquet and the real pictures of the scenes."""
    images, rows = [], []
    for key, group, (height, width), shapes in SCENES:
        images.append(
            {
                "key": key,
                "group": group,
                "file": f"{key}.png",
                "width": width,
                "height": height,
                "caption": "",
                "sha256": "",
            }
        )
        rows += [_row(key, index, (height, width), *shape) for index, shape in enumerate(shapes)]
    tables.write(folder / "images.parquet", images, IMAGES)
    tables.write(folder / "annotated.parquet", rows, ANNOTATED)
    draw(folder / "real", {})


def draw(folder: Path, repainted: dict[tuple[str, int], tuple[int, int, int] | None], background: int = 120) -> None:
    """The scenes as pictures; an instance (key, index) may be painted in another colour or, with None, left out."""
    folder.mkdir(parents=True)
    for place, (key, _, size, shapes) in enumerate(SCENES):
        pixels = np.full((*size, 3), background, np.uint8)
        pixels[-1, -1] = place  # no two pictures are the same, even without their shapes
        for index, (_, colour, left, top, right, bottom) in enumerate(shapes):
            rgb = repainted.get((key, index), COLOURS[colour])
            if rgb is not None:
                pixels[top:bottom, left:right] = rgb
        Image.fromarray(pixels).save(folder / f"{key}.png")


def _row(
    key: str,
    index: int,
    size: tuple[int, int],
    category: str,
    colour: str,
    left: int,
    top: int,
    right: int,
    bottom: int,
) -> dict[str, object]:
    height, width = size
    mask_HW = np.zeros(size, bool)
    mask_HW[top:bottom, left:right] = True
    centre = [(left + right) / 2 / width, (top + bottom) / 2 / height]
    corners = [left / width, top / height, (right - 1) / width, (bottom - 1) / height]
    return {
        "key": key,
        "index": index,
        "category": category,
        "box": [left / width, top / height, right / width, bottom / height],
        "score": 1.0,
        "mask": masks.encode(mask_HW).counts,
        "caption": f"a {colour} rubber {category}",
        "backend": "template",
        "point": centre,
        "scribble": [*centre, *corners],
        "outline": corners,
        "colour": colour,
        "texture": "rubber",
    }


def _rectangle_of(pixels: Pixels, colour: tuple[int, int, int]) -> PixelDetection | None:
    mask_HW = (pixels == colour).all(-1)
    if not mask_HW.any():
        return None
    box = masks.box_of(mask_HW)
    wide = np.count_nonzero(mask_HW.any(0)) > 20
    return PixelDetection("bar" if wide else "square", 0.9, box, mask_HW)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


PARAMS = Params(
    seed=0,
    square=None,
    min_score=0.25,
    num_resamples=50,
    num_resamples_parts=20,
    sizes={"small": (0.0, 150.0), "large": (150.0, 1e10)},
    leak_groups=("crowded", "same_shape"),
    words={"colour": ("red", "green", "blue"), "texture": ("rubber", "glass"), "shape": ("square", "bar")},
    templates=dict.fromkeys(("colour", "texture", "shape"), ("a {colour} {texture} {shape}",)),
    batch_size=3,
    sets=DistanceParams(features="judge", beside=(), num_resamples=5, kid_subsets=3, kid_subset_size=3),
    preferences=(),
    device=device.PLAIN,
    work=WORK,
)


JUDGES = Judges(PixelJudge(), PixelJudge(), "judge")


def many(folder: Path, missed: float, num_pictures: int = 40) -> difference.Side:
    """A side of many pictures with values that hardly repeat; so great a share of the detections is lost."""
    annotations, detections = random_case(3, num_pictures)
    rng = np.random.default_rng(int(100 * missed))
    detections = [detection for detection in detections if rng.random() >= missed]
    counted = average_precision.matched(sized(num_pictures), CATEGORIES, annotations, detections, "bbox")
    folder.mkdir(parents=True)
    ap_matches.write(folder / ap_matches.FILE, {"box": counted})
    places = [
        {"key": f"{annotation['image_id']}", "index": annotation["id"], "category": "bar"} for annotation in annotations
    ]
    scores = pd.DataFrame(places).reindex(columns=SCORES.names).assign(box_iou=rng.random(len(annotations)), seed=0)
    metrics = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in ("box_miou", "box_ap")}
    source = {"row": "box", "num_pictures": num_pictures, "settings": {"leak_groups": []}}
    return difference.Side((folder,), scores, metrics, source, NOTHING, {})
