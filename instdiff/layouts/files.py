"""Layouts as people write them: our JSON, with masks as PNG files and scribbles as polylines, and the released JSON.

A file is checked as a whole: every fault names its record and field, and what is odd but can be drawn is a remark.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from instdiff.files import atomic, value_faults
from instdiff.files.texts import quoted, read_json
from instdiff.layouts import faults as layout_faults
from instdiff.layouts import from_tables, geometry, mask_pictures, remarks
from instdiff.layouts.formats import RELEASED
from instdiff.layouts.remarks import SQUARE, Shape, rounded
from instdiff.schema import Box, Fraction, Instance, Layout, Point, Rle, Strict

KEY = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # safe as a file name
_RELEASED_NAMES = {  # what a field is called in the released JSON
    r"^instances": "annos",
    r"^prompt:": "caption:",
    r"\.box:": ".bbox:",
    r"\.phrase:": ".caption:",
}
_MAX_SIDE = 100_000  # pixels
_ALONG = 240  # points that stand for a polyline


class WrittenInstance(Instance):
    """An instance in our JSON; places are fractions of the picture, a mask is run lengths or the path of a PNG."""

    polyline: tuple[Point, ...] | None = None
    mask: Rle | str | None = None  # type: ignore[assignment]  # a path is read before it becomes an Instance


class WrittenLayout(Strict):
    """A layout in our JSON; without a key it has that of its file and number."""

    key: str | None = None
    prompt: str
    instances: tuple[WrittenInstance, ...]


def _none_if_empty(value: Any) -> Any:
    return None if value in ([], {}, "") else value


def _pairs(value: Any) -> Any:
    """x, y, x, y, ... as pairs."""
    if isinstance(value, list) and value and not isinstance(value[0], list) and len(value) % 2 == 0:
        return [value[i : i + 2] for i in range(0, len(value), 2)]
    return _none_if_empty(value)


class ReleasedInstance(BaseModel):
    """An annotation of the released demos: places in pixels, what is empty not given, other fields ignored."""

    caption: str
    bbox: Annotated[tuple[Fraction, Fraction, Fraction, Fraction] | None, BeforeValidator(_none_if_empty)] = None
    point: Annotated[Point | None, BeforeValidator(_none_if_empty)] = None
    scribble: Annotated[tuple[Point, ...] | None, BeforeValidator(_pairs)] = None
    mask: Annotated[Rle | None, BeforeValidator(_none_if_empty)] = None


class ReleasedLayout(BaseModel):
    """A demo of the released code."""

    caption: str
    width: Annotated[int, Field(gt=0, le=_MAX_SIDE)]
    height: Annotated[int, Field(gt=0, le=_MAX_SIDE)]
    annos: tuple[ReleasedInstance, ...]


@dataclass
class Checked:
    """What a file holds: layouts, faults that forbid to draw, and remarks on what is read otherwise than written."""

    layouts: list[Layout] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def drawable(self) -> list[Layout]:
        """The layouts; ValueError with the first fault if there is one."""
        if self.faults:
            more = f" (and {len(self.faults) - 1} more: see instdiff validate)" if len(self.faults) > 1 else ""
            raise ValueError(self.faults[0] + more)
        return self.layouts


def read(
    path: Path, *, max_instances: int | None = RELEASED.max_instances, compat: Literal["reference"] | None = None
) -> list[Layout]:
    """The layouts of a JSON file (one, or a list); ValueError names file, record and field of the first fault.

    `compat="reference"` reads the released JSON as the released script does: without masks and scribbles, a missing box
    as zeros, and points by their place in the list of points, so that instances beyond its end are lost.
    """
    return check(path, max_instances=max_instances, compat=compat).drawable()


def check(
    path: Path,
    *,
    max_instances: int | None = RELEASED.max_instances,
    compat: Literal["reference"] | None = None,
    shape: Shape = SQUARE,
) -> Checked:
    """Every fault and every remark of a file, with the layouts that have no fault.

    `shape` is that of the pictures that will be drawn; remarks on long texts are not among these: see `remarks`.
    """
    checked = Checked()
    try:
        records = _records(read_json(path))
    except ValueError as error:
        checked.faults.append(str(error))
        return checked
    if not records:
        checked.faults.append(f"{path}: holds no layout")
    seen: dict[str, int] = {}
    for number, record in enumerate(records):
        where = f"{path}: record {number}"
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:80] or "layout"
        key = stem if len(records) == 1 else f"{stem}-{number}"
        layout, faults, notes = _parsed(record, key, path.parent, compat)
        if layout is not None:
            faults += layout_faults.of_layout(layout, max_instances)
            if layout.key in seen:
                faults.append(f"key: {layout.key!r} is that of record {seen[layout.key]}, too")
            seen.setdefault(layout.key, number)
        if layout is not None and not faults:
            checked.layouts.append(layout)
            notes += remarks.of_layout(layout, _written_for(record, shape), shape)
        names = _RELEASED_NAMES if _is_released(record) else {}
        checked.faults += [f"{where}: {_renamed(fault, names)}" for fault in faults]
        checked.remarks += [f"{where}: {_renamed(note, names)}" for note in notes]
    return checked


def _records(content: Any) -> list[Any]:
    """The layouts of a file: a list, also one under the name `layouts`, or one alone."""
    if isinstance(content, dict) and content.keys() == {"layouts"} and isinstance(content["layouts"], list):
        content = content["layouts"]
    return content if isinstance(content, list) else [content]


def _written_for(record: Any, size: Shape) -> Shape:
    """Height and width that a record states, the shape drawn where it states none."""
    return (record["height"], record["width"]) if _is_released(record) else size


def write(path: Path, written: Sequence[Layout]) -> None:
    """Layouts as a JSON list, one a line; formats not given are left out."""
    lines = [json.dumps(from_tables.to_json(layout), ensure_ascii=False) for layout in written]
    with atomic.file(path) as part:
        part.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def along(vertices: Sequence[Point], count: int = _ALONG) -> tuple[Point, ...]:
    """`count` points at equal distances along the line through the vertices, its ends included."""
    corners_K2 = np.asarray(vertices, dtype=np.float64)
    lengths = np.hypot(*np.diff(corners_K2, axis=0).T) if len(corners_K2) > 1 else np.zeros(0)
    walked = np.concatenate([[0.0], np.cumsum(lengths)])
    if walked[-1] == 0:
        return (Point(*corners_K2[0].tolist()),)
    at = np.linspace(0, walked[-1], count)
    return tuple(
        map(Point, np.interp(at, walked, corners_K2[:, 0]).tolist(), np.interp(at, walked, corners_K2[:, 1]).tolist())
    )


def _parsed(
    record: Any, key: str, folder: Path, compat: Literal["reference"] | None
) -> tuple[Layout | None, list[str], list[str]]:
    """The record as a layout, and the faults of its form; and remarks on how it was read.

    The layout of a record with faults is what remains without them, so that faults of another kind are found as well;
    None where nothing remains.
    """
    model = ReleasedLayout if _is_released(record) else WrittenLayout
    faults: list[str] = []
    try:
        parsed = model.model_validate(record)
    except ValidationError as error:
        faults = list(dict.fromkeys(_quoted(fault) for fault in error.errors()))
        try:
            parsed = model.model_validate(_without(record, error.errors()))
        except ValidationError:
            return None, faults, []
    if isinstance(parsed, ReleasedLayout):
        return _from_released(parsed, key, compat), faults, list(_units(parsed))
    layout, others, notes = _from_ours(parsed, key, folder)
    return layout, faults + others, notes


def _without(record: Any, errors: Sequence[ErrorDetails]) -> Any:
    """The record without its faulty fields; texts that must be there are stood in for."""
    rest = copy.deepcopy(record)
    for error in errors:
        *path, name = error["loc"][:3] or ("",)
        node = rest
        for part in path:
            node = node[part] if _holds(node, part) else None
        if isinstance(node, dict):
            node.pop(name, None)
            node |= {text: "-" for text in ("prompt", "phrase", "caption") if text == name}
        elif isinstance(node, list) and isinstance(name, int):
            node[name] = {"phrase": "-", "caption": "-"} if "annos" in path else {"phrase": "-"}
    return rest


def _holds(node: Any, part: int | str) -> bool:
    return part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))


def _from_ours(written: WrittenLayout, key: str, folder: Path) -> tuple[Layout, list[str], list[str]]:
    """The layout, without instances that cannot be read; faults and remarks."""
    instances, faults, notes = [], [], []
    for number, written_instance in enumerate(written.instances):
        try:
            instance, note = _from_written(written_instance, folder)
            instances.append(instance)
            notes += [f"instances.{number}.mask: {written_instance.mask!r} {note}"] if note is not None else []
        except ValueError as error:
            faults.append(f"instances.{number}.{error}")
            instances.append(Instance(**written_instance.model_dump(exclude={"polyline", "mask"})))
    name = key if written.key is None else written.key
    if not KEY.fullmatch(name):
        faults.append(f"key: {name[:40]!r} is no safe file name: letters, digits, and . _ - after the first")
        name = key
    return Layout(key=name, prompt=written.prompt, instances=tuple(instances)), faults, notes


def _units(written: ReleasedLayout) -> Iterator[str]:
    """Points of the released JSON that look like fractions, where pixels are meant."""
    for number, instance in enumerate(written.annos):
        for name, points in (("point", [instance.point]), ("scribble", instance.scribble or ())):
            places = [at for at in points if at is not None and any(at)]
            if places and all(0 <= at.x < 1 and 0 <= at.y < 1 for at in places):
                yield f"annos.{number}.{name}: {rounded(places[0])} lies in the first pixel: places are pixels here"


def _is_released(record: object) -> bool:
    return isinstance(record, dict) and "annos" in record


def _renamed(sentence: str, names: dict[str, str]) -> str:
    """A fault or remark with the fields' names in the file."""
    for ours, theirs in names.items():
        sentence = re.sub(ours, theirs, sentence, count=1)
    return sentence


