"""ingest: turn a source into pictures, and tables of what the source knows of them."""

import hashlib
import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pyarrow as pa
from PIL import Image
from pydantic import Field, NonNegativeInt, RootModel

from data_prep.columns import GIVEN, GIVEN_CAPTIONED
from data_prep.sources import instances as regions
from data_prep.sources import lists
from data_prep.sources.admission import Limits, admit
from data_prep.sources.records import Record
from instdiff import atomic, stage, tables
from instdiff.layouts import masks
from instdiff.randomness import derive, generator
from instdiff.schema import Share, Strict
from instdiff.tables import IMAGES
from instdiff.texts import is_text
from instdiff.work import parts, resume
from instdiff.work.outcomes import Failure
from instdiff.work.parts import Annotate, Answer, Keyed, Part, Work
from instdiff.world import scenes
from instdiff.world.arrangements import GROUPS


class Scenes(Strict):
    """Painted scenes, and how many."""

    source: Literal["scenes"]  # scenes are painted from their seed, known exactly
    seed: int  # the same scenes for the same seed
    num_train: NonNegativeInt  # pictures of the group "mixed"
    val_groups: dict[str, int]  # group -> pictures
    work: Work


class Real(Strict):
    """What all sources of real pictures have in common."""

    val_share: Share  # of the training pictures, by their keys, where there are none for validation alone
    limits: Limits
    work: Work


class CaptionedList(Strict):
    """Pictures with captions: a .json, .csv or .parquet list, a folder with .txt files, or .tar of img2dataset."""

    path: str  # of the list or folder, or a pattern of tars: data/train.json, s3://bucket/part-*.tar
    root: str | None  # where relative paths in a list start; null: where the list lies


class Captioned(Real):
    """Pictures with captions."""

    source: Literal["captioned"]  # pictures of your own with captions, no boxes
    train: CaptionedList  # pictures to train on
    val: CaptionedList | None  # pictures to evaluate on; null: val_share of train


class CocoFiles(Strict):
    """A folder of pictures and COCO's JSON files about them."""

    pictures: str  # the folder
    instances: str  # instances_*.json
    captions: str | None  # captions_*.json; null: pictures have no captions


class Coco(Real):
    """COCO's pictures with their instances; crowds are no instances."""

    source: Literal["coco"]  # COCO's files, or files in its format
    train: CocoFiles  # pictures to train on
    val: CocoFiles | None  # pictures to evaluate on; null: val_share of train


class Labelled(Real):
    """The label_*.json of the reference's generator: folders, or .txt files that list them."""

    source: Literal["labelled"]  # what the reference's generator wrote
    train: str  # a folder of label_*.json, or a .txt that lists such files
    val: str | None  # the same, to evaluate on; null: val_share of train


class Params(RootModel[Annotated[Scenes | Captioned | Coco | Labelled, Field(discriminator="source")]]):
    """The source, and how much of it."""


@dataclass(frozen=True)
class Order:
    """One scene to paint."""

    key: str
    group: str
    index: int
    seed: int


class Listed(NamedTuple):
    """One record of a source."""

    key: str
    record: Record


INGESTED = pa.schema(  # a picture as a part keeps it
    [*IMAGES, pa.field("given", pa.list_(pa.struct(list(GIVEN_CAPTIONED)))), pa.field("converted", pa.string())]
)


