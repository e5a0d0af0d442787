"""What a grounder answers."""

from typing import NamedTuple

from instdiff.schema import Box


class ScoredBox(NamedTuple):
    """One instance that a grounder sees."""

    category: str | None
    box: Box
    score: float
