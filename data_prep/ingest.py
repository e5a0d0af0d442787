"""ingest: turn a source into pictures, and tables of what the source knows of them."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field, RootModel

from data_prep import regions, sources
from data_prep.annotators import Failure, Ledger
from data_prep.pictures import Limits, admit
from data_prep.sources import Record
from instdiff import atomic, masks, scenes, stage, tables
from instdiff.arrangements import GROUPS
from instdiff.progress import track
from instdiff.randomness import derive, generator
from instdiff.schema import GIVEN, GIVEN_CAPTIONED, IMAGES, LEDGER, Strict

Row = dict[str, Any]
Map = Callable[[Callable[[Any], "Ingested"], Sequence[Any]], Iterable["Ingested"]]


class Scenes(Strict):
    """Painted scenes, and how many."""

    source: Literal["scenes"]
    seed: int
    num_train: int  # pictures of the group "mixed"
    val_groups: dict[str, int]  # group -> pictures
    num_workers: int  # processes; the result is the same whatever their number


class Real(Strict):
    """What all sources of real pictures have in common."""

    val_share: float  # of the training pictures, by their keys, where there are none for validation alone
    limits: Limits
    num_workers: int


class CaptionedList(Strict):
    """Pictures with captions: a .json, .csv or .parquet list, a folder with .txt files, or .tar of img2dataset."""

    path: str
    root: str | None  # where relative paths in a list start; null: where the list lies


class Captioned(Real):
    """Pictures with captions."""

    source: Literal["captioned"]
    train: CaptionedList
    val: CaptionedList | None


class CocoFiles(Strict):
    """A folder of pictures and COCO's JSON files about them."""

    pictures: str
    instances: str
    captions: str | None


class Coco(Real):
    """COCO's pictures with their instances; crowds are no instances."""

    source: Literal["coco"]
    train: CocoFiles
    val: CocoFiles | None


class Labelled(Real):
    """The label_*.json of the reference's generator: folders, or .txt files that list them."""

    source: Literal["labelled"]
    train: str
    val: str | None


class Params(RootModel[Annotated[Scenes | Captioned | Coco | Labelled, Field(discriminator="source")]]):
    """The source, and how much of it."""


@dataclass(frozen=True)
class Order:
    """One scene to paint."""

    key: str
    group: str
    index: int
    seed: int


@dataclass(frozen=True)
class Ingested:
    """One picture as it will be stored, its row, and the rows of its instances; without a picture only failures."""

    key: str
    encoded: bytes
    image: Row | None
    given: list[Row]
    failures: tuple[tuple[int, Failure], ...] = ()
    converted: str | None = None


