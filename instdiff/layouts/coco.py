"""COCO's annotation files, read by one rule wherever people bring them: to be ingested or to judge pictures by.

Ids are whole numbers, also where a tool wrote them as text. An id that stands twice is refused, for nobody can say
whose annotations are whose. A record that cannot be taken is a fault with its place and id, and costs no other record.
Fields that nobody needs stop nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pycocotools import mask as coco
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from instdiff.files.texts import first_fault, is_text
from instdiff.layouts import masks
from instdiff.schema import Rle, Strict

_CROWD = {"0": 0, "1": 1, "false": 0, "true": 1}


def _number(value: Any) -> Any:
    """A whole number, also written as text."""
    if isinstance(value, bool) or (isinstance(value, str) and not re.fullmatch(r"\s*-?\d{1,19}\s*", value)):
        raise ValueError(f"{value!r} is not a whole number: number the ids")
    return value


def _no_truth(value: Any) -> Any:
    """Anything but true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


def _crowd(value: Any) -> Any:
    return 0 if value is None else _CROWD.get(str(value).strip().lower(), value)


def _text(value: Any) -> Any:
    if isinstance(value, str) and not is_text(value):
        raise ValueError("holds half a character (a lone surrogate)")
    return value


def _slashes(name: Any) -> Any:
    """A file's name with the separators of other systems as ours."""
    return _text(name.replace("\\", "/")) if isinstance(name, str) else name


Whole = Annotated[int, BeforeValidator(_no_truth)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]  # strict: true is no number
Id = Annotated[int, BeforeValidator(_number), Field(ge=-(2**63), lt=2**63)]
Side = Annotated[Whole, Field(ge=1, le=100_000)]  # pixels
Bbox = Annotated[list[Finite], Field(min_length=4, max_length=4)]  # x, y, width, height in pixels
Polygon = Annotated[list[Finite], Field(min_length=6)]


class Foreign(Strict):
    """A record of another tool's: fields not named here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Image(Foreign):
    """A picture. `caption` is its prompt, which files of ours state."""

    id: Id
    file_name: Annotated[str, Field(min_length=1), BeforeValidator(_slashes)]
    width: Side
    height: Side
    caption: str = ""

    @property
    def key(self) -> str:
        """The name that a picture of this image goes by: its file's, without folder and suffix."""
        return PurePosixPath(self.file_name).stem


class Category(Foreign):
    """A class."""

    id: Id
    name: Annotated[str, Field(min_length=1), BeforeValidator(_text)]


class RunLengths(Foreign):
    """A mask, compressed (a string) or not (numbers)."""

    size: tuple[Whole, Whole]
    counts: str | list[Annotated[Whole, Field(ge=0)]]


class Region(Foreign):
    """Where an instance is, in pixels. Pieces of polygons with fewer than three points enclose nothing and go."""

    bbox: Bbox
    segmentation: list[Polygon] | RunLengths | None = None
    stray: int = 0  # pieces that went

    @model_validator(mode="before")
    @classmethod
    def _without_stray_pieces(cls, record: Any) -> Any:
        if not isinstance(record, Mapping):
            return record
        segmentation, stray = _pieces(record.get("segmentation"))
        return {**record, "segmentation": segmentation, "stray": stray}


class Annotation(Foreign):
    """An annotation of instances_*.json, its region not yet checked."""

    id: Id
    image_id: Id
    category_id: Id
    iscrowd: Annotated[int, BeforeValidator(_crowd), Field(ge=0, le=1)] = 0
    bbox: Any = None
    segmentation: Any = None


class Caption(Foreign):
    """An annotation of captions_*.json."""

    id: Id
    image_id: Id
    caption: str | None = None  # null: there is none


class Fault(NamedTuple):
    """A record that is not taken."""

    place: str  # in the file: annotations.3
    name: str  # with the id that it states: annotation 12
    image_id: int | None  # of the picture it belongs to, where the file has that picture
    reason: str  # a word to count by
    detail: str  # the field, and what is wrong with it


