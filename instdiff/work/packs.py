"""Packs: the pictures that pass through the data stages together, and what each stage makes of one.

A table is a folder with one Parquet part a pack. A stage makes its own part of a pack from the parts it reads; the
part is complete or absent, and its row of the ledger's folder notes the digest of what it was made from. So a run
makes what is missing or was made from something else, takes over the rest, and forgets what nobody asks for any more:
by additions and removals or from nothing, it ends in the same bytes. Names are numbers in the order of the source; no
byte of a part depends on its number.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from instdiff.files import atomic, provenance, tables
from instdiff.progress import track
from instdiff.work.ledger import LEDGER, Ledger
from instdiff.work.outcomes import Failure
from instdiff.work.parts import Answer, Execution, Keyed, resumed
from instdiff.work.workers import executor

Counts = dict[str, int]
NUMBER = "@"  # in a part's folder: the number of the pack, at the start of a file's name
LEDGER_FILE = "ledger.parquet"
NOTE = b"instdiff"  # where a ledger's part keeps its note


@dataclass(frozen=True)
class Pack:
    """The parts that a stage reads of one pack, by the table's name."""

    name: str
    parts: Mapping[str, Path]
    digest: str  # of the bytes of them all


class Output(NamedTuple):
    """Where a stage's rows and its ledger go."""

    table: Path
    schema: pa.Schema
    ledger: Path
    wanted: str | None = None  # the column that the stage is there for, null where it could not be filled


class Outputs(NamedTuple):
    """The folders a stage writes, by what they hold, and where the parts lie until they are all there."""

    folders: Mapping[str, Path]
    ledger: Path
    scratch: Path


Make = Callable[[Path, Path | None], tuple[Ledger, Counts]]
# fills <folder>/<output> with files; the second is the folder that was made before, to be tried again by reason


@dataclass(frozen=True)
class Job:
    """What is to be made of one pack; it must survive pickling."""

    name: str
    digest: str
    folder: Path
    outputs: tuple[str, ...]
    make: Make


Todo = Callable[[Pack], Sequence[Keyed]]
Annotate = Callable[[Sequence[Any], Pack], Iterable[Answer]]  # in the order of the items


def of(**folders: Path) -> list[Pack]:
    """The packs of these tables, in order; ValueError where a table lacks a part of the first, or has one beside."""
    names = {table: _names(folder) for table, folder in folders.items()}
    first = next(iter(folders))
    for table, own in names.items():
        for name in sorted(set(own) ^ set(names[first])):
            there, lacking = (table, first) if name in own else (first, table)
            raise ValueError(f"{folders[lacking]}: no part {name}, which {folders[there]} has")
    return [
        _pack(name, {table: folder / f"{name}.parquet" for table, folder in folders.items()}) for name in names[first]
    ]


def place(output: Path) -> Path:
    """The folder of an output's parts until they are all there."""
    return output.parent / f".{output.name}.parts"


def number(place: int) -> str:
    """The name of a pack by its place."""
    return f"{place:05d}"


def num_rows(folder: Path) -> int:
    """Of all parts of a table."""
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def nothing(_rows: Sequence[dict[str, Any]]) -> Counts:
    """No more to count."""
    return {}


def annotated(
    packs: Sequence[Pack],
    todo: Todo,
    annotate: Annotate,
    to: Output,
    digest: str,
    work: Execution,
    count: Callable[[Sequence[dict[str, Any]]], Counts] = nothing,
) -> Counts:
    """Map each pack to its part of a table and of the ledger; how many rows, rows kept, failures, and each reason's.

    `todo` reads a pack's items, `annotate` answers them, `count` counts more of the rows.
    """
    make = partial(_answered, todo=todo, annotate=annotate, to=to, retry=work.retry, count=count)
    makes = [(pack.name, pack.digest, partial(make, pack=pack)) for pack in packs]
    outputs = Outputs({"table": to.table}, to.ledger, place(to.table))
    return {"instances": 0, "failed": 0, **update(jobs(makes, digest, outputs), outputs, work)}


def jobs(makes: Iterable[tuple[str, str, Make]], digest: str, to: Outputs) -> list[Job]:
    """A job for each pack: its name, the digest of what it is made from, and how."""
    listed = []
    for name, own, make in makes:
        whole = hashlib.sha256(f"{digest}\n{own}".encode()).hexdigest()[:32]
        listed.append(Job(name, whole, to.scratch / whole, tuple(to.folders), make))
    return listed


def update(
    todo: Sequence[Job], to: Outputs, work: Execution, finish: Callable[[str, Path], None] = lambda output, folder: None
) -> Counts:
    """Take over, make and gather; `finish` adds to an output's folder what is of no single pack. The sums of counts."""
    take_over(todo, to)
    make_all(todo, work)
    return gather(todo, to, finish)


def take_over(todo: Sequence[Job], to: Outputs) -> None:
    """Bring the parts of an earlier run that are still asked for into the scratch folder, and remove others there."""
    wanted = {job.digest: job for job in todo}
    for left in to.scratch.iterdir() if to.scratch.is_dir() else ():
        if left.name not in wanted:
            atomic.remove(left)
    for path in sorted(to.ledger.glob("*.parquet")):
        note = _note(path)
        job = wanted.get(note["made_from"]) if note is not None else None
        if note is None or job is None or job.folder.is_dir():
            continue
        places = {file: _place(file, path.stem, to) for file in note["files"]}
        if all(place.is_file() and provenance.of_file(place) == note["files"][file] for file, place in places.items()):
            with atomic.folder(job.folder) as folder:
                for output in job.outputs:
                    (folder / output).mkdir()
                for file, place in places.items():
                    atomic.link(place, folder / file)
                atomic.link(path, folder / LEDGER_FILE)


