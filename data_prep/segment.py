"""segment: say which pixels belong to each instance.   instances -> masks"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from data_prep.columns import GIVEN, INSTANCES, MASKS, PICTURES
from instdiff import stage, tables
from instdiff.device import Place
from instdiff.layouts import geometry, masks
from instdiff.layouts.masks import Mask
from instdiff.provenance import fingerprint
from instdiff.schema import Box, Rle, Strict
from instdiff.work import packs, resume
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.packs import Pack
from instdiff.work.parts import Answer, Execution, Output
from instdiff.work.pictures import Picture, pictures_of_pack

Pixels = NDArray[np.uint8]


class Params(Strict):
    """Who says it."""

    backend: Literal["given", "box", "sam", "sam2"]  # the masks of the source, the boxes filled, or SAM's
    weights: Path | None  # of sam a released .pth, or a folder of ours; of sam2 a folder of transformers
    batch_size: PositiveInt  # pictures at once
    max_boxes: PositiveInt  # decoded at once, of however many pictures: with batch_size, what bounds the memory
    device: Place
    work: Execution


class Prompted(NamedTuple):
    """A picture and the boxes of its instances."""

    picture: Picture
    indices: list[int]
    boxes: list[Box]

    @property
    def key(self) -> str:
        """The picture's."""
        return self.picture.key


class Segment(NamedTuple):
    """One mask: its run lengths at the picture's size."""

    counts: str
    score: float


class Segmenter(Protocol):
    """Whoever fills boxes with masks: given tables, the boxes themselves, SAM, ..."""

    def segment(self, batch: Sequence[Prompted]) -> list[list[Segment | Failure] | Failure]:
        """A mask for each box of each picture."""
        ...


class FromSource:
    """Takes the source's own word for it."""

    def __init__(self, given: Path) -> None:
        self._rows = {(row["key"], row["index"]): row for row in tables.read(given, GIVEN).to_dict("records")}

    def segment(self, batch: Sequence[Prompted]) -> list[list[Segment | Failure] | Failure]:
        """The source's mask of each instance, if it gave one with that box."""
        return [
            [self._one(one.picture, index, box) for index, box in zip(one.indices, one.boxes, strict=True)]
            for one in batch
        ]

    def _one(self, picture: Picture, index: int, box: Box) -> Segment | Failure:
        row: dict[Any, Any] | None = self._rows.get((picture.key, index))
        if row is None or row["box"] is None or tuple(row["box"]) != box:
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

    def segment(self, batch: Sequence[Prompted]) -> list[list[Segment | Failure] | Failure]:
        """Each box, filled."""
        return [[self._filled(one.picture, box) for box in one.boxes] for one in batch]

    def _filled(self, picture: Picture, box: Box) -> Segment:
        mask_HW = np.zeros((picture.height, picture.width), dtype=np.bool_)
        mask_HW[geometry.rows(box, picture.height), geometry.columns(box, picture.width)] = True
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

    def segment(self, batch: Sequence[Prompted]) -> list[list[Segment | Failure] | Failure]:
        """A mask for each box; the pictures of the batch are embedded together, and their boxes decoded."""
        filled = self._model.fill([one.picture.pixels() for one in batch], [one.boxes for one in batch])
        return [[Segment(masks.encode(mask).counts, score) for mask, score in one] for one in filled]


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


def prompted(pictures: Sequence[Picture], instances: dict[str, list[dict[str, Any]]]) -> list[Prompted]:
    """The pictures that have instances, with these."""
    return [
        Prompted(
            picture,
            [row["index"] for row in instances[picture.key]],
            [Box(*map(float, row["box"])) for row in instances[picture.key]],
        )
        for picture in pictures
        if picture.key in instances
    ]


def segment(todo: Sequence[Prompted], given: Path, params: Params, digest: str) -> Iterator[Answer]:
    """The masks of each picture's instances, null where none could be made."""
    for one, result in outcomes(todo, segmenter(params, given, digest).segment, params.batch_size):
        segments = [result] * len(one.indices) if isinstance(result, Failure) else result
        rows: list[dict[str, object]] = []
        failures: list[tuple[int, Failure]] = []
        for index, segment in zip(one.indices, segments, strict=True):
            place = {"key": one.key, "index": index}
            if isinstance(segment, Failure):
                failures.append((index, segment))
                rows.append({**place, "mask": None, "score": None})
            else:
                rows.append({**place, "mask": segment.counts, "score": segment.score})
        yield Answer(one.key, rows, failures)


def prompted_in(pack: Pack, pictures: Path) -> list[Prompted]:
    """The pictures of a pack that have instances, with these."""
    images = tables.read(pack.parts["images"], PICTURES)
    instances = tables.rows_of(tables.read(pack.parts["instances"], INSTANCES))
    return prompted(pictures_of_pack(pictures / f"{pack.name}.tar", images), instances)


def segment_pack(todo: Sequence[Prompted], pack: Pack, params: Params, digest: str) -> Iterator[Answer]:
    """The masks of a pack's instances."""
    return segment(todo, pack.parts["given"], params, digest)


def run(
    *, pictures: Path, images: Path, given: Path, instances: Path, masks: Path, ledger: Path, params: Params
) -> dict[str, int]:
    """From instances to masks; one row an instance, its mask null where none could be made."""
    its = packs.of(images=images, given=given, instances=instances)
    weights = [] if params.weights is None else [fingerprint(params.weights)]
    digest = resume.digest(__name__, params, *weights)
    todo, annotate = partial(prompted_in, pictures=pictures), partial(segment_pack, params=params, digest=digest)
    return packs.annotated(its, todo, annotate, Output(masks, MASKS, ledger, "mask"), digest, params.work)


if __name__ == "__main__":
    stage.main(run)
