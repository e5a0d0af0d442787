"""The commands around `dvc repro`: its lines off a terminal, what is out of date in words, the way back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy_graph
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import repro, status
from flows.graph import dag

NOTHING: dict[str, object] = {"push": None, "message": None, "deployments": {}}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy, brought up to date and committed."""
    toy = toy_graph.write(tmp_path / "toy", NOTHING)
    monkeypatch.chdir(toy)
    toy_graph.dvc("repro", "-q", at=toy)
    (toy / ".gitignore").write_text((toy / ".gitignore").read_text() + "/runs/\n")
    toy_graph.run("git", "commit", "-qam", "The toy has run", at=toy)
    for cached in (status.locked, status.version):
        cached.cache_clear()
    return toy


def ours(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report_lines(account: repro.Account, clock: Clock, *lines: tuple[float, str]) -> list[str]:
    """What is said when these lines come at these times."""
    lines_reported: list[str] = []
    for when, line in lines:
        clock.now = when
        lines_reported += account.line(line) if line else account.tick()
    return lines_reported


def test_each_stage_has_a_line_with_its_place_its_time_and_about_how_long_the_rest_takes(clock: Clock) -> None:
    account = repro.Account(["a", "b@x", "c"], {"b@x": 180, "c": 420}, clock)
    assert report_lines(
        account,
        clock,
        (0, "Running stage 'a':"),
        (1, "> python -m a"),
        (1, "Loading weights: 100%|####| 3/3"),
        (1, "float32: []"),
        (20, "Updating lock file 'dvc.lock'"),
        (21, "Stage 'b@x' is cached - skipping run, checking out outputs"),
        (22, "Running stage 'c':"),
        (52, '@@progress {"done": 120, "total": 640, "unit": "steps"}'),
        (60, ""),
        (81.5, ""),
        (82, ""),
        (152, "Updating lock file 'dvc.lock'"),
    ) == [
        "1 of 3 a, 20 s, about 10 min left",
        "2 of 3 b@x, from the cache",
        "3 of 3 c: 120 of 640 steps, 30 s so far",
        "3 of 3 c: 120 of 640 steps, 1 min so far",
        "3 of 3 c, 2 min",
    ]
    assert account.took == {"a": 20, "c": 130}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_within_a_stage_a_line_comes_every_half_minute_at_most(steps: list[float]) -> None:
    clock = Clock()
    account = repro.Account(["a"], {}, clock)
    list(account.line("Running stage 'a':"))
    times: list[float] = [0.0]
    for step in steps:
        clock.now += step
        if list(account.tick()):
            assert clock.now - times[-1] >= repro.BETWEEN
            times.append(clock.now)
        else:
            assert clock.now - times[-1] < repro.BETWEEN


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 1000)))
def test_the_rest_is_what_is_left_as_it_took_before(seconds_before: dict[str, float]) -> None:
    rest = repro.Account(list("abcdef"), seconds_before).rest()
    assert (rest is None) == (not seconds_before)
    if rest is not None:
        assert 6 * min(seconds_before.values()) <= rest + 1e-6
        assert rest <= 6 * max(seconds_before.values()) + 1e-6


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (119, "2 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min")],
)
def test_times_are_said_in_words(seconds: float, words: str) -> None:
    assert repro.spoken(seconds) == words


def test_off_a_terminal_a_run_is_a_line_a_stage_and_a_failure_shows_its_output(tree: Path) -> None:
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=4", "d.fails=true", at=tree)
    done = ours("flows.repro")
    lines = done.stdout.splitlines()
    assert done.returncode != 0
    assert any(line.startswith("1 of 6 a, ") for line in lines)
    assert "d failed; its output is in runs/output/d.txt and ends:" in lines
    assert "d was told to fail" in (tree / "runs" / "output" / "d.txt").read_text()
    assert not [line for line in lines if line.startswith(("@@", "Running stage"))]
    toy_graph.run(sys.executable, "-m", "instdiff.config", at=tree)
    done = ours("flows.repro")
    assert (done.returncode, [line for line in done.stdout.splitlines() if "from the cache" in line][:1]) == (
        0,
        ["1 of 6 a, from the cache"],
    )


def test_a_run_that_is_interrupted_ends_in_one_sentence_and_the_next_goes_on_from_there(tree: Path) -> None:
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=7", "d.waits=true", at=tree)
    (tree / "d.part").unlink(missing_ok=True)  # it is there again when d waits
    command = [sys.executable, "-m", "flows.repro"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    run = subprocess.Popen(command, cwd=tree, **pipes)
    deadline = time.monotonic() + 120
    while not (tree / "d.part").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    printed = run.communicate()[0]
    assert run.returncode == repro.INTERRUPTED
    assert printed.splitlines()[-1] == "stopped; the next run goes on from here"
    assert "Traceback" not in printed and "failed" not in printed
    (tree / "go").touch()
    again = ours("flows.repro")
    assert again.returncode == 0
    assert "a," not in again.stdout
    (tree / "go").unlink()


@pytest.mark.parametrize("command", ["flows.repro", "flows.status", "flows.back"])
def test_while_another_run_works_in_the_tree_a_command_says_so_in_a_sentence(tree: Path, command: str) -> None:
    other = {"pid": os.getpid(), "cmd": "dvc repro"}
    lock = tree / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"write": {str(tree / "a"): other}, "read": {}}))
    done = ours(command)
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert f"another run works in this tree (process {os.getpid()}): wait for it, or end it" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("command", ["flows.repro", "flows.status", "flows.back"])
@pytest.mark.parametrize("share", [0, 0.503])
def test_a_lock_that_is_cut_off_is_a_sentence_that_says_how_to_go_on(tree: Path, command: str, share: float) -> None:
    lock = tree / "dvc.lock"
    whole = lock.read_text()
    middle = whole.index("md5:", int(len(whole) * share)) + 2
    lock.write_text(whole[: middle if share else 0])
    shutil.rmtree(tree / "runs", ignore_errors=True)
    done = ours(command)
    assert done.returncode == 1
    assert "`git checkout dvc.lock` brings back that of the last commit" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    toy_graph.run("git", "checkout", "-q", "dvc.lock", at=tree)
    assert ours(command).returncode == 0
    assert ours("flows.repro").returncode == 0  # which keeps the lock
    lock.write_text(whole[: middle if share else 0])
    done = ours(command)
    assert done.returncode == 0
    assert "dvc.lock was cut off by the end of the last run" in done.stdout
    assert lock.read_text() == whole


