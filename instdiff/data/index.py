"""The index of a folder of shards: where each sample lies, in a file that every process maps and none reads whole.

An Arrow file with a batch a shard, in the order of the samples. What a process looks up comes into memory page by page,
once for all processes of a machine; to open it costs the same few bytes a shard however many samples there are.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instdiff.files import atomic
from instdiff.files.tables import columns
from instdiff.files.texts import one_line

INDEX_FILE = "index.arrow"
INDEX = columns(  # bytes [offset, offset + size) of the tar, and their SHA-256
    shard=pa.string(),
    key=pa.string(),
    num_instances=pa.int32(),
    offset=pa.int64(),
    size=pa.int64(),
    sha256=pa.binary(32),
)
BATCHES = 64  # of which a process remembers where they lie
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)  # what Arrow says of a file with other bytes


class IndexRow(TypedDict):
    """A row of INDEX."""

    shard: str
    key: str
    num_instances: int
    offset: int
    size: int
    sha256: bytes


class Index:
    """The samples of a folder by their number, counted over all shards."""

    def __init__(self, path: Path) -> None:
        """Map the file; ValueError where it is no index."""
        self.path, self._alone = path, Lock()  # threads may read, and Arrow does not say that its readers are safe
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [self._file.get_batch(shard) for shard in range(self._file.num_record_batches)]
            names = self._file.schema.names
        except FileNotFoundError:
            raise
        except DAMAGED as error:
            raise ValueError(f"{path}: not a readable index ({one_line(error)})") from error
        if not self._file.schema.equals(INDEX):
            raise ValueError(f"{path}: columns are {names}, expected {INDEX.names} of an index")
        self._batch = lru_cache(maxsize=BATCHES)(self._checked)
        self.shards = tuple(self._name(batch) for batch in batches)
        self.sizes = tuple(int(batch.num_rows) for batch in batches)
        self.starts = np.cumsum([0, *self.sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __reduce__(self) -> tuple[type["Index"], tuple[Path]]:
        return Index, (self.path,)  # another process maps the file itself

    def place(self, number: int) -> tuple[int, int]:
        """Of a sample: the number of its shard, and its place there."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        return shard, number - int(self.starts[shard])

    def row(self, number: int) -> IndexRow:
        """A sample's row."""
        shard, place = self.place(number)
        batch = self._batch(shard)
        row: IndexRow = batch.slice(place, 1).to_pylist()[0]
        return row

    def rows(self, shard: int) -> list[IndexRow]:
        """The rows of a shard."""
        rows: list[IndexRow] = self._batch(shard).to_pylist()
        return rows

    def column(self, shard: int, name: str) -> pa.Array:
        """A column of a shard."""
        return self._batch(shard)[name]

    def table(self) -> pa.Table:
        """All rows, not in memory until they are looked at."""
        return pa.Table.from_batches(map(self._checked, range(len(self.shards))), INDEX)

    def _checked(self, shard: int) -> pa.RecordBatch:
        try:
            with self._alone:
                batch = self._file.get_batch(shard)
            batch.validate(full=True)  # a text that lies outside of the file would end the process
        except DAMAGED as error:
            raise ValueError(
                f"{self.path}: the rows of {self.shards[shard]} are damaged ({one_line(error)})"
            ) from error
        return batch

    def _name(self, batch: pa.RecordBatch) -> str:
        first = batch["shard"][:1]
        try:
            first.validate(full=True)
        except DAMAGED as error:
            raise ValueError(f"{self.path}: the name of a shard is damaged ({one_line(error)})") from error
        return str(first[0])


def write(path: Path, parts: Iterable[pa.Table]) -> None:
    """Write the rows of these tables with the columns of INDEX, in order; who has mapped an old file keeps that."""
    with atomic.file(path) as aside, pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, INDEX) as index:
        for part in parts:
            rows = part.cast(INDEX).combine_chunks()
            shard = rows["shard"].combine_chunks()
            changes = np.flatnonzero(pc.not_equal(shard[1:], shard[:-1])) + 1
            for start, stop in zip([0, *changes], [*changes, len(rows)], strict=True):
                for batch in rows.slice(start, stop - start).to_batches():
                    index.write_batch(batch)
