"""The location formats: every way to say where an instance is, one entry each, and how many numbers a model reads.

What completes, stacks, mirrors, withholds and encodes locations goes through this table; docs/adding-a-format.md says
what a new entry needs besides.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from instdiff.schema import Instance, Point, Strict

Format = Literal["box", "point", "scribble", "outline", "mask"]
Kind = Literal["box", "point", "points", "mask"]  # how an Instance holds it: a Box, a Point, a tuple of them, an Rle


class Slots(Strict):
    """How many instances of a picture a model reads, and how many numbers of each."""

    max_instances: PositiveInt  # slots for the instances of a picture
    mask_size: PositiveInt  # pixels a side
    num_scribble_points: NonNegativeInt  # of each scribble
    num_outline_points: NonNegativeInt  # of each outline

    @property
    def located(self) -> tuple[Format, ...]:
        """Formats of the model with a token for each slot, in the order of their tokens: all but the mask."""
        return tuple(name for name in LOCATED if all(BY_NAME[name].shape(self)))


RELEASED = Slots(max_instances=30, mask_size=512, num_scribble_points=20, num_outline_points=256)  # the paper's model


@dataclass(frozen=True)
class LocationFormat:
    """One way to say where an instance is; `name` is its field of Instance, and its column in tables."""

    name: Format
    kind: Kind
    tensor: str  # field of Conditions that holds its numbers; `<name>_given_BN` says where they count
    count: str | None = None  # field of Slots with the number of "points"; 0: the model has no such format
    reach: float | None = None  # of points, as a fraction of the picture: cells so near belong to the instance
    withheld_with: Format | None = None  # training withholds both together; None: by a chance of its own

    def shape(self, slots: Slots) -> tuple[int, ...]:
        """Shape of one instance's numbers."""
        if self.kind == "mask":
            return (slots.mask_size, slots.mask_size)
        if self.count is not None:
            return (2 * int(getattr(slots, self.count)),)
        return (4,) if self.kind == "box" else (2,)


LOCATION_FORMATS = (  # their order is that of the tokens of UniFusion
    LocationFormat("box", "box", "box_BN4"),
    LocationFormat("point", "point", "point_BN2", reach=0.2),
    LocationFormat("scribble", "points", "scribble_BNS", count="num_scribble_points", reach=0.08),
    LocationFormat("outline", "points", "outline_BNP", count="num_outline_points", withheld_with="mask"),
    LocationFormat("mask", "mask", "mask_BNHW"),
)
BY_NAME = {entry.name: entry for entry in LOCATION_FORMATS}
FORMATS: tuple[Format, ...] = tuple(BY_NAME)
LOCATED: tuple[Format, ...] = tuple(entry.name for entry in LOCATION_FORMATS if entry.kind != "mask")  # a token a slot
POINT_FORMATS = tuple(entry for entry in LOCATION_FORMATS if entry.kind in {"point", "points"})


def points_of(instance: Instance, entry: LocationFormat) -> tuple[Point, ...]:
    """The points an instance has in a format of points, possibly none."""
    value = getattr(instance, entry.name)
    if value is None:
        return ()
    return (value,) if entry.kind == "point" else tuple(value)
