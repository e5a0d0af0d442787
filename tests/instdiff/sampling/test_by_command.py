"""Rows that a command draws: each layout once, whatever is killed; what it writes is checked before it is a row."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from instdiff.files import provenance
from instdiff.layouts.table_rows import TableRow
from instdiff.sampling import by_command
from instdiff.schema import Box, Instance, Layout, Point

KEYS = ("e", "d", "c", "b", "a")
LAYOUTS = [
    Layout(
        key=key,
        prompt=f"a {key}",
        instances=(Instance(phrase="it", category="x", box=Box(0, 0, 0.5, 1), point=Point(0.5, 0.5)),),
    )
    for key in KEYS
]
PAINTER = """
import json, os, sys, time
from pathlib import Path
from PIL import Image
layouts, out, seed, how = sys.argv[1:]
out, how = Path(out), json.loads(how)
log = Path(how["log"]).open("a")
for number, layout in enumerate(json.loads(Path(layouts).read_text())):
    if number == how.get("fail_at"):
        (out / f"{layout['key']}.png").write_bytes(b"half of a picture")
        sys.exit("out of paint")
    time.sleep(how.get("slow", 0))
    Image.new("RGB", (4, 4), (ord(layout["key"]), int(seed), 0)).save(out / (layout["key"] + how.get("suffix", ".png")))
    print(json.dumps(layout), file=log, flush=True)
for name in how.get("more", ()):
    Image.new("RGB", (4, 4)).save(out / name)
"""


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(by_command, "POLL", 0.01)
    (tmp_path / "painter.py").write_text(PAINTER)
    return tmp_path / "painter.py"


def row(painter: Path, **how: Any) -> TableRow:
    how["log"] = str(painter.parent / "log")
    command = (sys.executable, str(painter), "{layouts}", "{out}", "{seed}", json.dumps(how))
    return TableRow(meaning="", pictures="command", formats=("box",), mis=0.0, command=command)


def drawn(painter: Path, **how: Any) -> list[str]:
    """Draw the row; keys of the layouts that the command has drawn, in all runs so far."""
    by_command.draw(LAYOUTS, row(painter, **how), 7, "digest", painter.parent / "out", {"row": "mine"})
    return [layout["key"] for layout in logged(painter)]


def logged(painter: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (painter.parent / "log").read_text().splitlines()]


def test_each_layout_is_drawn_once_and_the_record_says_by_what(painter: Path) -> None:
    assert drawn(painter) == list(KEYS)
    out = painter.parent / "out"
    for key in KEYS:
        assert Image.open(out / f"{key}.png").getpixel((0, 0)) == (ord(key), 7, 0)
    record = json.loads((out / provenance.RECORD).read_text())
    assert record["row"] == "mine" and record["seed"] == 7
    assert record["command"] == list(row(painter).command or ())
    assert record["programs"][str(painter)] == provenance.fingerprint(painter)
    assert provenance.read(out) is not None
    assert not list(painter.parent.glob("runs/*"))


def test_a_command_is_given_what_the_row_keeps_of_an_instance_and_no_more(painter: Path) -> None:
    drawn(painter)
    assert logged(painter)[0] == {
        "key": "e",
        "prompt": "a e",
        "instances": [{"phrase": "it", "category": "x", "box": [0, 0, 0.5, 1]}],
    }


def test_a_command_that_fails_keeps_its_whole_pictures_and_is_asked_for_the_others(
    painter: Path, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    script = PAINTER.replace('how.get("fail_at")', f"(3 if not Path({str(flag)!r}).exists() else None)")
    painter.write_text(script)
    with pytest.raises(ValueError, match="the command ended with 1: out of paint"):
        drawn(painter)
    assert not (tmp_path / "out").exists()
    flag.touch()
    assert drawn(painter) == list(KEYS)  # none of them twice: the half picture was not taken for one


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_by_command as test
test.by_command.POLL = 0.01
test.by_command.draw(test.LAYOUTS, test.row(Path({painter!r}), slow=0.05), 7, "digest", Path("out"), {{"row": "mine"}})
"""


def test_a_kill_of_the_stage_at_any_moment_costs_no_more_than_the_picture_in_flight(painter: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), painter=str(painter))
    root = Path(__file__).parents[3]
    running = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    began = time.monotonic()
    while time.monotonic() - began < 500 and (not (painter.parent / "log").exists() or len(logged(painter)) < 2):
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = [layout["key"] for layout in logged(painter)]
    assert 2 <= len(before) < 5 and not (painter.parent / "out").exists()
    after = drawn(painter, slow=0.05)[len(before) :]
    assert set(before) | set(after) == set(KEYS)
    assert len(set(before) & set(after)) <= 1  # the picture that the kill met between its file and its line


def test_pictures_of_no_layout_are_named(painter: Path) -> None:
    with pytest.raises(ValueError, match="wrote 1 pictures of no layout it was given: stranger.png"):
        drawn(painter, more=["stranger.png"])
    assert not (painter.parent / "out").exists()


def test_whoever_ends_the_stage_ends_the_command(painter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def begun(*words: Any, **how: Any) -> "subprocess.Popen[bytes]":
        running.append(popen(*words, **how))
        return running[-1]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(by_command.subprocess, "Popen", begun)
    monkeypatch.setattr(by_command, "track", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn(painter, slow=100)
    assert [process.returncode for process in running] == [-signal.SIGTERM]


@pytest.mark.parametrize(("count", "names"), [(5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4, ...")])
def test_five_names_are_told_and_that_there_are_more(count: int, names: str) -> None:
    assert by_command._names([str(number) for number in range(count)]) == names


def test_of_what_a_command_says_before_it_fails_the_last_four_hundred_characters_are_told(painter: Path) -> None:
    painter.write_text("import sys; sys.exit('a' * 50 + 'b' * 400)")
    with pytest.raises(ValueError, match="ended with 1: b{400}$"):
        drawn(painter)


def test_a_command_that_ends_well_without_a_picture_is_no_row(painter: Path) -> None:
    painter.write_text(PAINTER.replace("    time.sleep(", "    if not number: continue\n    time.sleep("))
    with pytest.raises(ValueError, match="wrote no readable picture of 1 layouts: e"):
        drawn(painter)


def test_another_script_draws_anew(painter: Path) -> None:
    with pytest.raises(ValueError, match="out of paint"):
        drawn(painter, fail_at=2)
    painter.write_text(PAINTER + "\n# another hand\n")
    with pytest.raises(ValueError, match="out of paint"):
        drawn(painter, fail_at=2)
    assert [layout["key"] for layout in logged(painter)] == ["e", "d", "e", "d"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pictures": "command"},
        {"pictures": "command", "command": ("paint", "{out}")},
        {"pictures": "drawn", "command": ("paint", "{layouts}", "{out}")},
    ],
)
def test_a_row_has_a_command_with_both_places_or_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="command: "):
        TableRow.model_validate({"meaning": "", "formats": (), "mis": 0.0, **wrong})