def _quoted(error: ErrorDetails) -> str:
    kinds = ("Rle", "str")  # which of the kinds of mask was tried
    place = tuple(part for part in error["loc"] if part not in kinds)
    if error["type"] != "extra_forbidden":
        return quoted({**error, "loc": place})
    *where, name = map(str, place)
    fields = (WrittenLayout if not where else Rle if "mask" in where else WrittenInstance).model_fields
    near = value_faults.suggestion(name, fields) or f"; there are {', '.join(fields)}"
    return f"{'.'.join([*where, name])}: no such field{near}"


def _from_written(written: WrittenInstance, folder: Path) -> tuple[Instance, str | None]:
    """The instance, and what is to be said of how its mask was read; ValueError names the field."""
    if written.scribble and written.polyline:
        raise ValueError("polyline: give a scribble or a polyline, not both")
    scribble = along(written.polyline) if written.polyline else written.scribble
    mask, note = _mask_file(folder, written.mask) if isinstance(written.mask, str) else (written.mask, None)
    rest = written.model_dump(exclude={"scribble", "polyline", "mask"})
    return Instance(**rest, scribble=scribble, mask=mask), note


def _mask_file(folder: Path, name: str) -> mask_pictures.Read:
    try:
        return mask_pictures.read(folder / name)
    except ValueError as error:
        raise ValueError(f"mask: {name[:100]!r} cannot be read as a picture ({error})") from error


def _from_released(written: ReleasedLayout, key: str, compat: Literal["reference"] | None) -> Layout:
    width, height = written.width, written.height
    points = [instance.point for instance in written.annos if instance.point is not None]
    instances = []
    for number, instance in enumerate(written.annos):
        box = None
        if instance.bbox is not None:
            x, y, w, h = instance.bbox
            box = geometry.from_pixels(x, y, x + w, y + h, height=height, width=width)
        if compat == "reference":
            if points and number >= len(points):
                break
            point, scribble, mask = (points[number] if points else None), None, None
            box = box or Box(0, 0, 0, 0)
        else:
            point, scribble, mask = instance.point, instance.scribble, instance.mask
        place: dict[str, Any] = {
            "box": box,
            "point": None if point is None else _inside(point, width, height),
            "scribble": None if scribble is None else tuple(_inside(at, width, height) for at in scribble),
            "mask": mask,
        }
        instances.append(Instance.model_validate({"phrase": instance.caption, **place}))
    return Layout(key=key, prompt=written.caption, instances=tuple(instances))


def _inside(point: Point, width: int, height: int) -> Point:
    """Pixels as fractions, at most 1 as in the released code."""
    return Point(min(point.x / width, 1.0), min(point.y / height, 1.0))
