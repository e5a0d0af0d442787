"""Shards open without our code: with webdataset as the docs say, and with what Megatron-Energon looks for."""

import json
import re
import struct
from pathlib import Path

import pytest
import yaml
from data_world import contents, prepared, sharded

from instdiff.data import shards

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    prepared(root)
    sharded(root)
    return root / "shards"


def test_the_lines_of_the_docs_decode_a_sample(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import webdataset.*?)```", page, re.DOTALL)
    assert len(lines.splitlines()) == 5
    first = next(shards.read(folder))
    names: dict[str, object] = {}
    exec(lines.replace("data/shards", str(folder)), names)
    box = list(first.layout.instances[0].box or ())
    assert capsys.readouterr().out == f"(96, 64) {first.layout.prompt} {box}\n"


def test_each_shard_says_where_its_samples_begin_and_how_many_there_are(folder: Path) -> None:
    index = shards.read_index(folder)
    for name, rows in index.groupby("shard"):
        starts = struct.unpack(f"<{len(rows) + 1}Q", (folder / f"{name}.idx").read_bytes())
        assert list(starts[:-1]) == list(rows["offset"])
        assert starts[-1] == rows["offset"].iloc[-1] + rows["size"].iloc[-1]
    info = json.loads((folder / ".nv-meta" / ".info.json").read_text())
    assert info == {"shard_counts": {"00000.tar": 2, "00001.tar": 2, "00002.tar": 1}}
    split = yaml.safe_load((folder / ".nv-meta" / "split.yaml").read_text())
    assert split == {"split_parts": {"train": ["00000.tar", "00001.tar", "00002.tar"]}, "exclude": []}
    crude = yaml.safe_load((folder / ".nv-meta" / "dataset.yaml").read_text())
    assert crude == {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}


def test_the_files_for_energon_are_the_same_bytes_when_nothing_has_changed(folder: Path) -> None:
    before = contents(folder)
    sharded(folder.parent)
    assert contents(folder) == before