def run(*, pictures: Path, images: Path, given: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From a source to pictures, images and given: a folder each, with a part for train and one for val."""
    source = params.root
    schema = GIVEN if isinstance(source, Scenes) else GIVEN_CAPTIONED
    jobs = _jobs(source)
    scratch = parts.place(images, resume.digest(__name__, source, _content(jobs)))
    splits = {
        split: parts.cut(listed, work, scratch / split, INGESTED, source.work) for split, (work, listed) in jobs.items()
    }
    parts.make_all([part for its in splits.values() for part in its], source.work)
    if not isinstance(source, Scenes):
        try:
            _refuse_nothing_taken(splits, source.val is None)
        except ValueError:
            parts.clear(scratch, keep=False)  # or the next run would believe the failures of this one
            raise
    counts: dict[str, int] = {}
    with (
        atomic.folder(pictures) as to_pictures,
        atomic.folder(images) as to_images,
        atomic.folder(given) as to_given,
        atomic.folder(ledger) as to_ledger,
    ):
        for split, its in splits.items():
            made = parts.joined([part.rows() for part in its], INGESTED)
            failed = parts.ledger_of(its)
            _link(its, to_pictures / split)
            counts[f"{split}_pictures"] = tables.write(
                to_images / f"{split}.parquet", made.select(IMAGES.names), IMAGES
            )
            counts[f"{split}_instances"] = tables.write(to_given / f"{split}.parquet", _given(made, schema), schema)
            failed.write(to_ledger / f"{split}.parquet")
            converted = Counter(why for why in made["converted"].to_pylist() if why is not None)
            counts |= {f"{split}_converted_{why}": count for why, count in sorted(converted.items())}
            counts |= failed.counts(f"{split}_failed")
    parts.clear(scratch, keep=any("_failed_" in name for name in counts))
    _remark_on_crowds(counts)
    return counts


def _refuse_nothing_taken(splits: Mapping[str, Sequence[Part]], together: bool) -> None:
    """ValueError with the commonest reason where none of a source's pictures could be taken.

    `together`: both splits are of one source.
    """
    sources = [[*splits["train"], *splits["val"]]] if together else list(splits.values())
    for its in sources:
        if any(len(part.rows()) for part in its):
            continue
        whole = [row for row in parts.ledger_of(its).rows if row["index"] == -1]
        reason, count = Counter(str(row["reason"]) for row in whole).most_common(1)[0]
        detail = next(row["detail"] for row in whole if row["reason"] == reason)
        raise ValueError(
            f"ingest: none of the {len(whole)} records of the source could be taken: {count} are {reason}, as {detail}"
        )


def _remark_on_crowds(counts: Mapping[str, int]) -> None:
    """Some tools mark every mask as a crowd: say so where no instance is left but crowds."""
    for split in ("train", "val"):
        crowds = counts.get(f"{split}_failed_crowd", 0)
        if crowds and not counts[f"{split}_instances"]:
            print(
                f"ingest: all {crowds} annotations of {split} are marked iscrowd 1, so that no instance is left:"
                " write iscrowd 0 where an instance is meant",
                file=sys.stderr,
            )


def _jobs(source: Scenes | Captioned | Coco | Labelled) -> dict[str, tuple[Annotate, Sequence[Keyed]]]:
    """What is to be done for each split, and by whom."""
    if isinstance(source, Scenes):
        groups = {"train": {"mixed": source.num_train}, "val": source.val_groups}
        return {split: (paint, orders(split, wanted, source.seed)) for split, wanted in groups.items()}
    listed = {"train": keyed(_records(source.train))}
    if source.val is not None:
        listed["val"] = keyed(_records(source.val))
        if not listed["val"]:
            raise ValueError("ingest: the source of validation pictures is empty")
    else:
        held_out = [_held_out(key, source.val_share) for key, _ in listed["train"]]
        listed["val"] = [job for job, out in zip(listed["train"], held_out, strict=True) if out]
        listed["train"] = [job for job, out in zip(listed["train"], held_out, strict=True) if not out]
    if not listed["train"]:
        raise ValueError("ingest: the source of training pictures is empty")
    return {split: (partial(admit_all, limits=source.limits), jobs) for split, jobs in listed.items()}


def _content(jobs: dict[str, tuple[Annotate, Sequence[Keyed]]]) -> str:
    """A hash of all that is to be done."""
    content = hashlib.sha256()
    for split, (_, listed) in jobs.items():
        content.update(split.encode())
        for job in listed:
            content.update(repr(job).encode("utf-8", "surrogatepass"))
    return content.hexdigest()


def _link(its: Sequence[Part], folder: Path) -> None:
    """The pictures of the parts, in the folder of their split."""
    folder.mkdir()
    for part in its:
        for file in part.rows()["file"].to_pylist():
            atomic.link(part.files / file, folder / file)


def _given(made: pa.Table, schema: pa.Schema) -> pa.Table:
    """The instances of all pictures, one after the other."""
    rows = pa.Table.from_struct_array(made["given"].combine_chunks().flatten())
    return rows.select(schema.names)


def _records(part: CaptionedList | CocoFiles | str) -> Sequence[Record]:
    try:
        match part:
            case CaptionedList():
                return lists.captioned(part.path, part.root)
            case CocoFiles():
                return lists.coco(part.pictures, part.instances, part.captions)
            case str():
                return lists.labelled(part)
    except ImportError as error:  # of the package that a store needs
        raise ValueError(f"ingest: {error}") from error


def keyed(records: Sequence[Record]) -> list[Listed]:
    """Each record with its key: readable, safe as a file name, and its own, whatever folders share a base name."""
    seen: Counter[str] = Counter()
    jobs = []
    for record in records:
        stem = record.name.rpartition("/")[2].rpartition(".")[0] or record.name.rpartition("/")[2]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:48]
        own = hashlib.sha256(f"{record.name}\n{seen[record.name]}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        seen[record.name] += 1
        jobs.append(Listed(f"{readable}-{own}" if readable else own, record))
    return jobs


def _held_out(key: str, share: float) -> bool:
    return bool(generator(0, "val", key).random() < share)


def admit_all(listed: Sequence[Listed], limits: Limits) -> Iterator[Answer]:
    """Load each record, check its picture and its instances."""
    for job in listed:
        yield admitted(job, limits)


def admitted(job: Listed, limits: Limits) -> Answer:
    """One picture as it will be stored, its row and its instances' rows, and why others are none."""
    key, record = job
    loaded = record.load()
    if isinstance(loaded, Failure):
        return Answer(key, [], [(-1, loaded)])
    if not is_text(loaded.caption):
        detail = f"{record.name}: the caption holds half a character (a lone surrogate)"
        return Answer(key, [], [(-1, Failure("bad_text", detail))])
    picture = admit(loaded.encoded, loaded.size, limits)
    if isinstance(picture, Failure):
        return Answer(key, [], [(-1, Failure(picture.reason, f"{record.name}: {picture.detail}"))])
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
    kept = {**image, "given": rows, "converted": picture.converted}
    return Answer(key, [kept], failures, ((str(image["file"]), picture.encoded),))


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


def paint(listed: Sequence[Order]) -> Iterator[Answer]:
    """Paint each scene."""
    for order in listed:
        yield painted(order)


def painted(order: Order) -> Answer:
    """One scene, painted and described."""
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
    return Answer(order.key, [{**image, "given": given, "converted": None}], [], ((file, encoded),))


if __name__ == "__main__":
    stage.main(run)
