"""Files of benchmarks, record by record: a fault is one sentence that names file, record and field."""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from eval.benchmarks.case import Case
from instdiff.files.texts import first_fault, is_text, one_line
from instdiff.layouts.files import KEY
from instdiff.schema import Box, Record

Model = TypeVar("Model", bound=BaseModel)

FARTHEST = 10.0  # from the picture's border, in pictures: beyond it, another unit was meant
MOST_INSTANCES = 10_000  # of one picture


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("holds half a character (a lone surrogate)")
    return value


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


Text = Annotated[str, AfterValidator(_text)]
Phrase = Annotated[Text, AfterValidator(_filled)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Edges = tuple[Finite, Finite, Finite, Finite]
Side = Annotated[int, Field(gt=0, le=100_000)]  # pixels


class FileRecord(Record):
    """A record of a benchmark's file; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def parsed(kind: type[Model], record: object, where: str) -> Model:
    """The record checked; ValueError begins with `where` and names the field."""
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_fault(error)}") from error


def one_file(paths: Sequence[Path], what: str) -> Path:
    """The only file; ValueError where there are more or none."""
    if len(paths) != 1:
        raise ValueError(f"{len(paths)} files: {what} is one file")
    return paths[0]


def listed(content: object, where: str) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(content, list) or not content:
        raise ValueError(f"{where}: a list of records is expected, and there is none")
    return content


def named(content: object, where: str) -> dict[str, Any]:
    """An object that is not empty, with texts as keys."""
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{where}: an object of records by name is expected, and there is none")
    strange = [name for name in content if not isinstance(name, str) or not is_text(name)]
    if strange:
        raise ValueError(f"{where}: {strange[0]!r} is no name")
    return content


def parquet(path: Path, columns: Sequence[str], also: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows with these columns, and those of `also` that are there; each with its place for sentences.

    Other columns, such as pictures, are not read.
    """
    try:
        names = pq.read_schema(path).names
        lacking = [name for name in columns if name not in names]
        table = None if lacking else pq.read_table(path, columns=[*columns, *(name for name in also if name in names)])
        rows = [] if table is None else table.to_pylist()
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not a readable Parquet table ({one_line(error)})") from error
    if lacking:
        raise ValueError(f"{path}: column {lacking[0]!r} is missing")
    if not rows:
        raise ValueError(f"{path}: the table has no rows")
    for number, row in enumerate(rows):
        yield f"{path}: row {number}", row


def literal(text: object, where: str) -> Any:
    """The value of a Python literal in a text; ValueError begins with `where`."""
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: not a Python literal ({one_line(error)[:200]})") from error


def box(edges: Sequence[float], where: str, width: float = 1.0, height: float = 1.0) -> Box:
    """The box of x0, y0, x1, y1 in fractions, or in pixels of a picture of this size, as fractions."""
    placed = Box(edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height)
    if max(map(abs, placed)) > FARTHEST:
        raise ValueError(f"{where}: {list(edges)} lies far outside the picture: are these other units?")
    if placed.x1 < placed.x0 or placed.y1 < placed.y0:
        raise ValueError(f"{where}: {list(edges)} ends before it begins: left, top, right, bottom are expected")
    return placed


def without_article(label: str) -> str:
    """The label without "a " or "an " before it."""
    article, _, rest = label.strip().partition(" ")
    return rest.strip() if article.lower() in {"a", "an"} and rest.strip() else label.strip()


def key(text: str, where: str) -> str:
    """The text as a picture's name; ValueError where it is no safe one."""
    if not KEY.fullmatch(text):
        raise ValueError(f"{where}: {text[:40]!r} is no safe file name: letters, digits, and . _ - after the first")
    return text


def checked(cases: Sequence[Case], source: Path | str) -> list[Case]:
    """The cases, whose keys stand once; ValueError names the key."""
    if not cases:
        raise ValueError(f"{source}: holds no layout")
    for case in cases:
        if len(case.instances) > MOST_INSTANCES:
            raise ValueError(f"{source}: {case.key}: {len(case.instances)} instances, {MOST_INSTANCES} at most")
    twice = [key for key, count in Counter(case.key for case in cases).items() if count > 1]
    if twice:
        raise ValueError(f"{source}: the picture {twice[0]!r} stands twice")
    return list(cases)
