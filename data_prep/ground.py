"""ground: say what is where in each picture.   images -> instances"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, Protocol

from pydantic import PositiveInt

from data_prep.annotators.grounded import ScoredBox
from data_prep.annotators.tags import DetectorParams
from data_prep.columns import GIVEN, INSTANCES, PICTURES
from instdiff import stage
from instdiff.files import tables
from instdiff.files.provenance import fingerprint
from instdiff.schema import Box, Strict
from instdiff.work import packs, resume
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.packs import Output, Pack
from instdiff.work.parts import Answer, Execution
from instdiff.work.pictures import Picture, pictures_of_pack


class Params(Strict):
    """Who says it."""

    backend: Literal["given", "grounding_dino"]  # the boxes of the source, or GroundingDINO's
    batch_size: PositiveInt  # pictures at once
    detector: DetectorParams | None  # of grounding_dino
    work: Execution


class Grounder(Protocol):
    """Whoever finds instances: given tables, GroundingDINO, ..."""

    def ground(self, batch: Sequence[Picture]) -> list[list[ScoredBox] | Failure]:
        """What is found in each picture of the batch, in an order of its own."""
        ...


class FromSource:
    """Takes the source's own word for it."""

    def __init__(self, given: Path) -> None:
        self._rows = tables.rows_of(tables.read(given, GIVEN))

    def ground(self, batch: Sequence[Picture]) -> list[list[ScoredBox] | Failure]:
        """The boxes the source gave, in its order, each with score 1."""
        return [self._boxes(picture.key) for picture in batch]

    def _boxes(self, key: str) -> list[ScoredBox] | Failure:
        rows = sorted(self._rows.get(key, []), key=lambda row: row["index"])
        if not rows:
            return Failure("nothing_found", "the source names no instance")
        if any(row["box"] is None for row in rows) or [row["index"] for row in rows] != list(range(len(rows))):
            return Failure("bad_given", "the source's instances are not numbered 0, 1, ... or one has no box")
        return [ScoredBox(row["category"], Box(*map(float, row["box"])), 1.0) for row in rows]


def grounder(params: Params, given: Path, digest: str) -> Grounder:
    """The backend that params name, for the pack whose part of GIVEN this is."""
    return FromSource(given) if params.backend == "given" else _model(params, digest)


@lru_cache(maxsize=1)
def _model(params: Params, _digest: str) -> Grounder:
    """The network, kept for the packs that follow."""
    if params.detector is None:
        raise ValueError("backend grounding_dino needs detector")
    from data_prep.annotators.grounding_dino import GroundingDino

    return GroundingDino(params.detector)


def ground(todo: Sequence[Picture], pack: Pack, params: Params, digest: str) -> Iterator[Answer]:
    """What is in each picture; a picture in which nothing was found is a failure."""
    for picture, boxes in outcomes(todo, grounder(params, pack.parts["given"], digest).ground, params.batch_size):
        if isinstance(boxes, Failure):
            yield Answer(picture.key, [], [(-1, boxes)])
        elif not boxes:
            yield Answer(picture.key, [], [(-1, Failure("nothing_found", "no box above the threshold"))])
        else:
            rows = [
                {"key": picture.key, "index": index, "category": box.category, "box": list(box.box), "score": box.score}
                for index, box in enumerate(boxes)
            ]
            yield Answer(picture.key, rows, [])


def pictures_of(pack: Pack, pictures: Path) -> list[Picture]:
    """The pictures of a pack."""
    return pictures_of_pack(pictures / f"{pack.name}.tar", tables.read(pack.parts["images"], PICTURES))


def run(*, pictures: Path, images: Path, given: Path, instances: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From images to instances; a picture in which nothing was found is a row of the ledger."""
    all_packs = packs.of(images=images, given=given)
    weights = [] if params.detector is None else [fingerprint(path) for path in params.detector.weight_paths()]
    digest = resume.digest(__name__, params, *weights)
    todo, annotate = partial(pictures_of, pictures=pictures), partial(ground, params=params, digest=digest)
    to = Output(instances, INSTANCES, ledger)
    return {"pictures": packs.num_rows(images), **packs.annotated(all_packs, todo, annotate, to, digest, params.work)}


if __name__ == "__main__":
    stage.main(run)
