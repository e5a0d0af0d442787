"""The rows of the table: what each is, and what of an instance its pictures are drawn from."""

from typing import Literal

from instdiff.formats import Format
from instdiff.schema import Share, Strict


class TableRow(Strict):
    """One row: the real pictures, the same through the autoencoder, or pictures drawn from some location formats."""

    meaning: str  # what the row is, for readers
    pictures: Literal["real", "reconstructed", "drawn"]  # as they are, encoded and decoded, or drawn by the model
    formats: tuple[Format, ...]  # of an instance that are kept; the others are withheld
    mis: Share  # share of the steps in which instances are drawn apart (the multi-instance sampler); 0: none
