"""What a source gives of a pack, as it is stored: pictures in one tar or a file each, and the rows of both tables."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns import PICTURES
from data_prep.sources import packing
from instdiff.files import tables
from instdiff.work import packs, parts
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure
from instdiff.work.parts import Annotate, Answer, Keyed


def store(
    folder: Path,
    before: Path | None,
    *,
    items: Callable[[], Sequence[Keyed]],
    answer: Annotate,
    schema: pa.Schema,
    tar: bool,
    retry: tuple[str, ...],
) -> tuple[Ledger, dict[str, int]]:
    """Write a pack's pictures, one at a time, and its rows of both tables; `before` holds an earlier run's."""
    listed = items()
    earlier = {} if before is None else _earlier_answers(listed, before)
    rows: list[dict[str, Any]] = []
    given_rows: list[dict[str, Any]] = []
    failed = Ledger()
    with _Pictures(folder / "pictures", tar=tar) as pictures:
        for taken in parts.resumed(listed, answer, earlier, retry):
            for row in taken.rows:
                ((file, encoded),) = taken.files or ((row["file"], _again(before, row)),)
                rows.append({**row, "offset": pictures.add(file, encoded), "length": len(encoded)})
                given_rows += row["given"]
            for index, failure in taken.failures:
                failed.add(taken.key, index, failure)
    converted = Counter(f"converted_{row['converted']}" for row in rows if row["converted"] is not None)
    counts = {
        "pictures": tables.write(folder / "images" / f"{packs.NUMBER}.parquet", _flat(rows), PICTURES),
        "instances": tables.write(folder / "given" / f"{packs.NUMBER}.parquet", given_rows, schema),
    }
    return failed, {**counts, **dict(sorted(converted.items())), **failed.counts()}


class _Pictures:
    """Where a pack's pictures go: into one tar, or a file each."""

    def __init__(self, folder: Path, *, tar: bool) -> None:
        self._folder, self._stack, self._tar = folder, ExitStack(), tar

    def __enter__(self) -> Self:
        if self._tar:
            stream = self._stack.enter_context((self._folder / f"{packs.NUMBER}.tar").open("wb"))
            self._to = self._stack.enter_context(closing(packing.Tar(stream)))
        return self

    def add(self, file: str, encoded: bytes) -> int | None:
        """Write a picture; the place of its first byte in the tar."""
        if self._tar:
            return self._to.add(file, encoded)
        (self._folder / file).write_bytes(encoded)
        return None

    def __exit__(self, *raised: object) -> None:
        self._stack.close()


def _earlier_answers(listed: Sequence[Keyed], before: Path) -> dict[str, Answer]:
    """The answers of an earlier run, whose pictures are read when their turn comes."""
    answers = {item.key: Answer(item.key, [], []) for item in listed}
    file = f"{packs.NUMBER}.parquet"
    for row in pq.read_table(before / "images" / file).to_pylist():
        answers[row["key"]].rows.append({**row, "given": []})
    for row in pq.read_table(before / "given" / file).to_pylist():
        answers[row["key"]].rows[0]["given"].append(row)
    for row in pq.read_table(before / packs.LEDGER_FILE).to_pylist():
        answers[row["key"]].failures.append((row["index"], Failure(row["reason"], row["detail"])))
    return answers


def _again(before: Path | None, row: dict[str, Any]) -> bytes:
    assert before is not None
    return packing.stored(before / "pictures" / f"{packs.NUMBER}.tar", row["offset"], row["length"], row["file"])


def _flat(rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    return [{name: row[name] for name in PICTURES.names} for row in rows]
