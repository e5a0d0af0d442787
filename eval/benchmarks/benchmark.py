"""What a benchmark is: a reader of local files into cases, the judges it needs, its measures, and published numbers.

A case is a layout with what its picture must show. A measure is a pure function of a case and of what judges gave for
one picture (detections, masks, answers), so that a table is built anew from stored files without any model. A measure
need not care about a missing picture: it is given one in which nothing is detected and every answer is no.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple

from instdiff.schema import Box, Instance, Layout, Strict

if TYPE_CHECKING:
    from eval.benchmarks.view import View
    from eval.metrics.average_precision import CategoryMatches

SIDE = 512  # pixels of the pictures that most benchmarks want

Of = Literal["instance", "pair", "relation", "picture"]
Over = Literal["values", "pictures", "parts"]
JudgeKind = Literal["detections", "masks", "answers", "judge"]
Absent = Literal["left out", "refused"]


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


@dataclass(frozen=True)
class Measure:
    """A number of a benchmark: how it is shown, what one value of it belongs to, and how values become the number.

    The mean is over all `values`, over `pictures` of the means within each, or over `parts` of the means within each.
    """

    label: str
    meaning: str
    of: Of = "instance"
    over: Over = "values"
    better: Literal["higher", "lower"] = "higher"
    headline: bool = True
    whole: bool = False  # an average precision over all pictures, from the benchmark's `matched`


class Value(NamedTuple):
    """One value of a measure; None where this instance, pair or picture does not count."""

    measure: str
    number: int  # of the instance, pair or relation in its case; -1 for the picture
    value: float | None


class Published(NamedTuple):
    """A number that others state; `setting` says in what it differs from ours."""

    model: str
    measure: str  # with a part: "miou/split/complex"
    value: float  # in the unit of ours
    source: str
    setting: str = ""


class PictureName(NamedTuple):
    """Which case a picture's file is of, and which of several pictures of it ("" where there is one)."""

    key: str
    repeat: str


class Reading(NamedTuple):
    """What a benchmark's files hold, and what a reader of the numbers must know of them."""

    cases: list[Case]
    remarks: tuple[str, ...] = ()


def by_stem(path: PurePath) -> PictureName | None:
    """The picture's name without folder and suffix is the key."""
    return PictureName(path.stem, "") if len(path.parts) == 1 else None


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; everything but its functions is data."""

    name: str
    title: str
    source: str  # repository and commit, or card, from which its rules are
    licence: str
    files: str  # what the reader takes
    judges: str  # its own, in words
    needs: frozenset[JudgeKind]  # without which nothing is measured
    read: Callable[[Sequence[Path]], Reading]
    measures: Mapping[str, Measure]  # in the order of the table
    measure: Callable[[Case, "View"], Iterable[Value]]
    absent: Absent  # what the benchmark itself does about a picture that is missing
    comparable: str  # what may be held against published numbers, and what not
    matched: Callable[[Sequence["View"]], dict[str, list["CategoryMatches"]]] | None = (
        None  # by measure; image ids by place
    )
    named: Callable[[PurePath], PictureName | None] = by_stem  # None: no picture of the benchmark
    left_aside: Callable[[PurePath], bool] = field(default=lambda _: False)  # files of its scripts that are no results
    pictures: str = "<key>.png"
    questions: Mapping[str, str] = field(default_factory=dict)  # our wording, by id; theirs come from a file
    published: tuple[Published, ...] = ()
    repeats: int = 1  # pictures a case, at least
