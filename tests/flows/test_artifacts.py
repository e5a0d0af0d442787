"""What a run leaves in the UI is made of the files that its stages show."""

import base64
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from flows.graph import dag
from flows.results import artifacts
from flows.serving.pages import ADDRESS
from instdiff.files import tables
from instdiff.work.ledger import LEDGER


def test_what_is_shown_is_what_the_stages_say() -> None:
    graph = {
        "a": dag.Node("a", (), False, {"show": {"metrics": "metrics.json", "page": "report.html"}}),
        "b": dag.Node("b", ("a",), False, {"gpus": 1}),
        "c": dag.Node("c", ("a",), False, {"show": {"ledger": "data/ledger"}}),
    }
    assert artifacts.shown_files(graph) == {
        "metrics": Path("metrics.json"),
        "page": Path("report.html"),
        "ledger": Path("data/ledger"),
    }


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1400, 700), (1400, 700)), ((2800, 1400), (1400, 700)), ((700, 2800), (350, 1400)), ((30, 20), (30, 20))],
)
def test_a_picture_is_kept_in_its_shape_and_at_most_so_large(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", size).save(tmp_path / "sheet.png")
    kind, _, content = artifacts.picture(tmp_path / "sheet.png").partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == expected


def ledger(path: Path, *rows: tuple[str, str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = [{"key": key, "index": -1, "reason": reason, "detail": detail} for key, reason, detail in rows]
    tables.write(path, named, LEDGER)


def test_every_reason_of_every_stage_is_counted_with_its_first_example(tmp_path: Path) -> None:
    ledger(tmp_path / "ground-val.parquet", ("k", "nothing_found", ""))
    parts = tmp_path / "annotate-train"  # a folder of parts is one table
    ledger(parts / "000000.parquet", ("a", "too_small", "0.001"), ("b", "no_mask", "why"))
    ledger(parts / "000001.parquet", ("c", "too_small", "0.002"))
    assert artifacts.ledger(tmp_path) == [
        {"stage": "annotate-train", "reason": "no_mask", "count": 1, "example": "b, why"},
        {"stage": "annotate-train", "reason": "too_small", "count": 2, "example": "a, 0.001"},
        {"stage": "ground-val", "reason": "nothing_found", "count": 1, "example": "k"},
    ]


def test_where_nothing_was_dropped_that_is_said(tmp_path: Path) -> None:
    ledger(tmp_path / "train.parquet")
    (only,) = artifacts.ledger(tmp_path)
    assert (only["reason"], only["count"]) == ("nothing was dropped", 0)


def test_a_report_is_linked_by_its_bytes_where_pages_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "report.html"
    page.write_text("one")
    monkeypatch.delenv(ADDRESS, raising=False)
    assert artifacts.link(page) == page.resolve().as_uri()
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:1")
    digest = hashlib.md5(b"one", usedforsecurity=False).hexdigest()
    assert artifacts.link(page) == f"http://127.0.0.1:1/{digest}"


def test_only_files_that_are_there_become_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    content: dict[str, object] = {}

    def create(what: object, *, key: str, link_text: str = "", **_: object) -> None:
        keys.append(key)
        content[key] = (what, link_text) if link_text else what

    for name in ("table", "markdown", "image", "link"):
        monkeypatch.setattr(artifacts, f"create_{name}_artifact", create)
    Image.new("RGB", (4, 4)).save(tmp_path / "sheet.png")
    ledger(tmp_path / "ledger" / "a.parquet")
    (tmp_path / "report.html").write_text("page")
    (tmp_path / "look.html").write_text("page")
    (tmp_path / "metrics.json").write_text('{"box": {"ap": {"value": 0.5, "low": 0.4, "high": 0.6}}}')
    files = {
        "metrics": tmp_path / "metrics.json",
        "samples": tmp_path / "sheet.png",
        "ledger": tmp_path / "ledger",
        "data": tmp_path / "look.html",
        "page": tmp_path / "report.html",
    }
    changed = artifacts.publish(files, {"box": {"ap": {"value": 0.7, "low": 0.6, "high": 0.8}}})
    assert keys == ["metrics", "metrics-changes", "samples", "ledger", "data", "report"]
    assert [(change.row, change.metric) for change in changed] == [("box", "ap")]
    assert content["metrics"] == [{"metric": "ap", "box": "0.500±0.100"}]
    assert "0.600 to 0.800 | 0.500" in str(content["metrics-changes"])
    for key, name in (("data", "look.html"), ("report", "report.html")):
        assert content[key] == (artifacts.link(tmp_path / name), name)
    keys.clear()
    assert artifacts.publish(dict.fromkeys(files, tmp_path / "absent"), {}) == []
    assert keys == []
