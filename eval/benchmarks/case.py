"""A case of a benchmark: a layout with what its picture must show, and under which names pictures of it are found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, NamedTuple

from instdiff.schema import Box, Instance, Layout, Strict

SIDE = 512  # pixels of the pictures that most benchmarks want

JudgeKind = Literal["detections", "masks", "answers", "judge"]


class ExpectedInstance(Instance):
    """An instance, and how a finder and an answerer are asked for it; `category` is the text that a finder searches."""

    short: str = ""  # its name in a question
    detail: str = ""  # its description in a question
    colour: str | None = None
    count: int = 1  # how many of it, where it has no place
    parts: tuple[str, ...] = ()  # of the table that it counts in, e.g. "person/C2"

    @property
    def text(self) -> str:
        """What a finder is asked for; ValueError where nothing is."""
        if self.category is None:
            raise ValueError(f"{self.phrase!r} has no category to look for")
        return self.category

    @property
    def place(self) -> Box:
        """Where it must be; ValueError where it has no place."""
        if self.box is None:
            raise ValueError(f"{self.phrase!r} has no box")
        return self.box


class Relation(Strict):
    """What two instances are to each other: its name in the benchmark's file, and a description."""

    name: str
    text: str


class Case(Layout):
    """A picture to draw and to judge."""

    instances: tuple[ExpectedInstance, ...]
    height: int
    width: int
    parts: tuple[str, ...] = ()  # of the table that it counts in, e.g. "level/L2"
    pairs: tuple[tuple[int, int], ...] = ()  # instances that overlap, by place
    relations: tuple[Relation, ...] = ()
    excluded: tuple[ExpectedInstance, ...] = ()  # what must be there less often than its count

    def layout(self) -> Layout:
        """What a generator is given."""
        fields = Instance.model_fields
        instances = tuple(Instance(**{name: getattr(instance, name) for name in fields}) for instance in self.instances)
        return Layout(key=self.key, prompt=self.prompt, instances=instances)


class PictureName(NamedTuple):
    """Which case a picture's file is of, and which of several pictures of it ("" where there is one)."""

    key: str
    repeat: str


def by_stem(path: PurePath) -> PictureName | None:
    """The picture's name without folder and suffix is the key."""
    return PictureName(path.stem, "") if len(path.parts) == 1 else None


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """How the files of a benchmark's pictures are named, and how many of each case there are."""

    named: Callable[[PurePath], PictureName | None] = by_stem  # None: no picture of the benchmark
    left_aside: Callable[[PurePath], bool] = field(default=lambda _: False)  # files of its scripts that are no results
    pictures: str = "<key>.png"
    repeats: int = 1  # pictures a case, at least
