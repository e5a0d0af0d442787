"""Show a table of metrics, each value ± half of its 95% interval.

python -m eval.table                            # print that of the last run
python -m eval.table metrics-long.json          # print another
python -m eval.table metrics.json docs/results.md  # write it between the page's <!-- table --> marks
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from instdiff.files import atomic
from instdiff.stage import PARAMS_FILE

START, END = "<!-- table -->", "<!-- /table -->"

NARROWEST = 8  # letters of a row's name in a line, where nine metrics must fit a terminal of 80

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]  # row -> metric -> value, n, low, high


def table(metrics: Metrics) -> Table:
    """One line a row, each number with the half width of its 95% interval; a dash where nothing was measured."""
    names = list(dict.fromkeys(name for row in metrics.values() for name in row))
    printed = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    printed.add_column("row", overflow="fold", min_width=NARROWEST)
    for name in names:
        printed.add_column(name.replace("_accuracy", "").replace("_", "\n"), justify="right", no_wrap=True)
    for row, values in metrics.items():
        printed.add_row(row, *(number(values[name]) if name in values else "-" for name in names))
    return printed


def number(metric: Mapping[str, float]) -> str:
    """A metric in so few characters that nine fit a terminal: .57±.03, 16.9±.40."""
    half = (metric["high"] - metric["low"]) / 2
    value = f"{metric['value']:.{2 if metric['value'] < 0.995 else 1}f}"
    return f"{value.removeprefix('0')}[dim]±{f'{half:.2f}'.removeprefix('0')}[/dim]"


def markdown(metrics: Metrics) -> str:
    """The same for a page."""
    names = list(dict.fromkeys(name for row in metrics.values() for name in row))
    lines = [["row", *(name.replace("_accuracy", "").replace("_", " ") for name in names)], ["---"] * (len(names) + 1)]
    for row, values in metrics.items():
        lines.append([row, *(_plain(number(values[name])) if name in values else "-" for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def within(page: str, text: str) -> str:
    """The page with `text` between its marks; ValueError when it has none."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {START} ... {END}")
    return f"{before}{start}\n{text}{end}{after}"


def _plain(marked: str) -> str:
    return Text.from_markup(marked).plain


def last() -> Path:
    """The table that params.yaml keeps."""
    return Path(yaml.safe_load(PARAMS_FILE.read_text())["kept"]["metrics"])


def main(source: Path, page: Path | None) -> None:
    """Print the table, or write it into a page."""
    metrics = json.loads(source.read_text(encoding="utf-8"))
    if page is None:
        Console().print(table(metrics))
        return
    changed = within(page.read_text(encoding="utf-8"), markdown(metrics))
    with atomic.file(page) as part:
        part.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else last(), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
