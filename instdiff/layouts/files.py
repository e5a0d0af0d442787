"""Layouts as people write them: our JSON, with masks as PNG files and scribbles as polylines, and the released JSON.

A file is checked as a whole: every fault names its record and field, and what is odd but can be drawn is a remark.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from instdiff import atomic
from instdiff.formats import FORMATS, POINT_FORMATS, RELEASED, points_of
from instdiff.layouts import from_tables, geometry, masks
from instdiff.schema import Box, Fraction, Instance, Layout, Point, Rle, Strict

_KEY = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # safe as a file name
_RELEASED_NAMES = {  # what a field is called in the released JSON
    r"^instances": "annos",
    r"^prompt:": "caption:",
    r"\.box:": ".bbox:",
    r"\.phrase:": ".caption:",
}
_FARTHEST = 10.0  # from the picture's border, in pictures: beyond it, pixels were meant
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


def read(
    path: Path, *, max_instances: int | None = RELEASED.max_instances, compat: Literal["reference"] | None = None
) -> list[Layout]:
    """The layouts of a JSON file (one, or a list); ValueError names file, record and field of the first fault.

    `compat="reference"` reads the released JSON as the released script does: without masks and scribbles, a missing box
    as zeros, and points by their place in the list of points, so that instances beyond its end are lost.
    """
    checked = check(path, max_instances=max_instances, compat=compat)
    if checked.faults:
        more = f" (and {len(checked.faults) - 1} more: see instdiff validate)" if len(checked.faults) > 1 else ""
        raise ValueError(checked.faults[0] + more)
    return checked.layouts


def check(
    path: Path, *, max_instances: int | None = RELEASED.max_instances, compat: Literal["reference"] | None = None
) -> Checked:
    """Every fault and every remark of a file, with the layouts that have no fault."""
    checked = Checked()
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # what is no UTF-8 or no JSON is a ValueError
        checked.faults.append(f"{path}: not a readable JSON file ({error})")
        return checked
    records = written if isinstance(written, list) else [written]
    if not records:
        checked.faults.append(f"{path}: holds no layout")
    seen: dict[str, int] = {}
    for number, record in enumerate(records):
        where = f"{path}: record {number}"
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:80] or "layout"
        key = stem if len(records) == 1 else f"{stem}-{number}"
        layout, faults = _parsed(record, key, path.parent, compat)
        remarks: list[str] = []
        if layout is not None:
            faults += _faults(layout, max_instances)
            remarks += _remarks(layout)
            if layout.key in seen:
                faults.append(f"key: {layout.key!r} is that of record {seen[layout.key]}, too")
            seen.setdefault(layout.key, number)
        names = _RELEASED_NAMES if _is_released(record) else {}
        checked.faults += [f"{where}: {_renamed(fault, names)}" for fault in faults]
        checked.remarks += [f"{where}: {_renamed(remark, names)}" for remark in remarks]
        if layout is not None and not faults:
            checked.layouts.append(layout)
    return checked


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


def mask_of(image: Image.Image) -> Rle:
    """The mask a picture shows: inside where it is lighter than middle grey and not transparent."""
    light_HW, solid_HW = (np.asarray(band) >= 128 for band in image.convert("LA").split())
    return masks.encode(light_HW & solid_HW)


def _parsed(
    record: object, key: str, folder: Path, compat: Literal["reference"] | None
) -> tuple[Layout | None, list[str]]:
    """The record as a layout, or the faults of its form."""
    try:
        if _is_released(record):
            return _from_released(ReleasedLayout.model_validate(record), key, compat), []
        written = WrittenLayout.model_validate(record)
    except ValidationError as error:
        return None, list(dict.fromkeys(_told(one) for one in error.errors()))
    instances, faults = [], []
    for number, one in enumerate(written.instances):
        try:
            instances.append(_from_written(one, folder))
        except ValueError as error:
            faults.append(f"instances.{number}.{error}")
    name = key if written.key is None else written.key
    if not _KEY.fullmatch(name):
        faults.append(f"key: {name[:40]!r} is no safe file name: letters, digits, and . _ - after the first")
    if faults:
        return None, faults
    return Layout(key=name, prompt=written.prompt, instances=tuple(instances)), []


def _is_released(record: object) -> bool:
    return isinstance(record, dict) and "annos" in record


def _renamed(told: str, names: dict[str, str]) -> str:
    """A fault or remark with the fields' names in the file."""
    for ours, theirs in names.items():
        told = re.sub(ours, theirs, told, count=1)
    return told


