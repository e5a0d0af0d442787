"""ingest: turn a source into pictures, and tables of what the source knows of them."""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, RootModel

from data_prep.columns import GIVEN, GIVEN_CAPTIONED
from data_prep.exchange.registry import FORMATS, Format
from data_prep.sources import instances as regions
from data_prep.sources import lists, packing
from data_prep.sources import scenes as painted_scenes
from data_prep.sources.admission import Limits, admit
from data_prep.sources.records import File, Label, Member, Record
from data_prep.sources.storing import store
from instdiff import stage
from instdiff.files import atomic
from instdiff.files.texts import is_text
from instdiff.randomness import generator
from instdiff.schema import Share, Strict
from instdiff.work import packs, resume
from instdiff.work.outcomes import Failure
from instdiff.work.packs import Job, Outputs
from instdiff.work.parts import Annotate, Answer, Keyed, Work


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


class Exchanged(Real):
    """A data set in the format of another tool, as `instdiff export` writes them, too."""

    source: Literal["exchanged"]  # a data set in the format of another tool
    format: Literal["bbox", "coco", "eligen", "fiftyone", "layoutsam", "yolo"]  # which
    train: str  # a folder, or the list in it: data/mine, data/mine/metadata.csv
    val: str | None  # the same, to evaluate on; null: val_share of train


class Params(RootModel[Annotated[Scenes | Captioned | Coco | Labelled | Exchanged, Field(discriminator="source")]]):
    """The source, and how much of it."""


class Listed(NamedTuple):
    """One record of a source."""

    key: str
    record: Record