def run(*, pictures: Path, images: Path, given: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From a source to pictures, images and given: a folder each, with a part for train and one for val."""
    source = params.root
    schema = GIVEN if isinstance(source, Scenes) else GIVEN_CAPTIONED
    counts: dict[str, int] = {}
    with (
        _ordered_map(source.num_workers) as ordered_map,
        atomic.folder(pictures) as to_pictures,
        atomic.folder(images) as to_images,
        atomic.folder(given) as to_given,
        atomic.folder(ledger) as to_ledger,
    ):
        for split, (work, jobs) in _jobs(source).items():
            done = track(ordered_map(work, jobs), len(jobs), "pictures")
            rows, given_rows, failed, converted = _stored(done, to_pictures / split)
            counts[f"{split}_pictures"] = tables.write(to_images / f"{split}.parquet", rows, IMAGES)
            counts[f"{split}_instances"] = tables.write(to_given / f"{split}.parquet", given_rows, schema)
            tables.write(to_ledger / f"{split}.parquet", failed.rows, LEDGER)
            counts |= {f"{split}_converted_{why}": count for why, count in sorted(converted.items())}
            counts |= failed.counts(f"{split}_failed")
    return counts


def _jobs(source: Scenes | Captioned | Coco | Labelled) -> dict[str, tuple[Callable[[Any], Ingested], Sequence[Any]]]:
    """What is to be done for each split, and by whom."""
    if isinstance(source, Scenes):
        groups = {"train": {"mixed": source.num_train}, "val": source.val_groups}
        return {split: (painted, orders(split, wanted, source.seed)) for split, wanted in groups.items()}
    listed = {"train": keyed(_records(source, source.train))}
    if source.val is not None:
        listed["val"] = keyed(_records(source, source.val))
        if not listed["val"]:
            raise ValueError("ingest: the source of validation pictures is empty")
    else:
        held_out = [_held_out(key, source.val_share) for key, _ in listed["train"]]
        listed["val"] = [job for job, out in zip(listed["train"], held_out, strict=True) if out]
        listed["train"] = [job for job, out in zip(listed["train"], held_out, strict=True) if not out]
    if not listed["train"]:
        raise ValueError("ingest: the source of training pictures is empty")
    return {split: (partial(admitted, limits=source.limits), jobs) for split, jobs in listed.items()}


def _records(source: Captioned | Coco | Labelled, part: CaptionedList | CocoFiles | str | None) -> Sequence[Record]:
    match part:
        case CaptionedList():
            return sources.captioned(part.path, part.root)
        case CocoFiles():
            return sources.coco(part.pictures, part.instances, part.captions)
        case str():
            return sources.labelled(part)
        case None:
            return []


def keyed(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Each record with its key: readable, safe as a file name, and its own, whatever folders share a base name."""
    seen: Counter[str] = Counter()
    jobs = []
    for record in records:
        stem = record.name.rpartition("/")[2].rpartition(".")[0] or record.name.rpartition("/")[2]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:48]
        own = hashlib.sha256(f"{record.name}\n{seen[record.name]}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        seen[record.name] += 1
        jobs.append((f"{readable}-{own}" if readable else own, record))
    return jobs


def _held_out(key: str, share: float) -> bool:
    return bool(generator(0, "val", key).random() < share)


def admitted(job: tuple[str, Record], limits: Limits) -> Ingested:
    """Load one record, check its picture and its instances."""
    key, record = job
    loaded = record.load()
    if isinstance(loaded, Failure):
        return Ingested(key, b"", None, [], ((-1, loaded),))
    picture = admit(loaded.encoded, loaded.size, limits)
    if isinstance(picture, Failure):
        return Ingested(key, b"", None, [], ((-1, Failure(picture.reason, f"{record.name}: {picture.detail}")),))
    image = {
        "key": key,
        "group": "mixed",
        "file": f"{key}.{picture.kind}",
        "width": picture.width,
        "height": picture.height,
        "caption": loaded.caption,
        "sha256": picture.sha256,
    }
    rows, failures = regions.given(loaded.annotations, key, picture.height, picture.width)
    return Ingested(key, picture.encoded, image, rows, tuple(failures), picture.converted)


def orders(split: str, groups: dict[str, int], seed: int) -> list[Order]:
    """The scenes of a split; no two splits share a seed."""
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise ValueError(f"ingest: no such group of scenes: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    return [
        Order(f"{split}-{group}-{index:06d}", group, index, derive(seed, split))
        for group, count in groups.items()
        for index in range(count)
    ]


def painted(order: Order) -> Ingested:
    """Paint one scene and describe it."""
    scene = scenes.scene(order.seed, order.index, order.group)
    stream = io.BytesIO()
    Image.fromarray(scene.picture).save(stream, "png")
    encoded, file = stream.getvalue(), f"{order.key}.png"
    height, width = scene.picture.shape[:2]
    image = {
        "key": order.key,
        "group": order.group,
        "file": file,
        "width": width,
        "height": height,
        "caption": scene.caption,
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }
    given = [
        {
            "key": order.key,
            "index": index,
            "category": one.category,
            "box": [float(edge) for edge in one.box],
            "mask": masks.encode(one.mask).counts,
            "colour": one.colour,
            "texture": one.texture,
        }
        for index, one in enumerate(scene.instances)
    ]
    return Ingested(order.key, encoded, image, given)


def _stored(ingested: Iterable[Ingested], folder: Path) -> tuple[list[Row], list[Row], Ledger, Counter[str]]:
    """Write the pictures; return the rows of IMAGES and GIVEN, what failed, and what was converted for which reason."""
    folder.mkdir()
    rows, given, failed, converted = [], [], Ledger(), Counter[str]()
    for one in ingested:
        for place, failure in one.failures:
            failed.add(one.key, place, failure)
        if one.image is None:
            continue
        (folder / one.image["file"]).write_bytes(one.encoded)
        rows.append(one.image)
        given += one.given
        if one.converted is not None:
            converted[one.converted] += 1
    return rows, given, failed, converted


@contextmanager
def _ordered_map(num_workers: int) -> Iterator[Map]:
    """A `map` over that many processes that keeps the order; the plain one for a single worker."""
    if num_workers < 2:
        yield map
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, jobs: pool.map(function, jobs, chunksize=32)


if __name__ == "__main__":
    stage.main(run)
