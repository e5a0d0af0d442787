"""The small SAM and BLIP in batches against one instance at a time, taken in turns, in CPU seconds of one run."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from segment_anything import SamPredictor

from data_prep.annotators.blip import Blip
from data_prep.annotators.crops import ModelParams
from instdiff.config import compose
from instdiff.foundation import blip as small
from instdiff.layouts import geometry
from instdiff.networks import sam as networks
from instdiff.networks.sam_masks import SegmentAnything
from instdiff.schema import Box
from instdiff.world.arrangements import SIZE
from instdiff.world.scenes import scene

ROOT = Path(__file__).parents[1]
ROUNDS = 5
PICTURES = 8  # at once, and 32 boxes: as experiment=annotators


def seconds(does: Callable[[], object]) -> float:
    """Of CPU time."""
    began = time.process_time()
    does()
    return time.process_time() - began


def in_turns(alone: Callable[[], object], together: Callable[[], object]) -> tuple[float, float]:
    """The median seconds of each, after one round that is not counted."""
    rounds = [(seconds(alone), seconds(together)) for _ in range(ROUNDS + 1)][1:]
    return median(first for first, _ in rounds), median(second for _, second in rounds)


def peak() -> float:
    """MB this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def told(what: str, instances: int, alone: float, together: float) -> None:
    """Print both rates."""
    print(
        f"\n{what}, one thread: {instances / alone:.0f} instances/s one at a time,"
        f" {instances / together:.0f} in batches: {alone / together:.2f}x"
    )


def test_segment_in_batches() -> None:
    """One at a time: segment-anything's own predictor, which embeds a picture once and is asked box by box."""
    scenes = [scene(5, number) for number in range(24)]
    pictures = [item.picture for item in scenes]
    folder = ROOT / "weights/miniature/sam"
    predictor, sam = SamPredictor(networks.load(folder)), SegmentAnything(folder, 32)
    before = peak()
    for batch_size in (1, 8, 24):
        sam.fill(pictures[:batch_size], [[part.box for part in item.instances] for item in scenes[:batch_size]])
        print(f"\nsegment: {batch_size} pictures at once, {peak() - before:.0f} MB above the start")
    for times in (1, 3):  # three of a scene, and eight, as in a photograph
        boxes = [[part.box for part in item.instances] * times for item in scenes]

        def alone(boxes: list[list[Box]] = boxes) -> None:
            for picture, picture_boxes in zip(pictures, boxes, strict=True):
                predictor.set_image(picture)
                for box in picture_boxes:
                    predictor.predict(box=np.array(geometry.in_pixels(box, SIZE, SIZE)), multimask_output=False)

        def together(boxes: list[list[Box]] = boxes) -> None:
            for start in range(0, len(pictures), PICTURES):
                sam.fill(pictures[start : start + PICTURES], boxes[start : start + PICTURES])

        seconds = in_turns(alone, together)
        told(f"segment, {sum(map(len, boxes)) / len(boxes):.1f} boxes a picture", sum(map(len, boxes)), *seconds)


def test_caption_in_batches(tmp_path: Path) -> None:
    """One at a time: the same processor and model, a crop a call; random weights, so every caption is as long."""
    page = yaml.safe_load(compose.composed(["experiment=annotators"], ROOT / "configs"))
    sizes = small.Params.model_validate(page["blip"])
    small.build(sizes).save_pretrained(tmp_path)
    small.new_processor(sizes.image_size).save_pretrained(tmp_path)
    blip = Blip(ModelParams.model_validate(page["caption"]["model"] | {"weights": tmp_path}))
    crops = [
        geometry.crop(item.picture, part.box) for item in (scene(5, n) for n in range(24)) for part in item.instances
    ]

    def together(batch_size: int) -> None:
        for start in range(0, len(crops), batch_size):
            blip.describe(crops[start : start + batch_size])

    told("caption", len(crops), *in_turns(lambda: together(1), lambda: together(64)))
