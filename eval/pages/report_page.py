"""The content of the report: which samples and failures are shown, what was dropped, where the numbers come from.

Everything here is plain values for the template; drawing is in figures, reading rows in report.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from markupsafe import Markup
from PIL import Image

from eval.inputs import pictures as picture_folders
from eval.inputs.ground_truth import GroundTruth
from eval.pages import sheet as samples_sheet
from instdiff.files import tables
from instdiff.layouts import from_tables, html
from instdiff.schema import Layout
from instdiff.work.ledger import LEDGER

SIZES = ("small", "medium", "large")
MISPLACED = 0.5  # mask IoU below which an instance counts as misplaced
TEMPLATE = Path(__file__).with_name("report.html.j2")
CODE = ("*.py", "*.j2", "configs", "params.yaml", "dvc.yaml")  # changed, the commit is not the whole truth


class SampleLayout(NamedTuple):
    """A layout that is shown; its pictures are in the page's atlas."""

    key: str
    group: str
    layout: Layout
    overlay: Markup
    aspect: float  # width / height


class FailedInstance(NamedTuple):
    """One instance of one row that went wrong."""

    row: str
    key: str
    phrase: str
    judged: str
    category: str
    colour: str
    size: str
    group: str
    faults: list[str]
    mask_iou: float
    detection_score: float | None
    overlay: Markup
    aspect: float  # width / height of the picture


def chosen(truth: GroundTruth, count: int) -> list[str]:
    """Keys for the grid of samples: the first of every group, then the second, and so on, in the order of groups."""
    groups = [list(keys) for _, keys in truth.images.groupby("group", sort=True)["key"]]
    turns = max(len(keys) for keys in groups)
    in_turn = [keys[turn] for turn in range(turns) for keys in groups if turn < len(keys)][:count]
    order = {key: place for place, key in enumerate(key for keys in groups for key in keys)}
    return sorted(in_turn, key=order.__getitem__)


def worst(instances: pd.DataFrame, count: int) -> pd.DataFrame:
    """The instances that went most wrong: least mask IoU, then a wrong colour, shape and texture.

    Adds `wrong_*`, `size` (small, medium, large: thirds of all instances by area) and `place` within the picture.
    """
    scores = instances.assign(
        wrong_colour=instances["colour"].notna() & (instances["judged_colour"] != instances["colour"]),
        wrong_texture=instances["texture"].notna() & (instances["judged_texture"] != instances["texture"]),
        wrong_shape=instances["judged_shape"] != instances["category"],
        size=pd.cut(instances["area"].rank(pct=True), [0, 1 / 3, 2 / 3, 1], labels=list(SIZES)).astype(str),
        place=instances.groupby("key").cumcount(),
    )
    order = ["mask_iou", "wrong_colour", "wrong_shape", "wrong_texture", "key", "index"]
    return scores.sort_values(order, ascending=[True, False, False, False, True, True]).head(count)


def dropped(stats_folder: Path, ledger: Path) -> dict[str, Any]:
    """What each data stage counted, and the ledger's reasons with how often and one example each."""
    counts = {}
    for path in sorted(stats_folder.glob("*.json")):
        values = json.loads(path.read_text())
        counts[path.stem] = {name: value for name, value in values.items() if name.startswith(("dropped", "failed"))}
    reasons = []
    for table in sorted({path if path.parent == ledger else path.parent for path in ledger.rglob("*.parquet")}):
        for reason, rows in tables.read(table, LEDGER).groupby("reason", sort=True):
            first = rows.iloc[0]
            reasons.append(
                {
                    "stage": table.relative_to(ledger).with_suffix("").as_posix(),
                    "reason": reason,
                    "count": len(rows),
                    "example": f"{first['key']}, {first['detail']}".rstrip(", "),
                }
            )
    return {"counts": {name: values for name, values in counts.items() if values}, "reasons": reasons}


class Link(NamedTuple):
    """Another page of the run."""

    path: str  # from the report's folder
    served: str  # where a server of DVC's cache has it


def page_of_data(page: Path, report: Path) -> Link:
    """The page that shows what was trained on."""
    digest = hashlib.md5(page.read_bytes(), usedforsecurity=False).hexdigest()
    return Link(Path(os.path.relpath(page, report.parent)).as_posix(), f"/{digest}")


