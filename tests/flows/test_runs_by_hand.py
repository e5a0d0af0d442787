"""What is done around `dvc repro`, with a stand-in for DVC: what a run says and keeps, and what is out of date."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import grid, paper, repro, status
from flows.graph import dag

STAND_IN = """
import os, sys
print("Running stage 'a':", flush=True)
print(*sys.argv[1:], os.environ["INSTDIFF_PROGRESS"], os.environ["PYTHONUNBUFFERED"], flush=True)
print("of the other stream", file=sys.stderr, flush=True)
sys.stdout.buffer.write(b"caf\\xe9\\n")
sys.stdout.flush()
print("Updating lock file 'dvc.lock'", flush=True)
print("Running stage 'b':")
for number in range(40):
    print(number)
sys.exit(3)
"""

BIN = str(Path(sys.executable).parent)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m dvc` is the stand-in, with a lock that is whole."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.py").write_text(STAND_IN)
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    return tmp_path


def test_a_run_hears_both_streams_says_the_end_of_what_failed_and_keeps_what_each_stage_took(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repro.SECONDS.parent.mkdir()
    repro.SECONDS.write_text(json.dumps({"a": 1000.0, "z": 7.0}))
    code, took = repro.run(["--force", "a"], ["a", "b"])
    assert (code, list(took)) == (3, ["a"])
    assert (repro.OUTPUT / "a.txt").read_text() == "repro --force a 1 1\nof the other stream\ncaf\ufffd\n"
    assert (repro.OUTPUT / "b.txt").read_text().split() == [str(number) for number in range(40)]
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("1 of 2 a, ")
    assert said[1:] == ["b failed; its output is in runs/output/b.txt and ends:", *map(str, range(10, 40))]
    kept = json.loads(repro.SECONDS.read_text())
    assert kept == {"a": took["a"], "z": 7.0} and took["a"] < 1000
    assert dag.KEPT_LOCK.read_text() == (folder / "dvc.lock").read_text()  # as it was when a stage began


def test_the_python_of_a_stage_is_the_one_that_runs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # as where nobody has made the environment the active one
    (folder / "dvc.py").write_text("import os\nopen('path', 'w').write(os.environ['PATH'])\n")
    assert repro.run([], []) == (0, {})
    assert (folder / "path").read_text() == f"{BIN}:/usr/bin:/bin"


def test_a_run_that_ends_before_a_stage_begins_shows_the_end_of_all_that_was_said(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "dvc.py").write_text("import sys\nfor number in range(31):\n    print(number)\nsys.exit(255)\n")
    assert repro.run([], []) == (255, {})
    assert capfd.readouterr().out.split() == [str(number) for number in range(1, 31)]
    assert not dag.KEPT_LOCK.exists() and not repro.OUTPUT.exists()


def test_a_run_of_another_folder_works_and_keeps_its_seconds_there(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "dvc.py").write_text("import os\nopen('here', 'w').close()\n")
    assert repro.run([], [], folder / "sub") == (0, {})
    assert (folder / "sub" / "here").exists()
    assert json.loads((folder / "sub" / repro.SECONDS).read_text()) == {}
    assert not repro.SECONDS.exists()


def test_the_lock_is_kept_as_it_is_when_a_stage_begins_and_not_within_it(folder: Path) -> None:
    kept: list[str | None] = []

    def lines() -> Iterator[str]:
        begin_and_go_on = ["checking", "Running stage 'a':", "a line", "Running stage 'b':", "a line", "a line"]
        for number, line in enumerate(begin_and_go_on):
            (folder / "dvc.lock").write_text(f"schema: {number}\n")
            yield line
            kept.append(dag.KEPT_LOCK.read_text() if dag.KEPT_LOCK.exists() else None)

    assert list(repro.report(repro.Account(["a", "b"], {}), lines(), folder))
    assert kept == [None, *["schema: 1\n"] * 2, *["schema: 3\n"] * 3]


def test_the_clock_is_looked_at_each_second_in_which_no_line_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []

    class Watched(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            waits.append(timeout)
            if len(waits) == 2:
                raise queue.Empty
            return super().get(block)

    monkeypatch.setattr(queue, "SimpleQueue", Watched)
    stream: Any = iter(["one \n", "\n", "two"])
    assert list(repro.timed(stream)) == ["one ", None, "", "two"]
    assert set(waits) == {1}


def test_ctrl_c_is_noted_in_the_main_thread_alone_and_ends_a_run_as_shells_say_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    with repro.noted_interrupts() as noted:
        signal.raise_signal(signal.SIGINT)
    assert noted == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before
    handlers: list[object] = []

    def elsewhere() -> None:
        with repro.noted_interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [before]
    assert repro.INTERRUPTED == 128 + signal.SIGINT


def test_on_a_terminal_dvc_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(Exception):
        pass

    def become(path: str, words: list[str], environment: dict[str, str]) -> None:
        raise Replaced(path, *words, environment["PATH"].split(os.pathsep)[0])

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys, "argv", ["repro", "--force", "a"])
    monkeypatch.setattr(os, "execve", become)
    with pytest.raises(Replaced) as replaced:
        repro.main()
    assert replaced.value.args == (sys.executable, sys.executable, "-m", "dvc", "repro", "--force", "a", BIN)


@pytest.mark.parametrize(
    ("stale", "words"), [((True, False, True), "2 of 3 stages are out of date"), ((False,), "everything is up to date")]
)
def test_off_a_terminal_the_stages_that_are_out_of_date_are_counted_and_the_run_ends_as_dvc_does(
    stale: tuple[bool, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs: list[object] = []
    graph = {f"s{place}": dag.Node(f"s{place}", (), is_stale, {}) for place, is_stale in enumerate(stale)}

    def ran(words: list[str], stages: list[str]) -> tuple[int, dict[str, float]]:
        runs.append((words, stages))
        return 5, {}

    monkeypatch.setattr(dag, "load", lambda: graph)
    monkeypatch.setattr(repro, "run", ran)
    monkeypatch.setattr(sys, "argv", ["repro", "s0"])
    with pytest.raises(SystemExit) as end:
        repro.main()
    assert end.value.code == 5
    assert capsys.readouterr().out == f"{words}\n"
    assert runs == [(["s0"], [name for name, node in graph.items() if node.stale])]


def test_each_reason_why_a_stage_is_out_of_date_has_its_words() -> None:
    changes: list[object] = [
        "changed command",
        "always changed",
        {"changed deps": {"a.py": "modified", "b.json": "deleted", "params.yaml": {"a.x": "modified", "a.y": "new"}}},
        {"changed outs": {"c.py": "not in cache"}},
    ]
    assert list(status.words(changes)) == [
        "its command changed",
        "always changed",
        "code a.py is modified",
        "input b.json is deleted",
        "values changed: a.x, a.y",
        "c.py, which it writes, is not in cache",
    ]


CODE = {"changed deps": {"a.py": "modified"}}


@pytest.mark.parametrize(
    ("change", "old", "why"),
    [
        (CODE, "x = 1  # one", None),
        (CODE, "x = 2", "code a.py does something else"),
        (CODE, None, "the version of a.py that ran is not in Git"),
        ("changed command", "x = 1", "its command changed"),
        (CODE | {"changed outs": {"b": "modified"}}, "x = 1", "code a.py is modified"),
        ({"changed outs": {"a.py": "modified"}}, "x = 1", "a.py, which it writes, is modified"),
        ({"changed deps": {"a.py": "deleted"}}, "x = 1", "code a.py is deleted"),
        ({"changed deps": {"a.txt": "modified"}}, "x = 1", "input a.txt is modified"),
        ({"changed deps": {"p.yaml": {"a.x": "modified"}}}, "x = 1", "values changed: a.x"),
    ],
)
def test_a_stage_is_as_it_was_only_where_the_code_that_ran_means_the_same(
    change: object, old: str | None, why: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("x = 1\n")
    deps = [{"path": "data", "size": 1}, {"path": "a.py", "md5": "that ran"}]
    monkeypatch.setattr(status, "locked", lambda: {"s": {"deps": deps}})
    monkeypatch.setattr(status, "version", lambda path, md5: old if (path, md5) == ("a.py", "that ran") else "other")
    assert status.in_words_alone("s", [change]) == why


BOTH = {"same": [CODE], "other": ["changed command", {"changed deps": {"b.json": "new"}}]}
FIRST = "same: only comments and docstrings of its code changed"
SECOND = "other: its command changed; input b.json is new"
STATUS: dict[str, tuple[dict[str, Any], list[str], list[str], list[str]]] = {  # of DVC, words -> committed, said
    "shown": (
        BOTH, [], [],
        [FIRST, SECOND, "`make repro` brings them up to date; `make comments` those that changed in words"],
    ),
    "committed": (BOTH, ["--commit"], ["same"], [FIRST, SECOND, "other is left as it is: its command changed"]),
    "of others alone": ({"other": BOTH["other"]}, [], [], [SECOND, "`make repro` brings them up to date"]),
    "none to commit": (
        {"other": BOTH["other"]}, ["--commit"], [],
        [SECOND, "other is left as it is: its command changed"],
    ),
    "nothing": ({}, [], [], ["everything is up to date"]),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "words", "committed", "said"), STATUS.values(), ids=STATUS.keys())
def test_what_is_out_of_date_is_said_stage_by_stage_and_committed_when_asked(
    changed: dict[str, Any],
    words: list[str],
    committed: list[str],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands: list[tuple[list[str], object]] = []
    monkeypatch.setattr(dag, "repository", lambda: nullcontext(SimpleNamespace(status=lambda: changed)))
    reasons = {"same": None, "other": "its command changed"}
    monkeypatch.setattr(status, "in_words_alone", lambda stage, _: reasons[stage])
    monkeypatch.setattr(subprocess, "run", lambda words, check: commands.append((words, check)))
    monkeypatch.setattr(sys, "argv", ["status", *words])
    status.main()
    assert capsys.readouterr().out.splitlines() == said
    commit = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force"]
    assert commands == ([([*commit, *committed], True)] if committed else [])


@pytest.mark.parametrize(("codes", "queued"), [((0, 0), 2), ((0, 1), 2), ((1, 0), 1)])
def test_a_grid_is_queued_up_to_the_experiment_that_dvc_refuses(
    codes: tuple[int, ...], queued: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = grid.Grid(metrics=[], variants={name: grid.Variant(overrides=[], rows=[]) for name in ("x", "y")})
    commands: list[list[str]] = []

    def asked(words: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(words)
        done = subprocess.CompletedProcess[str](words, codes[len(commands) - 1])
        if check:
            done.check_returncode()
        return done

    monkeypatch.setattr(subprocess, "run", asked)
    monkeypatch.setattr(grid, "read", lambda _: whole)
    monkeypatch.setattr(grid, "GRIDS", Path(__file__).parents[2] / "configs" / "grid")
    if any(codes):
        with pytest.raises(ValueError, match=f"ablation-{'xy'[codes.index(1)]} was not queued"):
            grid.main(["ablation"])
    else:
        grid.main(["ablation"])
        assert capsys.readouterr().out.startswith("run them: dvc exp run --run-all; ")
    assert [words[words.index("--name") + 1] for words in commands] == ["ablation-x", "ablation-y"][:queued]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "dask", "tcp:/a", ""])
def test_workers_are_a_number_of_one_or_more_slurm_or_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=f"WORKERS={text}: neither"):
        paper.workers(text)
    assert paper.workers("1")[-1] == "paper.gpus=1"


@pytest.fixture
def both_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str], Path]]:
    """A graph of the paper's table with a stage that is up to date; what was run of it, the second run failing."""
    graph = {name: dag.Node(name, (), name != "b", {}) for name in ("a", "b", "paper", "c")}
    runs: list[tuple[list[str], list[str], Path]] = []

    def ran(words: list[str], stale: list[str], out: Path) -> tuple[int, dict[str, float]]:
        runs.append((words, stale, out))
        return (0, {"a": 1.26, "c": 2.0}) if len(runs) == 1 else (4, {"paper": 0.04})

    monkeypatch.setattr(dag, "load", lambda out: graph)
    monkeypatch.setattr(repro, "run", ran)
    return runs