def _told(error: Any) -> str:
    kinds = {"Rle", "str"}  # which of the kinds of mask was tried
    place = ".".join(str(part) for part in error["loc"] if part not in kinds) or "the whole"
    return f"{place}: {error['msg']}"


def _from_written(one: WrittenInstance, folder: Path) -> Instance:
    """ValueError names the field."""
    if one.scribble and one.polyline:
        raise ValueError("polyline: give a scribble or a polyline, not both")
    scribble = along(one.polyline) if one.polyline else one.scribble
    mask = _mask_file(folder, one.mask) if isinstance(one.mask, str) else one.mask
    kept = one.model_dump(exclude={"scribble", "polyline", "mask"})
    return Instance(**kept, scribble=scribble, mask=mask)


def _mask_file(folder: Path, name: str) -> Rle:
    try:
        with Image.open(folder / name) as image:
            return mask_of(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"mask: {name[:100]!r} cannot be read as a picture ({type(error).__name__})") from error


def _from_released(written: ReleasedLayout, key: str, compat: Literal["reference"] | None) -> Layout:
    width, height = written.width, written.height
    points = [one.point for one in written.annos if one.point is not None]
    instances = []
    for number, one in enumerate(written.annos):
        box = None
        if one.bbox is not None:
            x, y, w, h = one.bbox
            box = geometry.from_pixels(x, y, x + w, y + h, height=height, width=width)
        if compat == "reference":
            if points and number >= len(points):
                break
            point, scribble, mask = (points[number] if points else None), None, None
            box = box or Box(0, 0, 0, 0)
        else:
            point, scribble, mask = one.point, one.scribble, one.mask
        place: dict[str, Any] = {
            "box": box,
            "point": None if point is None else _inside(point, width, height),
            "scribble": None if scribble is None else tuple(_inside(at, width, height) for at in scribble),
            "mask": mask,
        }
        instances.append(Instance.model_validate({"phrase": one.caption, **place}))
    return Layout(key=key, prompt=written.caption, instances=tuple(instances))


def _inside(point: Point, width: int, height: int) -> Point:
    """Pixels as fractions, at most 1 as in the released code."""
    return Point(min(point.x / width, 1.0), min(point.y / height, 1.0))


def _faults(layout: Layout, max_instances: int | None) -> Iterator[str]:
    """What cannot be drawn, by field."""
    if max_instances is not None and len(layout.instances) > max_instances:
        yield f"instances: there are {len(layout.instances)}, but the model has slots for {max_instances}"
    if not _is_text(layout.prompt):
        yield "prompt: holds half a character (a lone surrogate)"
    for number, one in enumerate(layout.instances):
        for name, fault in _instance_faults(one):
            yield f"instances.{number}.{name}: {fault}"


def _instance_faults(one: Instance) -> Iterator[tuple[str, str]]:
    if not one.phrase.strip():
        yield "phrase", "is empty"
    elif not _is_text(one.phrase):
        yield "phrase", "holds half a character (a lone surrogate)"
    if one.box is not None:
        if max(map(abs, one.box)) > _FARTHEST:
            yield "box", f"{_shown(one.box)} lies far outside the picture: places are fractions of it"
        elif one.box.x1 < one.box.x0 or one.box.y1 < one.box.y0:
            yield "box", f"{_shown(one.box)} ends before it begins: left, top, right, bottom are expected"
    for entry in POINT_FORMATS:
        for at in points_of(one, entry):
            if not (0 <= at.x <= 1 and 0 <= at.y <= 1):
                yield entry.name, f"{_shown(at)} lies outside the picture: places are fractions of it"
                break
    if one.mask is not None:
        try:
            masks.decode(one.mask)
        except ValueError as error:
            yield "mask", str(error)


def _remarks(layout: Layout) -> Iterator[str]:
    """What will be read otherwise than it is written, by field."""
    for number, one in enumerate(layout.instances):
        where = f"instances.{number}"
        if one.box is not None and geometry.clamp(one.box).area == 0:
            yield f"{where}.box: {_shown(one.box)} has no area in the picture and counts as not given"
        elif one.box is not None and geometry.clamp(one.box) != one.box:
            yield f"{where}.box: {_shown(one.box)} is cut at the picture's border"
        if not any(getattr(one, name) for name in FORMATS):
            yield f"{where}: nothing says where it is"


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(numbers: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
