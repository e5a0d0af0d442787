import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_world import contents

from instdiff.files import atomic


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


def test_what_lies_beside_goes_where_this_process_left_it_and_stays_where_it_is_of_another_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(process: int, _: int) -> None:
        if process != os.getpid():
            raise PermissionError if process == 7 else ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    left = {
        kind: [tmp_path / f".a.{os.uname().nodename}.{process}.{kind}" for process in (os.getpid(), 7, 8)]
        for kind in ("part", "old")
    }
    for path in [*left["part"], *left["old"], tmp_path / f".a.{os.uname().nodename}.8.note"]:
        path.mkdir()
        (path / "half").write_text("half")
    with atomic.folder(tmp_path / "a") as part:
        assert list(part.iterdir()) == []
        (part / "new").write_text("new")
    stays = {left["part"][1].name, left["old"][1].name, f".a.{os.uname().nodename}.8.note"}
    assert {path.name for path in tmp_path.iterdir()} == {"a", *stays}


class FullDisk(OSError):
    pass


def syncs_failing_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the sync of that number fail; the descriptors that were synced or tried."""
    tried: list[int] = []
    sync = os.fsync

    def failing(descriptor: int) -> None:
        tried.append(descriptor)
        if len(tried) == number + 1:
            raise FullDisk
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    return tried


def filled(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("after")


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("existed", [True, False])
def test_a_file_that_cannot_be_synced_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    if existed:
        (tmp_path / "a").write_text("before")
    before, opened = contents(tmp_path), descriptors()
    syncs_failing_at(0, monkeypatch)
    with pytest.raises(FullDisk), atomic.file(tmp_path / "a") as part:
        part.write_text("after")
    assert contents(tmp_path) == before
    assert descriptors() == opened


@pytest.mark.parametrize("failing", range(3))
def test_a_folder_of_which_any_file_cannot_be_synced_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "before").write_text("before")
    syncs_failing_at(failing, monkeypatch)
    with pytest.raises(FullDisk), atomic.folder(tmp_path / "a") as part:
        filled(part, "1", "2", "sub/3")
    assert contents(tmp_path) == {"a/before": b"before"}


def test_what_appears_is_synced_before_and_its_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may lose what was not synced: first the content, then the rename, then the folder that holds it."""
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def replaced(path: Path, to: Path) -> Path:
        done.append(f"-> {to.name}")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    with atomic.file(tmp_path / "a") as part:
        part.write_text("whole")
    assert done == [part.name, "-> a", tmp_path.name]
    done.clear()
    with atomic.folder(tmp_path / "b") as part:
        filled(part, "1", "sub/2")
    assert sorted(done[:2]) == ["1", "2"]
    assert done[2:] == ["-> b", tmp_path.name]


KILLED = """
import os, sys
from pathlib import Path
from instdiff.files import atomic

def die(*_):
    os._exit(9)

path, step = Path(sys.argv[1]), sys.argv[2]
if step == "synced":
    atomic._sync = die
with atomic.file(path / "a") as part:
    part.write_text("after")
    if step == "written":
        die()
with atomic.folder(path / "b") as part:
    (part / "c").write_text("after")
    die()
"""


@pytest.mark.parametrize(("step", "left"), [("written", b"before"), ("synced", b"before"), ("folder", b"after")])
def test_a_kill_leaves_the_old_or_the_new_and_what_lies_beside_goes_next_time(
    tmp_path: Path, step: str, left: bytes
) -> None:
    (tmp_path / "a").write_text("before")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("before")
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), step], check=False).returncode == 9
    visible = {name: content for name, content in contents(tmp_path).items() if not name.startswith(".")}
    assert visible == {"a": left, "b/c": b"before"}
    with atomic.file(tmp_path / "a") as part:
        part.write_text("whole")
    with atomic.folder(tmp_path / "b") as part:
        (part / "d").write_text("whole")
    assert contents(tmp_path) == {"a": b"whole", "b/d": b"whole"}


def test_removing_takes_files_and_folders_and_minds_nothing_that_is_absent(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("old")
    for name in ("a", "b", "none"):
        atomic.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_second_name_is_the_same_file_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    (tmp_path / "a").write_text("whole")
    atomic.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")
    monkeypatch.setattr(os, "link", refuse)
    atomic.link(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "whole"
