"""Work in parts: each is complete or absent, so a kill costs one part and the run after it ends in the same bytes.

Parts lie beside the table they will become, in `.<table>.parts-<digest>`; the digest is of everything that decides
their content. They stay while the ledger has rows, for these can be tried again by reason, and go when it has none.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.annotators import Failure, Ledger
from data_prep.workers import Workers, executor
from instdiff import atomic, tables
from instdiff.progress import track
from instdiff.schema import LEDGER, Strict

Row = dict[str, Any]


class Work(Strict):
    """How much is lost by a kill, what is tried again, and who does it."""

    part_size: int  # pictures
    retry: tuple[str, ...]  # reasons in the ledger whose pictures are done again
    workers: Workers


class Answer(NamedTuple):
    """What was made of one picture."""

    key: str
    rows: list[Row]
    failures: list[tuple[int, Failure]]  # instance (-1: the whole picture), why


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


class Output(NamedTuple):
    """Where a stage's rows and its ledger go."""

    table: Path
    schema: pa.Schema
    ledger: Path


def annotated(items: Sequence[Keyed], annotate: Annotate, to: Output, digest: str, work: Work) -> dict[str, int]:
    """Make the parts that are missing, join all into table and ledger; how many rows, failures, and of each reason."""
    parts_of = f".{to.table.stem}.parts-"
    scratch = to.table.parent / f"{parts_of}{digest}"
    parts = [
        Part(scratch / f"{number:06d}", tuple(items[start : start + work.part_size]), annotate, to.schema, work.retry)
        for number, start in enumerate(range(0, len(items), work.part_size))
    ]
    for _ in track(_made(parts, work), len(items), "pictures"):
        pass
    rows = _joined([part.folder / "rows.parquet" for part in parts], to.schema)
    failed = Ledger()
    failed.rows = _joined([part.folder / "ledger.parquet" for part in parts], LEDGER).to_pylist()
    count = tables.write(to.table, rows, to.schema)
    failed.write(to.ledger)
    for other in to.table.parent.glob(f"{parts_of}*"):
        if other != scratch or not failed.rows:
            shutil.rmtree(other)
    return {"instances": count, "failed": len(failed.rows), **failed.counts()}


def digest(stage: str, params: Strict, inputs: Sequence[Path], *more: str) -> str:
    """What decides the content of a stage's parts: its parameters but for `work`, its input tables, and the code."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*inputs, *code)]
    text = "\n".join([stage, params.model_dump_json(exclude={"work"}), *more, *sums])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make(part: Part) -> int:
    """Make what is missing of a part and return how many pictures it has."""
    for _ in _steps(part):
        pass
    return len(part.items)


def _made(parts: Sequence[Part], work: Work) -> Iterator[None]:
    """Make every part, here or by the workers; one step a picture."""
    with executor(work.workers) as submit_all:
        if submit_all is None:
            for part in parts:
                yield from _steps(part)
            return
        try:
            for job in submit_all(make, parts):
                yield from [None] * job.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker died, perhaps for lack of memory; what is finished is kept, run again"
            ) from error


def _steps(part: Part) -> Iterator[None]:
    known = {answer.key: answer for answer in _read(part)} if part.folder.is_dir() else {}
    again = [item for item in part.items if item.key not in known or _to_retry(known[item.key], part.retry)]
    yield from [None] * (len(part.items) - len(again))
    if not again:
        return
    for answer in part.annotate(again):
        known[answer.key] = answer
        yield None
    ledger = Ledger()
    for item in part.items:
        for index, failure in known[item.key].failures:
            ledger.add(item.key, index, failure)
    with atomic.folder(part.folder) as folder:
        rows = [row for item in part.items for row in known[item.key].rows]
        tables.write(folder / "rows.parquet", rows, part.schema)
        ledger.write(folder / "ledger.parquet")


def _to_retry(answer: Answer, reasons: tuple[str, ...]) -> bool:
    return any(failure.reason in reasons for _, failure in answer.failures)


def _read(part: Part) -> list[Answer]:
    answers = {item.key: Answer(item.key, [], []) for item in part.items}
    for row in pq.read_table(part.folder / "rows.parquet").to_pylist():
        answers[row["key"]].rows.append(row)
    for row in pq.read_table(part.folder / "ledger.parquet").to_pylist():
        answers[row["key"]].failures.append((row["index"], Failure(row["reason"], row["detail"])))
    return list(answers.values())


def _joined(paths: Sequence[Path], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *map(pq.read_table, paths)]).combine_chunks()
