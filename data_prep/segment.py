"""segment: say which pixels belong to each instance.   instances -> masks"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from data_prep.annotators import instances as instances_of
from data_prep.annotators.instances import Instance, WithInstances
from data_prep.columns import MASKS
from instdiff import stage
from instdiff.files.provenance import fingerprint
from instdiff.layouts import geometry, masks
from instdiff.layouts.masks import Mask
from instdiff.networks.device import Place
from instdiff.schema import Box, Rle, Strict
from instdiff.work import packs, resume
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.packs import Output, Pack
from instdiff.work.parts import Answer, Execution

Pixels = NDArray[np.uint8]


class Params(Strict):
    """Who says it."""

    backend: Literal["given", "box", "sam", "sam2"]  # the masks of the source, the boxes filled, or SAM's
    weights: Path | None  # of sam a released .pth, or a folder of ours; of sam2 a folder of transformers
    batch_size: PositiveInt  # pictures at once
    max_boxes: PositiveInt  # decoded at once, of however many pictures: with batch_size, what bounds the memory
    device: Place
    work: Execution


class Segment(NamedTuple):
    """One mask: its run lengths at the picture's size."""

    counts: str
    score: float


class Segmenter(Protocol):
    """Whoever fills boxes with masks: given tables, the boxes themselves, SAM, ..."""

    def segment(self, batch: Sequence[WithInstances]) -> list[list[Segment | Failure] | Failure]:
        """A mask for each box of each picture."""
        ...


class FromSource:
    """Takes the source's own word for it."""

    def __init__(self, given: Path) -> None:
        self._rows = instances_of.given_by(given)

    def segment(self, batch: Sequence[WithInstances]) -> list[list[Segment | Failure] | Failure]:
        """The source's mask of each instance, if it gave one with that box."""
        return [[self._mask(instance) for instance in picture.instances] for picture in batch]

    def _mask(self, instance: Instance) -> Segment | Failure:
        picture = instance.picture
        row = self._rows.get((picture.key, instance.index))
        if row is None or row["box"] is None or tuple(row["box"]) != instance.box:
            return Failure("not_given", "the source has no instance with this number and box")
        if row["mask"] is None:
            return Failure("no_mask", "the source gives no mask")
        try:
            masks.decode(Rle(size=(picture.height, picture.width), counts=row["mask"]))
        except ValueError as error:
            return Failure("bad_mask", str(error))
        return Segment(row["mask"], 1.0)


class FilledBoxes:
    """Takes the whole box for the instance."""

    def segment(self, batch: Sequence[WithInstances]) -> list[list[Segment | Failure] | Failure]:
        """Each box, filled."""
        return [[_filled(instance) for instance in picture.instances] for picture in batch]


def _filled(instance: Instance) -> Segment:
    height, width = instance.picture.height, instance.picture.width
    mask_HW = np.zeros((height, width), dtype=np.bool_)
    mask_HW[geometry.rows(instance.box, height), geometry.columns(instance.box, width)] = True
    return Segment(masks.encode(mask_HW).counts, 1.0)


class BoxFiller(Protocol):
    """A model that fills boxes: SAM, SAM 2."""

    def fill(self, pixels: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[tuple[Mask, float]]]:
        """The likeliest mask of each box of each picture, and the model's own estimate of its IoU."""
        ...


class SamSegmenter:
    """Asks a model for the likeliest mask of each box."""

    def __init__(self, model: BoxFiller) -> None:
        self._model = model

    def segment(self, batch: Sequence[WithInstances]) -> list[list[Segment | Failure] | Failure]:
        """A mask for each box; the pictures of the batch are embedded together, and their boxes decoded."""
        filled = self._model.fill([each.picture.pixels() for each in batch], [each.boxes for each in batch])
        return [[Segment(masks.encode(mask).counts, score) for mask, score in of_picture] for of_picture in filled]


def segmenter(params: Params, given: Path, digest: str) -> Segmenter:
    """The backend that params name, for the pack whose part of GIVEN this is."""
    match params.backend:
        case "given":
            return FromSource(given)
        case "box":
            return FilledBoxes()
        case "sam" | "sam2":
            return _sam(params, digest)


@lru_cache(maxsize=1)
def _sam(params: Params, _digest: str) -> Segmenter:
    """The network, kept for the packs that follow."""
    if params.weights is None:
        raise ValueError(f"backend {params.backend} needs weights")
    return SamSegmenter(_model(params.backend, params.weights, params.max_boxes, params.device))


def _model(backend: str, weights: Path, max_boxes: int, where: Place) -> BoxFiller:
    if backend == "sam":
        from instdiff.networks.sam_masks import SegmentAnything

        return SegmentAnything(weights, max_boxes, where)
    from instdiff.networks.sam2 import Sam2

    return Sam2(weights, max_boxes, where)


def segment(todo: Sequence[WithInstances], pack: Pack, params: Params, digest: str) -> Iterator[Answer]:
    """The masks of each picture's instances, null where none could be made."""
    segments = outcomes(todo, segmenter(params, pack.parts["given"], digest).segment, params.batch_size)
    for picture, result in segments:
        of_picture = [result] * len(picture.instances) if isinstance(result, Failure) else result
        results = [
            (instance.index, _columns(segment)) for instance, segment in zip(picture.instances, of_picture, strict=True)
        ]
        yield instances_of.answer(picture.key, results, {"mask": None, "score": None})


def _columns(segment: Segment | Failure) -> dict[str, Any] | Failure:
    return segment if isinstance(segment, Failure) else {"mask": segment.counts, "score": segment.score}


def run(
    *, pictures: Path, images: Path, given: Path, instances: Path, masks: Path, ledger: Path, params: Params
) -> dict[str, int]:
    """From instances to masks; one row an instance, its mask null where none could be made."""
    all_packs = packs.of(images=images, given=given, instances=instances)
    weights = [] if params.weights is None else [fingerprint(params.weights)]
    digest = resume.digest(__name__, params, *weights)
    todo, annotate = partial(instances_of.of_pack, pictures=pictures), partial(segment, params=params, digest=digest)
    return packs.annotated(all_packs, todo, annotate, Output(masks, MASKS, ledger, "mask"), digest, params.work)


if __name__ == "__main__":
    stage.main(run)