def test_the_page_of_the_paper_is_made_last_and_knows_how_long_the_others_took(
    both_halves: list[tuple[list[str], list[str], Path]], tmp_path: Path
) -> None:
    (tmp_path / paper.SECONDS).write_text('{"a": 9.9, "b": 5.0}')
    assert paper.make(tmp_path) == 4
    assert both_halves == [(["a", "b", "c"], ["a", "c"], tmp_path), (["paper"], ["paper"], tmp_path)]
    assert json.loads((tmp_path / paper.SECONDS).read_text()) == {"a": 1.3, "b": 5.0, "c": 2.0, "paper": 0.0}


def test_where_the_stages_fail_there_is_no_page(
    both_halves: list[tuple[list[str], list[str], Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(words: list[str], stale: list[str], out: Path) -> tuple[int, dict[str, float]]:
        both_halves.append((words, stale, out))
        return 1, {}

    monkeypatch.setattr(repro, "run", failed)
    assert paper.make(tmp_path) == 1
    assert len(both_halves) == 1


def test_a_file_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    times: list[int] = []
    for text in ("one", "one", "two"):
        paper.written(path, text)
        times.append(path.stat().st_ino)
        assert path.read_text() == text
    assert times[0] == times[1]


def test_the_command_of_the_paper_takes_its_folders_and_gives_the_rest_on(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[tuple[object, ...]] = []
    monkeypatch.setattr(paper, "prepare", lambda *words: prepared.append(words))
    monkeypatch.setattr(paper, "make", lambda out: 0)
    words = ["--coco", "c", "--weights", "w"]
    for more in ([], ["--subset", "7", "--workers", "slurm", "--out", "o", "generate.steps=2"]):
        with pytest.raises(SystemExit):
            paper.main([*words, *more])
    assert prepared == [
        (Path("c"), Path("w"), None, None, [], Path("paper")),
        (Path("c"), Path("w"), 7, "slurm", ["generate.steps=2"], Path("o")),
    ]


def test_the_table_of_the_paper_does_not_lie_in_the_trees_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (Path(), Path("../x"), Path("a/..")):
        with pytest.raises(ValueError, match="must be a folder within"):
            paper.prepare(tmp_path / "none", tmp_path / "none", None, None, [], out)
    with pytest.raises(ValueError, match="val2017"):  # the next thing that is looked at
        paper.prepare(tmp_path / "none", tmp_path / "none", None, None, [], Path("a/b"))