def run(*, pictures: Path, images: Path, given: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From a source to pictures, images and given: a folder each, with the packs of train and those of val.

    Pictures to train on lie in tars, those to evaluate on, which are matched by their names, in files of their own.
    """
    source = params.root
    schema = GIVEN if isinstance(source, Scenes) else GIVEN_CAPTIONED
    digest = resume.digest(__name__, _of_every_picture(source))
    todo: dict[str, list[Job]] = {}
    to: dict[str, Outputs] = {}
    for split, contents in _contents(source).items():
        folders = {"pictures": pictures / split, "images": images / split, "given": given / split}
        to[split] = Outputs(folders, ledger / split, packs.place(images) / split)
        stored = partial(store, schema=schema, tar=split == "train", retry=source.work.retry)
        makes = [
            (packs.number(place), identity, partial(stored, items=items, answer=answer))
            for place, (identity, items, answer) in enumerate(contents)
        ]
        todo[split] = packs.jobs(makes, f"{digest} {split}", to[split])
        packs.take_over(todo[split], to[split])
    packs.make_all([job for of_split in todo.values() for job in of_split], source.work)
    if not isinstance(source, Scenes):
        try:
            _refuse_nothing_taken(todo, source.val is None)
        except ValueError:
            atomic.remove(packs.place(images))  # or the next run would believe the failures of this one
            raise
    counts: dict[str, int] = {}
    for split, of_split in todo.items():
        counted = {"pictures": 0, "instances": 0, **packs.gather(of_split, to[split])}
        counts |= {f"{split}_{name}": count for name, count in counted.items()}
    atomic.remove(packs.place(images))
    for folder in (pictures, images, given, ledger):
        for left in (path for path in folder.iterdir() if path.name not in todo):
            atomic.remove(left)  # of an earlier version, or of a killed run
    _remark_on_crowds(counts)
    return counts


def _of_every_picture(source: Scenes | Real) -> Strict:
    """What decides a picture beside its record; a pack's identity holds the rest."""
    return source.limits if isinstance(source, Real) else source.model_copy(update={"num_train": 0, "val_groups": {}})


def _refuse_nothing_taken(splits: Mapping[str, Sequence[Job]], together: bool) -> None:
    """ValueError with the commonest reason where none of a source's pictures could be taken.

    `together`: both splits are of one source.
    """
    sources = [[*splits["train"], *splits["val"]]] if together else list(splits.values())
    for of_source in sources:
        if any(packs.note_of(job)["counts"].get("pictures") for job in of_source):
            continue
        whole = [row for job in of_source for row in packs.ledger_of(job).to_pylist() if row["index"] == -1]
        reason, count = Counter(str(row["reason"]) for row in whole).most_common(1)[0]
        detail = next(row["detail"] for row in whole if row["reason"] == reason)
        raise ValueError(
            f"none of the {len(whole)} records of the source could be taken: {count} are {reason}, as {detail}"
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


Content = tuple[str, Callable[[], Sequence[Keyed]], Annotate]  # of a pack: its identity, its items, what answers them


def _contents(source: Scenes | Captioned | Coco | Labelled | Exchanged) -> dict[str, list[Content]]:
    """The packs of each split."""
    size = source.work.part_size
    if isinstance(source, Scenes):
        groups = {"train": {"mixed": source.num_train}, "val": source.val_groups}
        return {split: scenes_of(split, wanted, source.seed, size) for split, wanted in groups.items()}
    entry = FORMATS[source.format] if isinstance(source, Exchanged) else None
    listed = {"train": keyed(_records(source.train, entry))}
    if source.val is not None:
        listed["val"] = keyed(_records(source.val, entry))
        if not listed["val"]:
            raise ValueError("the source of validation pictures is empty")
    else:
        held_out = [_held_out(key, source.val_share) for key, _ in listed["train"]]
        listed["val"] = [job for job, out in zip(listed["train"], held_out, strict=True) if out]
        listed["train"] = [job for job, out in zip(listed["train"], held_out, strict=True) if not out]
    if not listed["train"]:
        raise ValueError("the source of training pictures is empty")
    answer = partial(admit_all, limits=source.limits)
    return {
        split: [(_identity(records), partial(list, records), answer) for records in _packs(jobs, size)]
        for split, jobs in listed.items()
    }


def scenes_of(split: str, groups: Mapping[str, int], seed: int, size: int) -> list[Content]:
    """The packs of the scenes that are to be painted."""
    painted_scenes.refuse_unknown(groups)
    return [
        (f"{split} {seed} {spans}", partial(painted_scenes.orders_of, split, spans, seed), painted_scenes.paint)
        for spans in packing.spans(groups, size)
    ]


def _packs(jobs: Sequence[Listed], size: int) -> list[list[Listed]]:
    containers = [job.record.url if isinstance(job.record, Member) else None for job in jobs]
    return packing.cut(jobs, [job.key for job in jobs], containers, size)


def _identity(records: Sequence[Listed]) -> str:
    """A hash of what the source says of these records, and of the sizes of files of this machine."""
    content = hashlib.sha256()
    for job in records:
        content.update(f"{job!r} {_size(job.record)}\n".encode("utf-8", "surrogatepass"))
    return content.hexdigest()


def _size(record: Record) -> int | None:
    """Bytes of the record's own file, None where it is none or on another machine."""
    url = record.url if isinstance(record, File | Label) else ""
    try:
        return None if not url or "://" in url else Path(url).stat().st_size
    except (OSError, ValueError):  # a name that no file can have
        return None


def _records(part: CaptionedList | CocoFiles | str, entry: Format | None) -> Sequence[Record]:
    try:
        match part:
            case CaptionedList():
                return lists.captioned(part.path, part.root)
            case CocoFiles():
                return lists.coco(part.pictures, part.instances, part.captions)
            case str():
                return lists.labelled(part) if entry is None else entry.read(part)
    except ImportError as error:  # of the package that a store needs
        raise ValueError(f"the store of the source cannot be read: {error}") from error


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
    rows, failures = regions.rows_of(loaded.annotations, key, picture.height, picture.width)
    row = {**image, "given": rows, "converted": picture.converted}
    return Answer(key, [row], failures, ((str(image["file"]), picture.encoded),))


if __name__ == "__main__":
    stage.main(run)
