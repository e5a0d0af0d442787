import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_world import contents

from instdiff import atomic


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic.file(tmp_path / "sub" / "a.txt") as part:
        part.write_text("half")
        assert not (tmp_path / "sub" / "a.txt").exists()
        part.write_text("whole")
    assert contents(tmp_path) == {"sub/a.txt": b"whole"}


def test_a_folder_replaces_what_was_there(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic.folder(tmp_path / "a") as part:
            (part / name).write_text(name)
    assert contents(tmp_path) == {"a/two": b"two"}


def test_a_failure_leaves_what_was_there_and_nothing_beside(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    (tmp_path / "a").write_text("before")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic.file(tmp_path / "a") as part:
        fail(part)
    with pytest.raises(KeyboardInterrupt), atomic.folder(tmp_path / "b") as folder:
        fail(folder / "c")
    assert contents(tmp_path) == {"a": b"before", "b/c": b"before"}


def test_an_old_folder_is_never_seen_half_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while the old folder is being removed finds the new one in its place."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")

    def killed(_: Path) -> None:
        assert contents(tmp_path / "a") == {"new": b"new"}
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt), atomic.folder(tmp_path / "a") as part:
        (part / "new").write_text("new")


def test_what_a_dead_process_left_goes_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    host = os.uname().nodename
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process, machine in ((dead.pid, host), (os.getppid(), host), (dead.pid, "elsewhere")):
        (tmp_path / f".a.{machine}.{process}.part").write_text("half")
    with atomic.file(tmp_path / "a") as part:
        part.write_text("whole")
    left = {f".a.{host}.{os.getppid()}.part", f".a.elsewhere.{dead.pid}.part"}
    assert contents(tmp_path).keys() == {"a", *left}
