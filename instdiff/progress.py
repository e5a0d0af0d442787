"""Progress: a bar on a terminal, one `@@progress {...}` line when a runner asks for it, silence otherwise."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

TAG = "@@progress "
Item = TypeVar("Item")


def track(items: Iterable[Item], total: int, unit: str, note: Callable[[], str] | None = None) -> Iterator[Item]:
    """Yield the items and say how many of `total` units are done, and what `note` says of them."""
    if os.environ.get("INSTDIFF_PROGRESS"):
        yield from _lines(items, total, unit, note)
    elif sys.stderr.isatty():
        yield from _bar(items, total, unit, note)
    else:
        yield from items


class Watch:
    """How long a step takes and how much of that is waiting for data, lap by lap."""

    def __init__(self) -> None:
        self.waited = 0.0  # seconds of this lap, counted by whoever waits
        self.rows: list[dict[str, float]] = []  # of each lap: the last step, seconds of a step, of them waiting
        self.text = ""

    def start(self) -> None:
        """Begin a lap."""
        self.began, self.waited = time.perf_counter(), 0.0

    def lap(self, row: dict[str, float], steps: int) -> None:
        """End a lap of `steps` steps that ended in this row of the log."""
        taken, waited = (time.perf_counter() - self.began) / steps, self.waited / steps
        self.rows.append({"step": row["step"], "step_seconds": taken, "data_seconds": waited})
        self.text = f"loss {row['loss']:.4f}, rate {row['lr']:.1e}, {taken:.2f} s a step, {waited / taken:.0%} for data"

    def note(self) -> str:
        """The last lap in words."""
        return self.text


def _lines(items: Iterable[Item], total: int, unit: str, note: Callable[[], str] | None) -> Iterator[Item]:
    every = max(1, total // 50)
    for done, item in enumerate(items, start=1):
        yield item
        if done % every == 0 or done == total:
            details = {"note": note()} if note is not None else {}
            print(TAG + json.dumps({"done": done, "total": total, "unit": unit, **details}), flush=True)


def _bar(items: Iterable[Item], total: int, unit: str, note: Callable[[], str] | None) -> Iterator[Item]:
    from rich import progress as bars  # a twentieth of a second, for which stages without a terminal need not wait
    from rich.console import Console

    columns = (
        bars.TextColumn(unit),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(unit, total=total, rate="", note="")
        (task,) = shown.tasks
        for item in items:
            yield item
            words = note() if note is not None else ""
            shown.update(task.id, advance=1, rate=rate(task.finished_speed or task.speed, unit), note=words)


def rate(speed: float | None, unit: str) -> str:
    """Units done a second of late, or seconds a unit where one takes longer; nothing until two units are done."""
    if not speed:
        return ""
    return f"{speed:.3g} {unit}/s" if speed >= 1 else f"{1 / speed:.3g} s each"
