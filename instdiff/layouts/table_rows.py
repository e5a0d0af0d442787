"""The rows of the table: what each is, and what of an instance its pictures are drawn from."""

from typing import Literal

from pydantic import model_validator

from instdiff.layouts.formats import Format
from instdiff.schema import Share, Strict


class TableRow(Strict):
    """One row: the real pictures, the same through the autoencoder, or pictures drawn by our model or by a command."""

    meaning: str  # what the row is, for readers
    pictures: Literal["real", "reconstructed", "drawn", "command"]  # drawn: by our model
    formats: tuple[Format, ...]  # of an instance that are kept; the others are withheld
    mis: Share  # share of the steps in which instances are drawn apart (the multi-instance sampler); 0: none
    command: tuple[str, ...] | None = None  # its words, with {layouts}, {out} and {seed} for two paths and a number

    @model_validator(mode="after")
    def _has_a_command_or_none(self) -> "TableRow":
        if (self.pictures == "command") != bool(self.command):
            raise ValueError("command: is given where pictures is command, and only there")
        words = self.command or ()
        lacking = [place for place in ("{layouts}", "{out}") if not any(place in word for word in words)]
        if words and lacking:
            raise ValueError(f"command: has no place for {' and '.join(lacking)}")
        return self
