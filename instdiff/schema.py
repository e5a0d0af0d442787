"""Types that cross stage borders: a layout, its instances, and the ways to say where they are.

Coordinates are fractions of the picture, x to the right and y down. `None` means "not given".
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(allow_inf_nan=False)]
Compat = Literal["reference"]  # gives the numbers of the released code where ours differ


class Strict(BaseModel):
    """Frozen; a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(NamedTuple):
    """A place in the picture."""

    x: Fraction
    y: Fraction


class Box(NamedTuple):
    """Left, top, right and bottom edge."""

    x0: Fraction
    y0: Fraction
    x1: Fraction
    y1: Fraction

    @property
    def centre(self) -> Point:
        """The middle of the box."""
        return Point((self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2)

    @property
    def area(self) -> float:
        """Share of the picture that the box covers."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)


class Rle(Strict):
    """A mask as COCO's compressed run lengths: size is (height, width) in pixels."""

    size: tuple[int, int]
    counts: str


class Instance(Strict):
    """A phrase and any location formats, possibly none."""

    phrase: str
    category: str | None = None
    box: Box | None = None
    point: Point | None = None
    scribble: tuple[Point, ...] | None = None
    mask: Rle | None = None
    outline: tuple[Point, ...] | None = None


class Layout(Strict):
    """One picture to draw: a prompt and its instances, in the order they are described."""

    key: str
    prompt: str
    instances: tuple[Instance, ...]

    @model_validator(mode="after")
    def _has_a_key(self) -> "Layout":
        if not self.key:
            raise ValueError("key is empty")
        return self
