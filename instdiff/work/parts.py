"""Work in parts: each is complete or absent, so a kill costs one part and the run after it ends in the same bytes.

Who calls keeps the folder of the parts, named by a digest of everything that decides their content (resume.py), joins
them and removes it. What failed can be tried again by reason while it is there. Of tables that grow: packs.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import PositiveInt

from instdiff.files import atomic, tables
from instdiff.progress import track
from instdiff.schema import Strict
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure
from instdiff.work.workers import Workers, executor

Row = dict[str, Any]
FILES = "files"
_ALONE = Lock()


class Execution(Strict):
    """What is tried again, and who does the work."""

    retry: tuple[str, ...]  # reasons in the ledger whose pictures are done again
    workers: Workers


class Work(Execution):
    """Also how much is lost by a kill."""

    part_size: PositiveInt  # pictures: of `ingest`, in a pack at most; of batches, in a job


class Answer(NamedTuple):
    """What was made of one picture."""

    key: str
    rows: list[Row]
    failures: list[tuple[int, Failure]]  # instance (-1: the whole picture), why
    files: tuple[tuple[str, bytes], ...] = ()  # name, content


class Keyed(Protocol):
    """A picture and what is asked about it."""

    @property
    def key(self) -> str:
        """The picture's."""
        ...


Annotate = Callable[[Sequence[Any]], Iterable[Answer]]  # in the order asked; it must survive pickling


@dataclass(frozen=True)
class Part:
    """Some pictures, and the folder that will hold what was made of them."""

    folder: Path
    items: tuple[Keyed, ...]
    annotate: Annotate
    schema: pa.Schema
    retry: tuple[str, ...]

    @property
    def files(self) -> Path:
        """The folder of the answers' files."""
        return self.folder / FILES

    def rows(self) -> pa.Table:
        """What was made, once it is complete."""
        return pq.read_table(self.folder / "rows.parquet")

    def failures(self) -> pa.Table:
        """What could not be, once it is complete."""
        return pq.read_table(self.folder / "ledger.parquet")


def cut_into(
    batches: Sequence[Sequence[Keyed]], annotate: Annotate, to: Path, schema: pa.Schema, work: Work
) -> list[Part]:
    """A part a batch that a network takes at once, in their order: a kill costs the batches in flight alone.

    What a batch holds is decided before anybody is chosen to do it, so that whoever does computes the same numbers.
    """
    return [
        Part(to / f"{number:06d}", tuple(batch), annotate, schema, work.retry) for number, batch in enumerate(batches)
    ]


def make_all(parts: Sequence[Part], work: Work) -> None:
    """Make what is missing of them."""
    for _ in track(_make_each(parts, work), sum(len(part.items) for part in parts), "pictures"):
        pass


def jobs_of(parts: Sequence[Part], work: Work) -> list[tuple[Part, ...]]:
    """What is submitted at a time: parts in a row for a job, which begins a process, and one for a process that stays.

    A job has as many whole parts as `part_size` pictures hold, so that it loads a network once for all of them.
    """
    if work.workers.keeps_processes:
        return [(part,) for part in parts]
    jobs: list[list[Part]] = []
    room = 0
    for part in parts:
        if room < len(part.items):
            jobs.append([])
            room = max(work.part_size, len(part.items))
        jobs[-1].append(part)
        room -= len(part.items)
    return [tuple(job) for job in jobs]


def joined(tables_of_parts: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """One table of many, or of none."""
    return pa.concat_tables([schema.empty_table(), *tables_of_parts]).combine_chunks()


def make(job: Sequence[Part]) -> int:
    """Make what is missing of some parts and return how many pictures they have.

    One job at a time in a process: workers of some clusters are threads, and networks are loaded once for all of them.
    """
    with _ALONE:
        return sum(1 for part in job for _ in _steps(part))


def _make_each(parts: Sequence[Part], work: Work) -> Iterator[None]:
    """Make every part, here or by the workers; one step a picture."""
    with executor(work.workers) as submit_all:
        if submit_all is None:
            for part in parts:
                yield from _steps(part)
            return
        missing = [part for part in parts if part.retry or not part.folder.is_dir()]
        yield from [None] * (sum(len(part.items) for part in parts) - sum(len(part.items) for part in missing))
        try:
            for job in submit_all(make, jobs_of(missing, work)):
                yield from [None] * job.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker died, perhaps for lack of memory; what is finished is kept, run again"
            ) from error


def resumed(
    items: Sequence[Keyed], annotate: Annotate, before: Mapping[str, Answer], retry: tuple[str, ...]
) -> Iterator[Answer]:
    """The answer to each item, in order: as it is known, or made now where it is not or failed for one of `retry`."""
    again = [item for item in items if _unanswered(item, before, retry)]
    fresh = iter(annotate(again)) if again else iter(())
    for item in items:
        yield next(fresh) if _unanswered(item, before, retry) else before[item.key]


def _unanswered(item: Keyed, before: Mapping[str, Answer], retry: tuple[str, ...]) -> bool:
    return item.key not in before or any(failure.reason in retry for _, failure in before[item.key].failures)


def _steps(part: Part) -> Iterator[None]:
    before = {answer.key: answer for answer in _read(part)} if part.folder.is_dir() else {}
    if not any(_unanswered(item, before, part.retry) for item in part.items):
        yield from [None] * len(part.items)
        return
    with atomic.folder(part.folder) as folder:
        (folder / FILES).mkdir()
        ledger, rows = Ledger(), []
        for answer in resumed(part.items, part.annotate, before, part.retry):
            for name, content in answer.files:
                (folder / FILES / name).write_bytes(content)
            for index, failure in answer.failures:
                ledger.add(answer.key, index, failure)
            rows += answer.rows
            yield None
        _keep_files(part.files, folder / FILES)
        tables.write(folder / "rows.parquet", rows, part.schema)
        ledger.write(folder / "ledger.parquet")


def _keep_files(before: Path, now: Path) -> None:
    """Those of an earlier run that were not made again."""
    for path in before.iterdir() if before.is_dir() else ():
        if not (now / path.name).exists():
            atomic.link(path, now / path.name)


def _read(part: Part) -> list[Answer]:
    answers = {item.key: Answer(item.key, [], []) for item in part.items}
    for row in part.rows().to_pylist():
        answers[row["key"]].rows.append(row)
    for row in part.failures().to_pylist():
        answers[row["key"]].failures.append((row["index"], Failure(row["reason"], row["detail"])))
    return list(answers.values())
