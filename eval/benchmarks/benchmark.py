"""What a benchmark is: a reader of local files into cases, the judges it needs, its measures, and published numbers.

A measure is a pure function of a case and of what judges gave for one picture (detections, masks, answers), so that a
table is built anew from stored files without any model. A measure need not care about a missing picture: it is given
one in which nothing is detected and every answer is no.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from eval.benchmarks.case import Case, JudgeKind, PictureFiles
from eval.benchmarks.view import View
from eval.metrics.average_precision import CategoryMatches

Of = Literal["instance", "pair", "relation", "picture"]
Over = Literal["values", "pictures", "parts"]
Absent = Literal["left out", "refused"]


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


class Reading(NamedTuple):
    """What a benchmark's files hold, and what a reader of the numbers must know of them."""

    cases: list[Case]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark(PictureFiles):
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
    measure: Callable[[Case, View], Iterable[Value]]
    absent: Absent  # what the benchmark itself does about a picture that is missing
    comparable: str  # what may be held against published numbers, and what not
    matched: Callable[[Sequence[View]], dict[str, list[CategoryMatches]]] | None = (
        None  # by measure; image ids by place
    )
    questions: Mapping[str, str] = field(default_factory=dict)  # our wording, by id; theirs come from a file
    published: tuple[Published, ...] = ()
