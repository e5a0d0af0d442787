"""Sources of real pictures: lists that name records.

Every path may be a local one or an fsspec URL (s3://...). A list that cannot be read is a ValueError that names it.
"""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources import tars
from data_prep.sources.records import Annotation, Captioned, File, Label, Record, Wrong, read
from instdiff.files.picture_files import SUFFIXES, UNREAD
from instdiff.files.texts import decoded, json_of, one_line
from instdiff.layouts import coco as coco_files
from instdiff.work.outcomes import Failure

_KINDS = "a folder, .json, .csv, .parquet or .tar"


def captioned(path: str, root: str | None) -> list[Record]:
    """Pictures with captions: a JSON, CSV or Parquet list, a folder with .txt files, or tars as img2dataset writes.

    Relative paths in a list start at `root`, or where the list lies. A tar may be named alone or by a pattern.
    """
    if path.lower().endswith(".tar"):
        return [record for tar in _matching(path) for record in tars.samples(tar)]
    readers: dict[str, Callable[[str], list[Any]]] = {".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    for suffix, rows in readers.items():
        if path.lower().endswith(suffix):
            start = root if root is not None else path.rpartition("/")[0]
            return [_listed(number, row, start, path) for number, row in enumerate(rows(path))]
    return list(_folder(path))


def coco(pictures: str, instances: str, captions: str | None) -> list[Record]:
    """The pictures of COCO's instances file, each with the caption of the lowest id, "" without one.

    Records that cannot be taken are records that say so: with their picture, or by themselves where they have none.
    """
    page = coco_files.read(_parsed(instances), instances, coco_files.Annotation)
    names = {category.id: category.name for category in page.categories}
    of_picture: dict[int, list[tuple[int, Annotation | Failure]]] = {}
    for place, record in page.annotations.items():
        annotation = Annotation(
            f"annotation {record.id}",
            names[record.category_id],
            record.bbox,
            record.segmentation,
            None,
            bool(record.iscrowd),
        )
        of_picture.setdefault(record.image_id, []).append((place, annotation))
    alone: list[Record] = []
    for fault in page.faults:
        failure = Failure(fault.reason, f"{instances}: {fault.place}: {fault.name}: {fault.detail}")
        if fault.image_id is None:
            alone.append(Wrong(f"{instances}: {fault.place}", failure))
        else:
            place = int(fault.place.rpartition(".")[2])
            of_picture.setdefault(fault.image_id, []).append((place, failure))
    texts, wrong = ({}, []) if captions is None else _captions(captions)
    listed = [
        File(
            image.file_name,
            _join(pictures, image.file_name),
            texts.get(image.id, ""),
            (image.width, image.height),
            tuple(annotation for _, annotation in sorted(of_picture.get(image.id, ()), key=lambda placed: placed[0])),
        )
        for image in page.images
    ]
    return [*listed, *alone, *wrong]


def labelled(path: str) -> list[Record]:
    """The label_*.json of a folder, or those a .txt file lists, one a line."""
    if path.lower().endswith(".txt"):
        names = [line.strip() for line in _text(path, "list").splitlines() if line.strip()]
        return [Label(name, _join(path.rpartition("/")[0], name)) for name in names]
    return [Label(_relative(url, path), url) for url in _files(path) if url.lower().endswith(".json")]


def _captions(path: str) -> tuple[dict[int, str], list[Record]]:
    """The caption of lowest id by image id, and a record for each that cannot be taken."""
    page, faults = coco_files.captions(_parsed(path), path)
    texts: dict[int, str] = {}
    for caption in sorted(page, key=lambda caption: caption.id):
        texts.setdefault(caption.image_id, (caption.caption or "").strip())
    wrong = [
        Wrong(f"{path}: {fault.place}", Failure("bad_caption", f"{path}: {fault.place}: {fault.name}: {fault.detail}"))
        for fault in faults
    ]
    return texts, list(wrong)


def _listed(number: int, row: Any, root: str, path: str) -> Record:
    where = f"{path}: record {number}"
    if not isinstance(row, dict):
        return Wrong(where, Failure("bad_record", f"{where}: not an object"))
    if None in row:  # what a CSV line holds beyond its columns
        return Wrong(where, Failure("bad_record", f"{where}: more fields than columns: quote text that holds commas"))
    for name in ("image", "caption"):
        if not isinstance(row.get(name), str) or not row["image"]:
            return Wrong(where, Failure("bad_record", f"{where}: no text {name!r}"))
    return File(row["image"], _join(root, row["image"]), row["caption"])


def _json_rows(path: str) -> list[Any]:
    written = _parsed(path)
    if not isinstance(written, list):
        raise ValueError(f"{path}: expected a list of records with image and caption")
    return written


def _csv_rows(path: str) -> list[Any]:
    try:
        rows = csv.DictReader(io.StringIO(_text(path, "CSV file"), newline=""))
        _columns(path, rows.fieldnames or ())
        return list(rows)
    except csv.Error as error:
        raise ValueError(f"{path}: not a readable CSV file ({one_line(error)})") from error


def _parquet_rows(path: str) -> list[Any]:
    try:
        table = pq.read_table(io.BytesIO(_read_list(path)))
        _columns(path, table.column_names)
        rows: list[Any] = table.select(["image", "caption"]).to_pylist()
        return rows
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable Parquet table ({one_line(error)})") from error


def _columns(path: str, names: Any) -> None:
    for name in ("image", "caption"):
        if name not in names:
            there = ", ".join(map(repr, names)) or "none"
            raise ValueError(f"{path}: column {name!r} is missing; there are {there[:200]}")


def _folder(path: str) -> Iterator[Record]:
    """A record for each picture, and one for each caption or picture of a kind that is not read, which says so."""
    files = _files(path)
    captions = {url.rpartition(".")[0]: url for url in files if _suffix(url) == ".txt"}
    pictures = {url.rpartition(".")[0] for url in files if _suffix(url) in SUFFIXES | UNREAD}
    for url in files:
        name, stem, suffix = _relative(url, path), url.rpartition(".")[0], _suffix(url)
        if suffix in UNREAD:
            yield Wrong(name, Failure("not_a_picture", f"{url}: {suffix} is not read; convert it to PNG or JPEG"))
        elif suffix == ".txt" and stem not in pictures:
            yield Wrong(name, Failure("no_picture", f"{url}: no picture of the same name beside it"))
        elif suffix in SUFFIXES:
            caption = captions.get(stem)
            if caption is None:
                yield Wrong(name, Failure("no_caption", f"{url}: no {stem}.txt beside it"))
            else:
                yield Captioned(name, url, caption)


def _parsed(path: str) -> Any:
    return json_of(_read_list(path), path)


def _text(path: str, kind: str) -> str:
    content = _read_list(path)
    try:
        return decoded(content)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable {kind} ({error})") from error


def _read_list(path: str) -> bytes:
    try:
        return read(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)})") from error