Record = TypeVar("Record", bound=Annotation)


@dataclass(frozen=True)
class Page(Generic[Record]):
    """instances_*.json: pictures, annotations by their place in the file, and the records that were not taken."""

    images: tuple[Image, ...]
    annotations: Mapping[int, Record]
    categories: tuple[Category, ...]
    faults: tuple[Fault, ...]


def read(content: Any, where: str, kind: type[Record]) -> Page[Record]:
    """The page of a file's content; ValueError begins with `where` and names the list or the id that cannot be used."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: not COCO annotations (an object is expected)")
    lists = {name: _list(content, name, where) for name in ("images", "categories", "annotations")}
    faults: list[Fault] = []
    images = dict(_valid(lists["images"], "images", Image, faults))
    annotations = dict(_valid(lists["annotations"], "annotations", kind, faults))
    _refuse_twice(where, "images", {place: image.id for place, image in images.items()})
    _refuse_twice(where, "annotations", {place: annotation.id for place, annotation in annotations.items()})
    categories = _categories(
        lists["categories"], where, {annotation.category_id for annotation in annotations.values()}
    )
    pictures, names = {image.id for image in images.values()}, {category.id for category in categories}
    faults = [_belonging(fault, lists["annotations"], pictures) for fault in faults]
    for place, image in list(images.items()):
        if image.height * image.width > masks.MAX_PIXELS:
            detail = f"{image.width}x{image.height} pixels are no picture's"
            faults.append(Fault(f"images.{place}", f"image {image.id}", None, "bad_record", detail))
            pictures.discard(image.id)
            del images[place]
    for place, annotation in list(annotations.items()):
        if (fault := _homeless(place, annotation, pictures, names)) is not None:
            faults.append(fault)
            del annotations[place]
    return Page(tuple(images.values()), annotations, categories, tuple(faults))


def captions(content: Any, where: str) -> tuple[list[Caption], list[Fault]]:
    """The captions of a file's content that are not null, and the records that were not taken."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: not COCO captions (an object is expected)")
    faults: list[Fault] = []
    records = _valid(_list(content, "annotations", where), "annotations", Caption, faults)
    return [caption for _, caption in records if caption.caption is not None], faults


def check(region: Region, height: int, width: int) -> None:
    """ValueError names the field of a region that cannot be of a picture of this size.

    Corners may lie a little outside; far outside, pycocotools would draw the whole way there.
    """
    if region.bbox[2] < 0 or region.bbox[3] < 0:
        raise ValueError("bbox has a negative width or height")
    if isinstance(region.segmentation, RunLengths) and region.segmentation.size != (height, width):
        raise ValueError(f"segmentation.size {region.segmentation.size} is not the picture's, {(height, width)}")
    for polygon in region.segmentation if isinstance(region.segmentation, list) else ():
        if len(polygon) % 2:
            raise ValueError(f"segmentation: a polygon has {len(polygon)} numbers: x, y, x, y, ... is meant")
        xs, ys = polygon[::2], polygon[1::2]
        if min(xs) < -width or max(xs) > 2 * width or min(ys) < -height or max(ys) > 2 * height:
            raise ValueError(f"segmentation: a polygon lies far outside the {width}x{height} picture")


def run_lengths(region: Region, height: int, width: int) -> Rle | None:
    """The mask of a region at its picture's size, pieces joined; None where it has none."""
    if not region.segmentation:
        return None
    if isinstance(region.segmentation, list):
        joined = coco.merge(coco.frPyObjects(region.segmentation, height, width))
    elif isinstance(region.segmentation.counts, list):
        covered = sum(region.segmentation.counts)
        if covered != height * width:
            raise ValueError(f"segmentation.counts cover {covered} of {height * width} pixels")
        joined = coco.frPyObjects(region.segmentation.model_dump(), height, width)
    else:
        rle = Rle(size=region.segmentation.size, counts=region.segmentation.counts)
        masks.checked(rle)
        return rle
    return Rle(size=(height, width), counts=joined["counts"].decode("ascii"))


