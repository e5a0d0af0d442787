"""What changed from A to B: `instdiff compare A B`.

A and B are folders of scores (one row, or rows by name), or revisions: an experiment of DVC's or a commit, whose
scores and pictures are taken from DVC's cache. Several, joined by commas, are seeds of one result, and so are the rows
`box@1`, `box@2` of a folder: those of B are held against those of A in their order. Shown as text; as one HTML page
with pictures side by side; and as files that `dvc plots show` draws.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from eval.inputs import pictures
from eval.scoring import difference, row
from eval.scoring.difference import Difference, Side
from instdiff.files import atomic
from instdiff.files.picture_files import SUFFIXES
from instdiff.layouts import html
from instdiff.options import SEED, Parser, whole

TEMPLATE = Path(__file__).parent / "pages" / "compare.html.j2"
MAX_SIDE, LINE = 320, (255, 60, 60)  # pixels a side of a picture shown; of the box in it


class Seed(NamedTuple):
    """Where one seed of a row lies; its name is empty where it has no other beside it."""

    name: str
    scores: Path
    pictures: Path


Rows = dict[str, list[Seed]]  # by name
Folders = tuple[Path, Path]  # of pictures, A and B


class ComparedRow(NamedTuple):
    """One row on both sides, and where its pictures lie (None: not at hand)."""

    name: str
    a: Side
    b: Side
    pictures: list[Folders] | None  # by seed
    metrics: list[Difference]
    changed: pd.DataFrame
    notes: list[str]  # what a reader must know


class SortedDifferences(NamedTuple):
    """Metrics of a row in the order in which a reader wants them."""

    first: list[Difference]  # those whose interval leaves out 0, then the other paired ones
    folded: list[Difference]  # those that are only bounded, between bounds that hold 0
    same: int  # how many are equal on both sides


def sorted_differences(metrics: Sequence[Difference]) -> SortedDifferences:
    """The metrics that changed, the certain ones first; those that are equal on both sides are only counted."""
    moved = [
        metric for metric in metrics if metric.value != 0 or (metric.paired and (metric.low, metric.high) != (0, 0))
    ]
    first = sorted(
        (metric for metric in moved if metric.paired or metric.certain), key=lambda metric: not metric.certain
    )
    folded = [metric for metric in moved if not metric.paired and not metric.certain]
    return SortedDifferences(first, folded, len(metrics) - len(moved))


def main(arguments: Sequence[str]) -> None:
    """Compare two results, row by row."""
    args = parser().parse_args(arguments)
    with _side(args.a, args) as rows_a, _side(args.b, args) as rows_b:
        rows = [_compared(name, a, b, args) for name, a, b in _paired(rows_a, rows_b)]
        for compared in rows:
            show(compared, whole=args.all)
        if args.html is not None:
            with atomic.file(args.html) as part:
                part.write_text(page(rows, args.a, args.b), encoding="utf-8")
        if args.plots is not None:
            with atomic.folder(args.plots) as part:
                write_plots(part, rows)


def show(compared: ComparedRow, whole: bool = False) -> None:
    """Print the differences of a row, and the instances that changed most."""
    console = Console()
    table = Table(title=f"row {compared.name}", title_justify="left", box=None, padding=(0, 1))
    for column in ("metric", "A", "B", "B - A", "95% of B - A"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    table.add_column("", justify="right")  # gives way to the numbers
    first, folded, same = sorted_differences(compared.metrics)
    for metric in [*first, *(folded if whole else [])]:
        table.add_row(*_cells(metric))
    console.print(table if table.row_count else f"row {compared.name}: no metric changed")
    if folded and not whole:
        console.print(f"{len(folded)} more differ within bounds that hold 0: --all shows them")
    if same:
        console.print(f"{same} metrics are the same on both sides")
    for sentence in compared.notes:
        console.print(f"[yellow]{sentence}[/yellow]")
    for record in compared.changed.to_dict("records"):
        console.print(f"  {record['change']:+.2f}  {_place(compared, record)}: {record['category']}")


def page(rows: Sequence[ComparedRow], a: str, b: str) -> str:
    """One self-contained page."""
    sections = [
        {
            "name": compared.name,
            "notes": compared.notes,
            "metrics": _lines(sorted_differences(compared.metrics).first),
            "folded": _lines(sorted_differences(compared.metrics).folded),
            "same": sorted_differences(compared.metrics).same,
            "changed": [
                {
                    "what": f"{record['category']}, {_place(compared, record)}",
                    "change": f"{record['change']:+.2f}",
                    "sides": [html.data_uri(np.asarray(side), MAX_SIDE) for side in _side_by_side(compared, record)],
                }
                for record in compared.changed.to_dict("records")
            ],
        }
        for compared in rows
    ]
    return html.page(TEMPLATE, {"a": a, "b": b, "rows": sections})


def _lines(metrics: Sequence[Difference]) -> list[tuple[list[str], bool]]:
    return [(_cells(metric), metric.certain) for metric in metrics]


def write_plots(folder: Path, rows: Sequence[ComparedRow]) -> None:
    """`<row>.json`, a record a metric, and `<row>/<place>.png`, A left and B right: `dvc plots show` draws both."""
    for compared in rows:
        records = [
            {"metric": m.name, "a": m.a, "b": m.b, "difference": m.value, "low": m.low, "high": m.high}
            for m in compared.metrics
        ]
        (folder / f"{compared.name}.json").write_text(json.dumps(records, indent=2) + "\n")
        for place, record in enumerate(compared.changed.to_dict("records")):
            sides = _side_by_side(compared, record)
            if sides:
                (folder / compared.name).mkdir(exist_ok=True)
                name = "-".join(_place(compared, record).split())
                _joined(sides).save(folder / compared.name / f"{place:02d}-{name}.png")


def _compared(name: str, seeds_a: Sequence[Seed], seeds_b: Sequence[Seed], args: argparse.Namespace) -> ComparedRow:
    side_a, side_b = (difference.read([seed.scores for seed in seeds]) for seeds in (seeds_a, seeds_b))
    differing = difference.checked(side_a, side_b)
    notes = [f"not the same on both sides, and numbers may differ for it: {', '.join(differing)}"] if differing else []
    if side_a.source["pictures"] == side_b.source["pictures"]:
        notes.append("both sides judged the very same pictures")
    if len(seeds_a) > 1:
        names = [", ".join(seed.name or str(seed.scores) for seed in seeds) for seeds in (seeds_a, seeds_b)]
        notes.append(f"means over {len(seeds_a)} seeds; {names[0]} of A against {names[1]} of B, in this order")
    folders_of_seeds = [
        (args.pictures[0] / left.name, args.pictures[1] / right.name)
        if args.pictures
        else (left.pictures, right.pictures)
        for left, right in zip(seeds_a, seeds_b, strict=True)
    ]
    return ComparedRow(
        name,
        side_a,
        side_b,
        folders_of_seeds if all(folder.is_dir() for folders in folders_of_seeds for folder in folders) else None,
        difference.of_metrics(side_a, side_b, args.resamples, args.seed),
        difference.most_changed(side_a, side_b, args.count),
        notes,
    )


def _place(compared: ComparedRow, record: Mapping[Hashable, Any]) -> str:
    """Key and index of an instance, and the number of its seed where there are several."""
    seed = f" seed {record['seed'] + 1}" if len(compared.a.folders) > 1 else ""
    return f"{record['key']} {record['index']}{seed}"


def _paired(rows_a: Rows, rows_b: Rows) -> Iterator[tuple[str, list[Seed], list[Seed]]]:
    """Rows of both sides: those of one name or, where each side is a single row, these two."""
    if len(rows_a) == len(rows_b) == 1:
        (name, a), (_, b) = *rows_a.items(), *rows_b.items()
        yield name, a, b
        return
    names = [name for name in rows_a if name in rows_b]
    if not names:
        raise ValueError(f"no row stands on both sides: {', '.join(rows_a)} and {', '.join(rows_b)}")
    for name in names:
        yield name, rows_a[name], rows_b[name]


@contextmanager
def _side(argument: str, args: argparse.Namespace) -> Iterator[Rows]:
    """The rows of A or B, each with its seeds."""
    with ExitStack() as stack:
        rows: Rows = {}
        for where in [argument] if Path(argument).exists() else argument.split(","):
            for name, seeds in stack.enter_context(_rows_at(where, args)).items():
                rows.setdefault(name, []).extend(seeds)
        yield rows


@contextmanager
def _rows_at(where: str, args: argparse.Namespace) -> Iterator[Rows]:
    """The rows of one folder or revision."""
    folder = Path(where)
    if (folder / "metrics.json").is_file():
        yield _rows([(folder.resolve().name, folder, folder / "pictures")])
    elif folder.is_dir():
        rows = sorted(path.parent for path in folder.glob("*/metrics.json"))
        yield _chosen(where, _rows([(path.name, path, path / "pictures") for path in rows]), args.row)
    else:
        with TemporaryDirectory() as scratch:
            scores = _of_revision(where, args.scores, Path(scratch))
            rows = sorted(path.parent for path in scores.glob("*/metrics.json"))
            named = _chosen(where, _rows([(path.name, path, Path(scratch) / path.name) for path in rows]), args.row)
            for name in named:
                source = args.real if name == row.REAL else args.drawn / name
                _of_revision(where, source, Path(scratch), name)
            yield named


def _rows(folders: Sequence[tuple[str, Path, Path]]) -> Rows:
    """Folders by name, with their scores and pictures, as rows with seeds."""
    rows: Rows = {}
    for full, scores, pictures_folder in folders:
        name, _, seed = full.partition(row.SEED)
        rows.setdefault(name, []).append(Seed(seed, scores, pictures_folder))
    return rows


def _chosen(where: str, rows: Rows, only: str | None) -> Rows:
    chosen = {name: paths for name, paths in rows.items() if only in {None, name}}
    if not chosen:
        raise ValueError(f"{where}: no scores of {'any row' if only is None else f'row {only!r}'} there")
    return chosen


def _of_revision(revision: str, path: Path, scratch: Path, name: str = "scores") -> Path:
    """What a revision of this repository has under a path, from DVC's cache or remote."""
    target = scratch / name
    command = [sys.executable, "-m", "dvc", "get", "--quiet", "--rev", revision, "-o", str(target), ".", str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        reason = process.stderr.strip().splitlines()
        why = reason[0] if reason else "dvc failed"
        raise ValueError(f"{revision}: neither a folder nor a revision with {path} ({why})")
    return target


def _side_by_side(compared: ComparedRow, record: Mapping[Hashable, Any]) -> list[Image.Image]:
    """The picture on both sides with the instance's box; none where the pictures are not at hand."""
    if compared.pictures is None:
        return []
    sides = []
    for folder in compared.pictures[int(record["seed"])]:
        files = [path for path in sorted(folder.glob(f"{record['key']}.*")) if path.suffix.lower() in SUFFIXES]
        if not files:
            return []
        picture = Image.fromarray(pictures.read(files[0]))
        x0, y0, x1, y1 = (float(edge) for edge in record["box"])
        width, height = picture.size
        edges = [x0 * width, y0 * height, max(x0 * width, x1 * width - 1), max(y0 * height, y1 * height - 1)]
        ImageDraw.Draw(picture).rectangle(edges, outline=LINE)
        sides.append(picture)
    return sides


def _joined(sides: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (sum(side.width for side in sides) + 4, max(side.height for side in sides)), "white")
    canvas.paste(sides[0], (0, 0))
    canvas.paste(sides[1], (sides[0].width + 4, 0))
    return canvas


def _cells(metric: Difference) -> list[str]:
    kind = "" if metric.paired else "bounds"
    verdict = "differs" if metric.certain else ""
    digits = _digits(max(abs(metric.a), abs(metric.b)))
    return [
        metric.name,
        f"{metric.a:.{digits}f}",
        f"{metric.b:.{digits}f}",
        f"{metric.value:+.{digits}f}",
        f"{metric.low:+.{digits}f} to {metric.high:+.{digits}f}",
        f"{kind} {verdict}".strip(),
    ]


def _digits(size: float) -> int:
    """Decimals that show a number of this size: three, and of a small one its first three that are not 0."""
    return 3 if size in (0, math.inf) or math.isnan(size) else min(9, max(3, 2 - math.floor(math.log10(size))))


def parser() -> Parser:
    """The command line."""
    options = Parser(prog="instdiff compare", description=main.__doc__)
    add = options.add_argument
    add("a", help="a folder of scores, an experiment or a commit; several with commas between them are seeds")
    add("b", help="the same, to hold against it")
    add("--scores", type=Path, default=Path("data/scores"), help="where a revision has them, a folder a row")
    add("--drawn", type=Path, default=Path("data/generated"), help="where a revision has its pictures, a folder a row")
    add("--real", type=Path, default=Path("data/pictures/val"), help="where a revision has the real pictures")
    add("--row", help="compare this row alone")
    add("--pictures", type=Path, nargs=2, help="those of A and B (seeds: folders in them); a revision brings its own")
    add("--all", action="store_true", help="print also what differs within bounds that hold 0")
    add("--count", type=whole(0), default=12, help="how many of the instances that changed most")
    add("--resamples", type=whole(1), default=1000, help="bootstrap draws")
    add("--seed", type=SEED, default=0, help="of the draws")
    add("--html", type=Path, help="write a page with pictures side by side")
    add("--plots", type=Path, help="write files that `dvc plots show` draws")
    return options