def _files(path: str) -> list[str]:
    """Every file below a folder, sorted, under the protocol it was asked by; hidden ones, as Macs leave, are not."""
    system, place = fsspec.url_to_fs(path)
    if not system.isdir(place):
        what = f"is a file, and not of a kind that is read ({_KINDS})" if system.exists(place) else "no such folder"
        raise ValueError(f"{path}: {what}")
    files = (_named(system, file, path) for file in sorted(system.find(place)))
    return [url for url in files if not _hidden(_relative(url, path))]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _matching(path: str) -> list[str]:
    system, place = fsspec.url_to_fs(path)
    files = [_named(system, file, path) for file in sorted(system.glob(place))]
    if not files:
        raise ValueError(f"{path}: no such tar")
    return files


def _named(system: Any, place: str, url: str) -> str:
    return str(system.unstrip_protocol(place)) if "://" in url else place


def _relative(url: str, folder: str) -> str:
    system, place = fsspec.url_to_fs(folder)
    return str(system._strip_protocol(url)).removeprefix(place.rstrip("/") + "/")


def _suffix(url: str) -> str:
    return PurePosixPath(url).suffix.lower()


def _join(root: str, name: str) -> str:
    return name if name.startswith("/") or "://" in name or not root else f"{root.rstrip('/')}/{name}"
