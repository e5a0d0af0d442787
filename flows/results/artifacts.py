"""What a run leaves in the UI: how each stage ended, the metrics and what became of them, samples, ledger, report.

Which files these are made from, `show` in the `meta` of dvc.yaml's stages says.
"""

import base64
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.graph.dag import Graph
from flows.results import metrics
from flows.serving.pages import ADDRESS
from instdiff.files import tables
from instdiff.work.ledger import LEDGER

MAX_WIDTH = 1400  # pixels of a picture that is kept in Prefect's database

ShownFiles = Mapping[str, Path]  # metrics, samples, ledger, page -> file or folder


def shown_files(graph: Graph) -> ShownFiles:
    """What the stages of a graph want to be shown."""
    return {kind: Path(path) for node in graph.values() for kind, path in node.meta.get("show", {}).items()}


def publish(files: ShownFiles, last: metrics.Metrics) -> list[metrics.Change]:
    """Make an artifact of every file that is there; return what became of the metrics."""
    changed = []
    if (path := files.get("metrics")) and path.is_file():
        now = metrics.read(path)
        changed = metrics.changes(last, now)
        create_table_artifact(metrics.table(now), key="metrics", description="Each value ± half of its 95% interval")
        create_markdown_artifact(metrics.markdown(changed), key="metrics-changes", description="Against the last run")
    if (path := files.get("samples")) and path.is_file():
        create_image_artifact(picture(path), key="samples", description="Every row, drawn from the same layouts")
    if (path := files.get("ledger")) and path.is_dir():
        create_table_artifact(ledger(path), key="ledger", description="What was dropped or failed, and why")
    if (path := files.get("page")) and path.is_file():
        create_link_artifact(link(path), link_text=path.name, key="report", description="The report of this run")
    return changed


def picture(path: Path) -> str:
    """The picture itself as an address, so that it outlives the file."""
    with Image.open(path) as image:
        image.thumbnail((MAX_WIDTH, MAX_WIDTH))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "webp", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Every reason a stage gave, how often, and one example."""
    reasons = []
    for table in sorted({path if path.parent == folder else path.parent for path in folder.rglob("*.parquet")}):
        for reason, rows in tables.read(table, LEDGER).groupby("reason", sort=True):
            first = rows.iloc[0]
            stage = table.relative_to(folder).with_suffix("").as_posix()
            example = f"{first['key']}, {first['detail']}".rstrip(", ")
            reasons.append({"stage": stage, "reason": reason, "count": len(rows), "example": example})
    return reasons or [{"stage": "every stage", "reason": "nothing was dropped", "count": 0, "example": ""}]


def link(page: Path) -> str:
    """The address of exactly these bytes where pages are served, else of the file."""
    if served := os.environ.get(ADDRESS):
        return f"{served}/{hashlib.md5(page.read_bytes(), usedforsecurity=False).hexdigest()}"
    return page.resolve().as_uri()