def _place(file: str, name: str, to: Outputs) -> Path:
    """Where a file of a part, `<output>/<file>`, lies among the outputs."""
    output, _, own = file.partition("/")
    return to.folders[output] / _numbered(own, name)


def make_all(todo: Sequence[Job], work: Execution) -> None:
    """Make the parts that are missing, and those with a failure that is to be tried again, by whoever does the work."""
    missing = [job for job in todo if not job.folder.is_dir() or _to_retry(job, work.retry)]
    failures: Counter[str] = Counter()

    def by_reason() -> str:
        return ", ".join(f"{reason} {count}" for reason, count in sorted(failures.items()))

    for counts in track(_results(missing, work), len(missing), "packs", by_reason):
        failures.update({name: count for name, count in counts.items() if "failed_" in name or "dropped_" in name})


def gather(
    todo: Sequence[Job], to: Outputs, finish: Callable[[str, Path], None] = lambda output, folder: None
) -> Counts:
    """Put the parts under the names of the outputs, the ledger last, and return the sums of their counts."""
    for output, folder in to.folders.items():
        with atomic.folder(folder) as whole:
            for job in todo:
                for path in (job.folder / output).iterdir():
                    atomic.link(path, whole / _numbered(path.name, job.name))
            finish(output, whole)
    with atomic.folder(to.ledger) as whole:
        for job in todo:
            atomic.link(job.folder / LEDGER_FILE, whole / f"{job.name}.parquet")
    counts: Counter[str] = Counter()
    for job in todo:
        counts.update(note_of(job)["counts"])
    atomic.remove(to.scratch)
    return dict(counts)


def ledger_of(job: Job) -> pa.Table:
    """What of a pack could not be done, once its part is there."""
    return pq.read_table(job.folder / LEDGER_FILE)


def note_of(job: Job) -> dict[str, Any]:
    """What is noted of a part that is there: made_from, counts, files."""
    note = _note(job.folder / LEDGER_FILE)
    assert note is not None
    return note


def make(job: Job) -> Counts:
    """Make the part of one pack, complete or not at all, and return what was counted."""
    before = job.folder if job.folder.is_dir() else None
    with atomic.folder(job.folder) as folder:
        for output in job.outputs:
            (folder / output).mkdir()
        failed, counts = job.make(folder, before)
        files = {path.relative_to(folder).as_posix(): provenance.of_file(path) for path in provenance.files(folder)}
        note = {"made_from": job.digest, "counts": counts, "files": files, "failures": _sum(failed.table())}
        text = json.dumps(note, sort_keys=True)
        tables.write(folder / LEDGER_FILE, failed.table(), LEDGER.with_metadata({NOTE: text.encode()}))
    return counts


def _answered(
    folder: Path,
    before: Path | None,
    *,
    pack: Pack,
    todo: Todo,
    annotate: Annotate,
    to: Output,
    retry: tuple[str, ...],
    count: Callable[[Sequence[dict[str, Any]]], Counts],
) -> tuple[Ledger, Counts]:
    items = todo(pack)
    answers = {} if before is None else _earlier_answers(items, before)
    rows: list[dict[str, Any]] = []
    failed = Ledger()
    for answer in resumed(items, lambda again: annotate(again, pack), answers, retry):
        rows += answer.rows
        for index, failure in answer.failures:
            failed.add(answer.key, index, failure)
    tables.write(folder / "table" / f"{NUMBER}.parquet", rows, to.schema)
    kept_rows = {} if to.wanted is None else {"kept": sum(row[to.wanted] is not None for row in rows)}
    return failed, {"instances": len(rows), **kept_rows, **count(rows), "failed": len(failed.rows), **failed.counts()}


def _earlier_answers(items: Sequence[Keyed], before: Path) -> dict[str, Answer]:
    answers = {item.key: Answer(item.key, [], []) for item in items}
    for row in pq.read_table(before / "table" / f"{NUMBER}.parquet").to_pylist():
        answers[row["key"]].rows.append(row)
    for row in pq.read_table(before / LEDGER_FILE).to_pylist():
        answers[row["key"]].failures.append((row["index"], Failure(row["reason"], row["detail"])))
    return answers


def _results(missing: Sequence[Job], work: Execution) -> Iterator[Counts]:
    with executor(work.workers) as submit_all:
        if submit_all is None:
            yield from map(make, missing)
            return
        try:
            for submitted in submit_all(make, missing):
                yield submitted.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker died, perhaps for lack of memory; what is finished is kept, run again"
            ) from error


def _to_retry(job: Job, reasons: tuple[str, ...]) -> bool:
    return bool(reasons) and not set(reasons).isdisjoint(ledger_of(job)["reason"].to_pylist())


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: {'is a file, where a folder of parts is expected' if folder.exists() else 'no such folder'}"
        )
    return sorted(path.stem for path in folder.glob("*.parquet"))


def _pack(name: str, parts: Mapping[str, Path]) -> Pack:
    sums = "\n".join(provenance.of_file(path) for path in parts.values())
    return Pack(name, parts, hashlib.sha256(sums.encode()).hexdigest())


def _numbered(file: str, name: str) -> str:
    return f"{name}{file.removeprefix(NUMBER)}" if file.startswith(NUMBER) else file


def _note(path: Path) -> dict[str, Any] | None:
    """The note of a ledger's part; None where there is none, or its rows are not those it was written for."""
    try:
        table = pq.read_table(path)
        note: dict[str, Any] = json.loads((table.schema.metadata or {})[NOTE])
        return note if note["failures"] == _sum(table) else None
    except (OSError, pa.ArrowInvalid, KeyError, ValueError):
        return None


def _sum(failures: pa.Table) -> str:
    return hashlib.sha256(json.dumps(failures.to_pylist()).encode()).hexdigest()
