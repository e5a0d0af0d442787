"""A bar on a terminal: how much is done, at which rate, and what there is to say of it."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")


class Rate(ProgressColumn):
    """Units done a second of late, or seconds a unit where one takes longer."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Nothing until two units are done."""
        rate = task.finished_speed or task.speed
        if not rate:
            return Text("")
        return Text(f"{rate:.3g} {self.unit}/s" if rate >= 1 else f"{1 / rate:.3g} s each")


def bar(items: Iterable[Item], total: int, unit: str, note: Callable[[], str] | None) -> Iterator[Item]:
    """Yield the items while a bar on stderr says how many of `total` are done."""
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(unit, total=total, said="")
        for item in items:
            yield item
            shown.update(task, advance=1, said=note() if note is not None else "")
