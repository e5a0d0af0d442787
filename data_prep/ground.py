"""ground: say what is where in each picture.   images -> instances"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from data_prep.annotators import Failure, Ledger, Picture, outcomes, pictures_of
from instdiff import stage, tables
from instdiff.progress import track
from instdiff.schema import GIVEN, IMAGES, INSTANCES, Box, Strict


class Params(Strict):
    """Who says it."""

    backend: Literal["given"]
    batch_size: int  # pictures at once


class Found(NamedTuple):
    """One instance."""

    category: str | None
    box: Box
    score: float


class Grounder(Protocol):
    """Whoever finds instances: given tables, GroundingDINO, ..."""

    def ground(self, batch: Sequence[Picture]) -> list[list[Found] | Failure]:
        """What is found in each picture of the batch, in an order of its own."""
        ...


class Given:
    """Takes the source's own word for it."""

    def __init__(self, given: Path) -> None:
        self._rows = tables.rows_of(tables.read(given, GIVEN))

    def ground(self, batch: Sequence[Picture]) -> list[list[Found] | Failure]:
        """The boxes the source gave, in its order, each with score 1."""
        return [self._found(picture.key) for picture in batch]

    def _found(self, key: str) -> list[Found] | Failure:
        rows = sorted(self._rows.get(key, []), key=lambda row: row["index"])
        if not rows:
            return Failure("nothing_found", "the source names no instance")
        if any(row["box"] is None for row in rows) or [row["index"] for row in rows] != list(range(len(rows))):
            return Failure("bad_given", "the source's instances are not numbered 0, 1, ... or one has no box")
        return [Found(row["category"], Box(*map(float, row["box"])), 1.0) for row in rows]


def run(*, pictures: Path, images: Path, given: Path, instances: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From images to instances; a picture in which nothing was found is a row of the ledger."""
    todo = pictures_of(pictures, tables.read(images, IMAGES))
    grounder: Grounder = Given(given)
    rows: list[dict[str, object]] = []
    failed = Ledger()
    for picture, found in track(outcomes(todo, grounder.ground, params.batch_size), len(todo), "pictures"):
        if isinstance(found, Failure):
            failed.add(picture.key, -1, found)
            continue
        for index, one in enumerate(found):
            place = {"key": picture.key, "index": index}
            rows.append({**place, "category": one.category, "box": list(one.box), "score": one.score})
    failed.write(ledger)
    return {"pictures": len(todo), "instances": tables.write(instances, rows, INSTANCES), **failed.counts()}


if __name__ == "__main__":
    stage.main(run)