def _pieces(value: Any) -> tuple[Any, int]:
    """Polygons as lists of x, y, x, y, ..., and how many pieces had fewer than three points.

    Read, too, are a single polygon without the list around it, and points in pairs.
    """
    if not isinstance(value, list) or not value:
        return value or None, 0
    if all(map(_is_number, value)) or (len(value) >= 3 and all(map(_is_pair, value))):
        value = [value]
    pieces = [
        _flat(piece) if isinstance(piece, list) and piece and all(map(_is_pair, piece)) else piece for piece in value
    ]
    whole = [piece for piece in pieces if not (isinstance(piece, list) and len(piece) < 6 and len(piece) % 2 == 0)]
    return whole or None, len(pieces) - len(whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _flat(pairs: Sequence[Sequence[Any]]) -> list[Any]:
    return [edge for pair in pairs for edge in pair]


def _list(content: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = content.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{where}: {name}: a list is expected")
    return value


def _valid(records: Sequence[Any], name: str, kind: Any, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """The records that have their fields, by place; the others become faults."""
    for place, record in enumerate(records):
        try:
            yield place, kind.model_validate(record)
        except ValidationError as error:
            stated = record.get("id") if isinstance(record, dict) else None
            called = f"{name.removesuffix('s')} {str(stated)[:40]}"
            faults.append(Fault(f"{name}.{place}", called, None, "bad_record", first_fault(error)))


def _belonging(fault: Fault, annotations: Sequence[Any], pictures: set[int]) -> Fault:
    """An annotation's fault with its picture, where its record says which that is."""
    kind, _, place = fault.place.partition(".")
    record = annotations[int(place)] if kind == "annotations" else None
    try:
        number = int(_number(record["image_id"])) if isinstance(record, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return fault
    return fault._replace(image_id=number, reason="bad_annotation") if number in pictures else fault


def _homeless(place: int, annotation: Annotation, pictures: set[int], names: set[int]) -> Fault | None:
    """The fault of an annotation whose picture or category the file does not have."""
    where, name = f"annotations.{place}", f"annotation {annotation.id}"
    if annotation.image_id not in pictures:
        return Fault(where, name, None, "no_picture", f"image_id {annotation.image_id} is not among the images")
    if annotation.category_id not in names:
        detail = f"category_id {annotation.category_id} is not among the categories"
        return Fault(where, name, annotation.image_id, "unknown_category", detail)
    return None


def _categories(records: Sequence[Any], where: str, used: set[int]) -> tuple[Category, ...]:
    """Categories by id; what is wrong with those that no annotation has stops nothing."""
    faults: list[Fault] = []
    listed = [category for _, category in _valid(records, "categories", Category, faults)]
    for fault in faults:
        record = records[int(fault.place.partition(".")[2])]
        if isinstance(record, dict) and str(record.get("id")).strip() in set(map(str, used)):
            raise ValueError(f"{where}: {fault.place}: {fault.detail}")
    names: dict[int, set[str]] = {}
    for category in listed:
        names.setdefault(category.id, set()).add(category.name)
    for number, own in names.items():
        if len(own) > 1 and number in used:
            first, second = sorted(own)[:2]
            raise ValueError(f"{where}: categories: {number} stands twice, as {first!r} and as {second!r}")
    return tuple(Category(id=number, name=own.pop()) for number, own in names.items() if len(own) == 1)


def _refuse_twice(where: str, name: str, ids: Mapping[int, int]) -> None:
    """ValueError names the first id that two records have."""
    seen: dict[int, int] = {}
    for place, number in ids.items():
        if number in seen:
            raise ValueError(
                f"{where}: {name}.{place}: id {number} stands twice ({name}.{seen[number]} has it, too):"
                " number the ids anew where files were merged"
            )
        seen[number] = place
