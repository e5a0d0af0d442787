"""Progress: a bar on a terminal, one `@@progress {...}` line when a runner asks for it, silence otherwise."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TAG = "@@progress "
Item = TypeVar("Item")


def track(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Yield the items and say how many of `total` units are done."""
    if os.environ.get("INSTDIFF_PROGRESS"):
        yield from _lines(items, total, unit)
    elif sys.stderr.isatty():
        yield from _bar(items, total, unit)
    else:
        yield from items


def _lines(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    every = max(1, total // 50)
    for done, item in enumerate(items, start=1):
        yield item
        if done % every == 0 or done == total:
            print(TAG + json.dumps({"done": done, "total": total, "unit": unit}), flush=True)


def _bar(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        yield from bar.track(items, total=total)
