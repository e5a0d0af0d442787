"""The ledger: what could not be done, row by row, with a reason to count by."""

from pathlib import Path

import pyarrow as pa

from instdiff.files import tables
from instdiff.work.outcomes import Failure

LEDGER = tables.columns(  # what could not be done, and why; index -1 is the whole picture
    key=pa.string(), index=pa.int32(), reason=pa.string(), detail=pa.string()
)


def utf8(text: str) -> str:
    """The text as a table can hold it: half a character, which JSON may spell, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Ledger:
    """What could not be done, row by row."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, key: str, index: int, failure: Failure) -> None:
        """Note a failure; index -1 is the whole picture."""
        self.rows.append({"key": key, "index": index, "reason": failure.reason, "detail": utf8(failure.detail)})

    def counts(self, verb: str = "failed") -> dict[str, int]:
        """How many rows of each reason, as `<verb>_<reason>`."""
        reasons = [f"{verb}_{row['reason']}" for row in self.rows]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def table(self) -> pa.Table:
        """The rows as a table."""
        return pa.Table.from_pylist(self.rows, schema=LEDGER)

    def write(self, path: Path) -> None:
        """The ledger as a Parquet table."""
        tables.write(path, self.rows, LEDGER)
