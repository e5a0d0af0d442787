"""What the stages could not use, and why: the rows of their ledgers, counted by reason, with examples."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from instdiff.files import tables
from instdiff.work.ledger import LEDGER


class Reason(NamedTuple):
    """A reason of one stage."""

    stage: str
    reason: str
    num_rows: int
    examples: tuple[tuple[str, int, str], ...]  # key, instance (-1: the whole picture), detail


def reasons(ledger: Path, split: str, num_examples: int) -> list[Reason]:
    """Those of a folder of ledgers that are of a split, or of none; parts are read one after the other."""
    listed = []
    for table in sorted({path if path.parent == ledger else path.parent for path in ledger.rglob("*.parquet")}):
        stage = table.relative_to(ledger).with_suffix("").as_posix()
        if not stage.endswith(("train", "val")) or stage.endswith(split):
            listed += _of_stage(table, stage, num_examples)
    return listed


def _of_stage(table: Path, stage: str, num_examples: int) -> list[Reason]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, int, str]]] = {}
    for path in sorted(table.glob("*.parquet")) if table.is_dir() else [table]:
        for reason, rows in tables.read(path, LEDGER).groupby("reason", sort=True):
            counts[str(reason)] += len(rows)
            own = examples.setdefault(str(reason), [])
            first = rows.head(num_examples - len(own))
            own += zip(first["key"], first["index"].map(int), first["detail"], strict=True)
    return [Reason(stage, reason, count, tuple(examples[reason])) for reason, count in counts.most_common()]
