"""The instances of a pack's pictures, as `segment` and `caption` ask about them, and how results become rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from data_prep.columns import GIVEN, INSTANCES, PICTURES
from instdiff.files import tables
from instdiff.schema import Box
from instdiff.work.outcomes import Failure
from instdiff.work.packs import Pack
from instdiff.work.parts import Answer
from instdiff.work.pictures import Picture, pictures_of_pack

Row = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """A row of INSTANCES, with its picture."""

    picture: Picture
    index: int
    category: str | None
    box: Box


class GivenRow(TypedDict):
    """A row of GIVEN: what the source says of an instance; None is "not given"."""

    key: str
    index: int
    category: str | None
    box: Sequence[float] | None
    mask: str | None
    colour: str | None
    texture: str | None


class WithInstances(NamedTuple):
    """A picture and its instances."""

    picture: Picture
    instances: tuple[Instance, ...]

    @property
    def key(self) -> str:
        """The picture's."""
        return self.picture.key

    @property
    def boxes(self) -> list[Box]:
        """The instances' boxes, in their order."""
        return [instance.box for instance in self.instances]


def of_pack(pack: Pack, pictures: Path) -> list[WithInstances]:
    """The pictures of a pack that have instances, with these."""
    images = tables.read(pack.parts["images"], PICTURES)
    rows = tables.rows_of(tables.read(pack.parts["instances"], INSTANCES))
    return with_instances(pictures_of_pack(pictures / f"{pack.name}.tar", images), rows)


def given_by(path: Path) -> dict[tuple[str, int], GivenRow]:
    """The rows of a GIVEN table by the picture's key and the instance's index."""
    rows: list[GivenRow] = tables.arrow(path, GIVEN).to_pylist()
    return {(row["key"], row["index"]): row for row in rows}


def with_instances(pictures: Sequence[Picture], rows: Mapping[str, Sequence[Row]]) -> list[WithInstances]:
    """The pictures that have rows, with these, in the order of the pictures."""
    return [
        WithInstances(picture, tuple(_instance(picture, row) for row in rows[picture.key]))
        for picture in pictures
        if picture.key in rows
    ]


def _instance(picture: Picture, row: Row) -> Instance:
    return Instance(picture, row["index"], row["category"], Box(*map(float, row["box"])))


def answer(key: str, results: Iterable[tuple[int, Row | Failure]], nothing: Row) -> Answer:
    """A picture's answer: a row for each instance by its index, filled with `nothing` where it failed."""
    rows: list[Row] = []
    failures: list[tuple[int, Failure]] = []
    for index, result in results:
        if isinstance(result, Failure):
            failures.append((index, result))
        rows.append({"key": key, "index": index, **(nothing if isinstance(result, Failure) else result)})
    return Answer(key, rows, failures)