SOURCE = '"""Doc."""\nX = 1  # one\n\ndef f(a: int) -> int:\n    """Say."""\n    # why\n    return a + X\n'


@pytest.mark.parametrize(
    ("new", "same"),
    [
        (SOURCE.replace("Doc.", "Other words."), True),
        (SOURCE.replace("# why", "# because"), True),
        (SOURCE.replace('    """Say."""\n', ""), True),
        (SOURCE.replace("\n\n", "\n\n\n"), True),
        (SOURCE.replace("a + X", "(a + X)"), True),
        (SOURCE.replace("a + X", "X + a"), False),
        (SOURCE.replace("X = 1", "X = 2"), False),
        (SOURCE.replace("a: int", "b: int"), False),
        (SOURCE.replace("X = 1", 'X = """Doc."""'), False),
        ("def f(", False),
    ],
)
def test_two_sources_mean_the_same_where_comments_docstrings_and_layout_differ_alone(new: str, same: bool) -> None:
    assert status.same_meaning(SOURCE, new) == same


@pytest.fixture
def edited(tree: Path) -> Iterator[Path]:
    """The toy's code, to be edited."""
    return tree / "stage.py"


def test_stages_of_which_a_comment_changed_are_committed_and_no_others(tree: Path, edited: Path) -> None:
    source = edited.read_text()
    edited.write_text("# said otherwise\n" + source)
    assert "a: only comments and docstrings of its code changed" in ours("flows.status").stdout
    toy_graph.run(sys.executable, "-m", "instdiff.config", "d.waits=true", at=tree)
    done = ours("flows.status", "--commit").stdout
    assert "d is left as it is: values changed: d" in done
    assert toy_graph.dvc("status", "-q", "a", "b", at=tree) == ""
    edited.write_text(source.replace("max", "min").replace("1200", "1201"))
    done = ours("flows.status", "--commit").stdout
    assert "a: code stage.py is modified" in done
    assert "is not in Git" in done or "does something else" in done


def test_back_restores_the_last_commit_and_forth_what_was(tree: Path) -> None:
    before = {name: (tree / name).read_text() for name in ("a", "e", "params.yaml", "dvc.lock", "metrics.json")}
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=5", "f.value=0.25", at=tree)
    toy_graph.dvc("repro", "-q", at=tree)
    after = {name: (tree / name).read_text() for name in before}
    assert "git stash pop" in ours("flows.back").stdout
    assert {name: (tree / name).read_text() for name in before} == before
    toy_graph.run("git", "stash", "pop", "-q", at=tree)
    toy_graph.dvc("checkout", "-q", at=tree)
    assert {name: (tree / name).read_text() for name in before} == after


def test_a_row_that_the_last_commits_values_leave_out_is_not_missed(tree: Path) -> None:
    lock = yaml.safe_load((tree / "dvc.lock").read_text())
    lock["stages"]["gone"] = {"cmd": "none", "outs": [{"path": "gone", "md5": "0" * 32, "hash": "md5"}]}
    (tree / "dvc.lock").write_text(yaml.safe_dump(lock))
    toy_graph.run("git", "commit", "-qam", "A lock of more stages", at=tree)
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=4", at=tree)
    done = ours("flows.back")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the tree is as the last commit has it")


def test_back_deletes_nothing_where_the_last_commits_outputs_are_not_here(tree: Path) -> None:
    old = (tree / "dvc.lock").read_text()
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=5", at=tree)
    toy_graph.dvc("repro", "-q", at=tree)
    for path in sorted((tree / ".dvc" / "cache" / "files" / "md5").rglob("*")):
        if path.is_file() and path.parent.name + path.name in old:
            path.chmod(0o644)
            path.unlink()
    here = {path.name: path.read_bytes() for path in tree.iterdir() if path.is_file() and path.name != "params.yaml"}
    done = ours("flows.back")
    assert done.returncode == 1
    assert "not in DVC's cache here" in done.stderr
    assert here == {name: (tree / name).read_bytes() for name in here}
    assert "value: 1" in (tree / "params.yaml").read_text()


def test_a_commit_that_dvc_refuses_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"a": [{"changed deps": {"a.py": "modified"}}]}
    monkeypatch.setattr(dag, "repository", lambda: nullcontext(SimpleNamespace(status=lambda: changed)))
    monkeypatch.setattr(status, "in_words_alone", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["status", "--commit"])
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(subprocess.CalledProcessError):
        status.main()