def commit() -> str:
    """The Git commit of the working tree, and whether it has changes; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "-uno", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with uncommitted changes" if changed else "")


def changed_values(now: str) -> list[tuple[str, str, str]]:
    """Values of params.yaml that are not those of the commit: name, there, now; "-" stands for none."""
    try:
        before = yaml.safe_load(_git("show", "HEAD:./params.yaml"))
    except (OSError, subprocess.CalledProcessError):
        return []
    committed, current = _flat(before), _flat(yaml.safe_load(now))
    names = [name for name in {**committed, **current} if committed.get(name, "-") != current.get(name, "-")]
    return [(name, committed.get(name, "-"), current.get(name, "-")) for name in names]


def _flat(node: object, name: str = "") -> dict[str, str]:
    """Values by their dotted names."""
    if not isinstance(node, dict) or not node:
        return {name: json.dumps(node, default=str)} if name else {}
    inside = (_flat(value, f"{name}.{part}".lstrip(".")) for part, value in node.items())
    return {full: value for values in inside for full, value in values.items()}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


class Sources(NamedTuple):
    """Where the pictures of the page come from."""

    truth: GroundTruth
    layouts: Mapping[str, Layout]  # by key
    pictures: Mapping[str, picture_folders.Pictures]  # by row
    max_side: int

    def aspect(self, key: str) -> float:
        """Width over height of a layout's real picture."""
        images = self.truth.images[self.truth.images["key"] == key]
        return float(images["width"].iloc[0] / images["height"].iloc[0])

    def atlas(self, needed: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """(row, key) -> data URI, each picture of the page once."""
        places = {key: place for place, key in enumerate(self.truth.images["key"])}
        return {
            (row, key): html.data_uri(self.pictures[row].load(places[key]), self.max_side)
            for row, key in sorted(needed)
        }


def sources(truth: GroundTruth, folders: Mapping[str, Path], square: int | None, max_side: int) -> Sources:
    """Find every row's pictures."""
    by_key = {layout.key: layout for layout in from_tables.from_tables(truth.images, truth.instances)}
    return Sources(
        truth,
        by_key,
        {row: picture_folders.find(folder, truth.images, square) for row, folder in folders.items()},
        max_side,
    )


def sheet(page_sources: Sources, rows: Sequence[str], count: int, side: int) -> Image.Image:
    """These rows as one picture, of the first layouts of each group in turn."""
    keys = chosen(page_sources.truth, count)
    places = {key: place for place, key in enumerate(page_sources.truth.images["key"])}
    pictures_of = {
        row: [page_sources.pictures[row].load(places[key]) for key in keys]
        for row in rows
        if row in page_sources.pictures
    }
    return samples_sheet.sheet(pictures_of, [page_sources.layouts[key] for key in keys], side)


def samples(page_sources: Sources, keys: Sequence[str]) -> list[SampleLayout]:
    """The grid: one line a layout, one picture a row."""
    groups = page_sources.truth.images.set_index("key")["group"]
    return [
        SampleLayout(
            key,
            groups[key],
            page_sources.layouts[key],
            html.overlay(page_sources.layouts[key].instances),
            page_sources.aspect(key),
        )
        for key in keys
    ]


def failures(page_sources: Sources, row: str, instances: pd.DataFrame, count: int) -> list[FailedInstance]:
    """The worst instances of a row, each with what was asked and what was judged."""
    return [_failure(page_sources, row, record) for record in worst(instances, count).to_dict("records")]


def _failure(page_sources: Sources, row: str, record: Mapping[Any, Any]) -> FailedInstance:
    instance = page_sources.layouts[record["key"]].instances[record["place"]]
    score = record["detection_score"]
    return FailedInstance(
        row=row,
        key=record["key"],
        phrase=instance.phrase,
        judged=f"{record['judged_colour']} {record['judged_texture']} {record['judged_shape']}",
        category=record["category"],
        colour=record["colour"] or "",
        size=record["size"],
        group=record["group"],
        faults=faults(record),
        mask_iou=record["mask_iou"],
        detection_score=None if pd.isna(score) else score,
        overlay=html.overlay([instance]),
        aspect=page_sources.aspect(record["key"]),
    )


def faults(record: Mapping[Any, Any]) -> list[str]:
    """What went wrong with an instance, in words; empty when nothing did."""
    words = []
    if record["mask_iou"] == 0:
        words.append("not found")
    elif record["mask_iou"] < MISPLACED:
        words.append("misplaced")
    words += [f"wrong {name}" for name in ("colour", "texture", "shape") if record[f"wrong_{name}"]]
    return words + (["neighbour's colour"] if record["leak"] is True else [])
