"""Sources of real pictures: lists that name records.

Every path may be a local one or an fsspec URL (s3://...). A list that cannot be read is a ValueError that names it.
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources.records import Annotation, Captioned, File, Label, Member, Record, Wrong, read, text_of
from instdiff.work.ledger import utf8
from instdiff.work.outcomes import Failure

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def captioned(path: str, root: str | None) -> list[Record]:
    """Pictures with captions: a JSON, CSV or Parquet list, a folder with .txt files, or tars as img2dataset writes.

    Relative paths in a list start at `root`, or where the list lies. A tar may be named alone or by a pattern.
    """
    if path.endswith(".tar"):
        return [record for tar in _matching(path) for record in members(tar)]
    readers: dict[str, Callable[[str], list[Any]]] = {".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    for suffix, rows in readers.items():
        if path.endswith(suffix):
            start = root if root is not None else path.rpartition("/")[0]
            return [_listed(number, row, start, path) for number, row in enumerate(rows(path))]
    return list(_folder(path))


def members(url: str) -> Iterator[Record]:
    """The samples of a WebDataset tar, by their headers alone; a damaged tar ends in a record that says so."""
    try:
        with fsspec.open(url, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            key, parts = "", dict[str, tarfile.TarInfo]()
            texts: dict[str, str] = {}
            for member in filter(tarfile.TarInfo.isfile, tar):
                kind = member.name.rpartition("/")[2].partition(".")[2]
                stem = member.name.removesuffix(f".{kind}")
                if stem != key and parts:
                    yield _sample(url, key, parts, texts)
                    parts, texts = {}, {}
                key, parts[kind.lower()] = stem, member
                if kind.lower() in {"txt", "json"}:
                    content = tar.extractfile(member)
                    texts[kind.lower()] = content.read().decode("utf-8-sig", "replace") if content else ""
            if parts:
                yield _sample(url, key, parts, texts)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield Wrong(url, Failure("broken_tar", f"{url}: {error}; what stands before the damage was read"))


def coco(pictures: str, instances: str, captions: str | None) -> list[Record]:
    """The pictures of COCO's instances file, each with the caption of the lowest id, "" without one."""
    page, said = _coco_page(instances), _coco_page(captions) if captions is not None else {}
    try:
        names = {one["id"]: utf8(str(one["name"])) for one in page["categories"]}
        texts: dict[Any, str] = {}
        for one in sorted(said.get("annotations", []), key=lambda one: one["id"], reverse=True):
            texts[one["image_id"]] = str(one["caption"]).strip()
        annotations: dict[Any, list[Annotation]] = {}
        for one in page["annotations"]:
            found = Annotation(
                f"annotation {one.get('id')}",
                names.get(one["category_id"]),
                one.get("bbox"),
                one.get("segmentation"),
                None,
                bool(one.get("iscrowd", 0)),
            )
            annotations.setdefault(one["image_id"], []).append(found)
        return [
            File(
                str(one["file_name"]),
                _join(pictures, str(one["file_name"])),
                texts.get(one["id"], ""),
                (int(one["width"]), int(one["height"])),
                tuple(annotations.get(one["id"], ())),
            )
            for one in page["images"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{instances}: not COCO annotations ({type(error).__name__}: {error})") from error


def labelled(path: str) -> list[Record]:
    """The label_*.json of a folder, or those a .txt file lists, one a line."""
    if path.endswith(".txt"):
        names = [line.strip() for line in _read_list(path).decode("utf-8-sig", "replace").splitlines() if line.strip()]
        return [Label(name, _join(path.rpartition("/")[0], name)) for name in names]
    return [Label(_relative(url, path), url) for url in _files(path) if url.endswith(".json")]


def _listed(number: int, row: Any, root: str, path: str) -> Record:
    where = f"{path}: record {number}"
    if not isinstance(row, dict):
        return Wrong(where, Failure("bad_record", f"{where}: not an object"))
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
        rows = csv.DictReader(io.StringIO(_read_list(path).decode("utf-8-sig"), newline=""))
        _columns(path, rows.fieldnames or ())
        return list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable CSV file ({error})") from error


def _parquet_rows(path: str) -> list[Any]:
    try:
        table = pq.read_table(io.BytesIO(_read_list(path)))
        _columns(path, table.column_names)
        rows: list[Any] = table.select(["image", "caption"]).to_pylist()
        return rows
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not a readable Parquet table ({error})") from error


def _columns(path: str, names: Any) -> None:
    for name in ("image", "caption"):
        if name not in names:
            raise ValueError(f"{path}: column {name!r} is missing")


def _folder(path: str) -> Iterator[Record]:
    files = _files(path)
    there = set(files)
    for url in files:
        stem, _, suffix = url.rpartition(".")
        if f".{suffix.lower()}" not in SUFFIXES:
            continue
        name = _relative(url, path)
        if f"{stem}.txt" in there:
            yield Captioned(name, url, f"{stem}.txt")
        else:
            yield Wrong(name, Failure("no_caption", f"{url}: no {stem}.txt beside it"))


def _sample(url: str, key: str, parts: dict[str, tarfile.TarInfo], texts: dict[str, str]) -> Record:
    name = f"{url.rpartition('/')[2]}/{key}"
    pictures = [kind for kind in parts if f".{kind}" in SUFFIXES]
    caption = texts.get("txt", _caption_of(texts.get("json")))
    if len(pictures) != 1:
        return Wrong(name, Failure("bad_record", f"{name}: {len(pictures)} pictures in the sample"))
    if caption is None:
        return Wrong(name, Failure("no_caption", f"{name}: neither .txt nor a caption in .json"))
    member = parts[pictures[0]]
    return Member(name, url, member.offset_data, member.size, caption.strip())


def _caption_of(text: str | None) -> str | None:
    try:
        written = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return text_of(written.get("caption")) if isinstance(written, dict) else None


def _coco_page(path: str) -> dict[str, Any]:
    written = _parsed(path)
    if not isinstance(written, dict):
        raise ValueError(f"{path}: not COCO annotations (an object is expected)")
    return written


def _parsed(path: str) -> Any:
    try:
        return json.loads(_read_list(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error


def _read_list(path: str) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def _files(path: str) -> list[str]:
    """Every file below a folder, sorted, under the protocol it was asked by."""
    system, place = fsspec.url_to_fs(path)
    if not system.isdir(place):
        raise ValueError(f"{path}: no such folder")
    return [_named(system, one, path) for one in sorted(system.find(place))]


def _matching(path: str) -> list[str]:
    system, place = fsspec.url_to_fs(path)
    found = [_named(system, one, path) for one in sorted(system.glob(place))]
    if not found:
        raise ValueError(f"{path}: no such tar")
    return found


def _named(system: Any, place: str, asked: str) -> str:
    return str(system.unstrip_protocol(place)) if "://" in asked else place


def _relative(url: str, folder: str) -> str:
    system, place = fsspec.url_to_fs(folder)
    return str(system._strip_protocol(url)).removeprefix(place.rstrip("/") + "/")


def _join(root: str, name: str) -> str:
    return name if name.startswith("/") or "://" in name or not root else f"{root.rstrip('/')}/{name}"
