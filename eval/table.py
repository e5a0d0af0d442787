"""Print a table of metrics, value ± half of its 95% interval: `python -m eval.table metrics.json`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]  # row -> metric -> value, n, low, high


def table(metrics: Metrics) -> Table:
    """One line a row, each number with the half width of its 95% interval; a dash where nothing was measured."""
    names = list(dict.fromkeys(name for row in metrics.values() for name in row))
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("row", no_wrap=True)
    for name in names:
        shown.add_column(name.replace("_accuracy", "").replace("_", "\n"), justify="right", no_wrap=True)
    for row, values in metrics.items():
        shown.add_row(row, *(number(values[name]) if name in values else "-" for name in names))
    return shown


def number(metric: Mapping[str, float]) -> str:
    """A metric in so few characters that nine fit a terminal: .57±.03, 16.9±.40."""
    half = (metric["high"] - metric["low"]) / 2
    value = f"{metric['value']:.{2 if metric['value'] < 0.995 else 1}f}"
    return f"{value.removeprefix('0')}[dim]±{f'{half:.2f}'.removeprefix('0')}[/dim]"


if __name__ == "__main__":
    Console().print(table(json.loads(Path(sys.argv[1]).read_text())))
