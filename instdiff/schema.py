"""Types that cross stage borders: a layout, its instances, and the ways to say where they are.

Coordinates are fractions of the picture, x to the right and y down. `None` means "not given".
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


Fraction = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Compat = Literal["reference"]  # gives the numbers of the released code where ours differ


def _without_truths(schema: Any) -> Any:
    """A schema of pydantic's, each number in it preceded by the refusal of true and false."""
    if isinstance(schema, list):
        return [_without_truths(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-before" and schema["function"]["function"] is _no_truth:
        return schema
    if schema.get("type") in ("int", "float"):
        return core_schema.no_info_before_validator_function(_no_truth, schema)
    changed = {name: value if name == "metadata" else _without_truths(value) for name, value in schema.items()}
    if schema.get("type") == "union":  # a fault names the kind of number that was tried, not the refusal before it
        kinds = (choice["type"] if isinstance(choice, dict) else None for choice in schema["choices"])
        changed["choices"] = [
            (choice, kind) if kind in ("int", "float") else choice
            for choice, kind in zip(changed["choices"], kinds, strict=True)
        ]
    return changed


class Record(BaseModel):
    """What people write into files: true and false, which Python takes for 1 and 0, are no numbers here."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Every number of the record, however deep, with that rule."""
        schema: CoreSchema = _without_truths(handler(source))
        return schema


class Strict(Record):
    """Frozen; a field it does not know is an error, and so is a number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
