"""Targets and what they rest on, outputs that no cache has, and the lock's own words."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy_graph
from hypothesis import given
from hypothesis import strategies as st

from flows import back, grid, status
from flows.graph import dag, nursery, tree
from flows.grid import Variant, command
from flows.serving import gpus, parameters

GRAPH = {
    name: dag.Node(name, upstream, False, {})
    for name, upstream in {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d@box": ("b", "c"),
        "d@mask": ("c",),
        "dd": ("b",),
    }.items()
}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["a"], "a"),
        (["b"], "a b"),
        (["d@box"], "a b c d@box"),
        (["d@mask"], "a c d@mask"),
        (["d"], "a b c d@box d@mask"),
        (["dd", "c"], "a b c dd"),
        ([], ""),
    ],
)
def test_a_target_brings_all_it_rests_on_in_the_graphs_order(targets: list[str], expected: str) -> None:
    assert list(dag.upto(GRAPH, targets)) == expected.split()


@pytest.mark.parametrize("target", ["e", "d@", "@box", "A", ""])
def test_a_target_that_is_no_stage_is_named(target: str) -> None:
    with pytest.raises(ValueError, match=f"no stage '{target}' in dvc.yaml"):
        dag.upto(GRAPH, ["a", target])


@pytest.mark.parametrize(
    ("how", "is_unsaved"), [("modified", True), ("new", True), ("deleted", False), ("not in cache", False)]
)
def test_outputs_changed_by_hand_or_left_by_a_stage_are_in_no_cache(
    how: str, is_unsaved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back, "_in_git", lambda path: path == "metrics.json")
    status = {
        "train": [{"changed outs": {"data/b": how, "metrics.json": how}}, {"changed deps": {"data/c": "modified"}}],
        "score": ["changed command", {"changed outs": {"data/a": how}}],
    }
    assert back.unsaved(status) == (["data/a", "data/b"] if is_unsaved else [])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """DVC's cache with a file, and with a folder of two files of which one is not there."""
    half = [{"md5": FILE, "relpath": "a"}, {"md5": ABSENT, "relpath": "b"}]
    listings = {FILE: "content", WHOLE: json.dumps(half[:1]), HALF: json.dumps(half)}
    for md5, content in listings.items():
        path = tmp_path / md5[:2] / md5[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return tmp_path


FILE, ABSENT, WHOLE, HALF = "ab" + "1" * 30, "ab" + "2" * 30, "cd" + "3" * 30 + ".dir", "cd" + "4" * 30 + ".dir"


def test_an_output_is_missing_of_which_a_file_is_neither_in_the_cache_nor_in_git(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back, "_in_git", lambda path: path == "metrics.json")
    outs = {"file": FILE, "folder": WHOLE, "half": HALF, "metrics.json": ABSENT, "gone": ABSENT}
    lock = {"stages": {"s": {"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}, "t": {"cmd": "c"}}}
    assert list(back.missing(lock, cache)) == ["half", "gone"]
    assert list(back.missing({}, cache)) == []


@pytest.fixture
def going(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The way back with a stand-in for DVC and Git: what DVC says, what is stashed, and the commands that were run."""
    state: dict[str, Any] = {"status": {}, "missing": [], "stash": iter(["0", "1"]), "ran": [], "values": []}
    lock = "stages: {s: {outs: [{path: out, md5: a}, {path: metrics.json, md5: b}]}}"

    def ran(words: list[str], **how: object) -> SimpleNamespace:
        if words[:2] == ["git", "cat-file"]:
            return SimpleNamespace(returncode=0 if words[3] in {"HEAD:./metrics.json", "HEAD:./dvc.lock"} else 1)
        if words[:3] == ["git", "stash", "list"]:
            return SimpleNamespace(stdout=next(state["stash"]))
        if words == ["git", "show", "HEAD:./dvc.lock"]:
            return SimpleNamespace(stdout=lock)
        state["ran"].append((words, how))
        return SimpleNamespace()

    local = SimpleNamespace(local=SimpleNamespace(path="cache"))
    repo = SimpleNamespace(status=lambda: state["status"], cache=local)
    monkeypatch.setattr(back.subprocess, "run", ran)
    monkeypatch.setattr(back, "_of_graph", lambda lock: lock)
    monkeypatch.setattr(back, "missing", lambda *_: state["missing"])
    monkeypatch.setattr(back.compose, "compile_params", state["values"].append)
    monkeypatch.setattr(dag, "repository", lambda: nullcontext(repo))
    return state


@pytest.mark.parametrize("stashed", [True, False])
def test_the_way_back_stashes_what_git_has_and_says_how_to_return_where_something_was_stashed(
    going: dict[str, Any], stashed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    going["stash"] = iter(["0", "1" if stashed else "0"])
    back.main()
    (stash, of_stash), (checkout, of_checkout) = going["ran"]
    assert stash[:5] == ["git", "-c", "apply.whitespace=nowarn", "stash", "push"]
    assert stash[stash.index("--") + 1 :] == ["dvc.lock", "metrics.json"]
    assert checkout == [sys.executable, "-m", "dvc", "checkout", "--quiet"]
    assert of_stash == of_checkout == {"check": True}
    assert ("git stash pop && dvc checkout" in capsys.readouterr().out) == stashed
    assert going["values"] == []


@pytest.mark.parametrize(
    ("state", "words", "values"),
    [
        (
            {"status": {"s": [{"changed outs": {"out": "modified", "b": "new"}}]}},
            "nothing was done: no stage finished b, out; `make repro` does",
            [],
        ),
        ({"missing": ["z", "out", "z"]}, "last commit's outputs 2 are not in DVC's cache here (out, ...)", [[]]),
    ],
)
def test_the_way_back_touches_nothing_where_something_would_be_lost(
    going: dict[str, Any], state: dict[str, Any], words: str, values: list[list[str]]
) -> None:
    going.update(state)
    with pytest.raises(SystemExit) as end:
        back.main()
    assert words in str(end.value.code)
    assert (going["ran"], going["values"]) == ([], values)


@pytest.mark.parametrize(
    ("content", "whole"),
    [(b"schema: '2.0'\nstages: {}\n", True), (b"stages: {}\n", False), (b"- schema\n", False), (b"", False),
     (b"schema: [", False), (b"schema: \xff", False), (None, True)],
)  # fmt: skip
def test_a_lock_is_whole_that_is_an_object_with_a_schema_or_is_not_there(
    tmp_path: Path, content: bytes | None, whole: bool
) -> None:
    if content is not None:
        (tmp_path / "dvc.lock").write_bytes(content)
    assert dag._is_whole(tmp_path / "dvc.lock") == whole
    dag.keep_lock(tmp_path)
    assert (tmp_path / dag.KEPT_LOCK).exists() == (whole and content is not None)


def test_the_version_of_a_file_that_ran_is_found_in_history_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "sub"
    tree.mkdir()
    monkeypatch.chdir(tree)
    toy_graph.run("git", "init", "-q", at=tmp_path)
    texts = ["one", "two", "three"]
    for text in ["one", None, "two", "three"]:  # once it was deleted
        (tree / "a.py").unlink() if text is None else (tree / "a.py").write_text(text)
        toy_graph.run("git", "add", ".", at=tmp_path)
        toy_graph.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x", at=tmp_path)
    for text in texts:
        assert status.version("a.py", hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()) == text
    assert status.version("a.py", "0" * 32) is None
    assert status.version("b.py", "0" * 32) is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    with pytest.raises(subprocess.CalledProcessError):  # which is no sign that no commit has it
        status.version("c.py", "0" * 32)


@pytest.mark.parametrize(
    ("content", "stages"),
    [
        (None, {}),
        ("", {}),
        ("schema: '2.0'\n", {}),
        ("schema: '2.0'\nstages: {a: {cmd: c}}\n", {"a": {"cmd": "c"}}),
    ],
)
def test_the_stages_of_a_lock_are_none_where_it_has_none_or_is_not_there(
    content: str | None, stages: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        status.LOCK.write_text(content)
    status.locked.cache_clear()
    try:
        assert status.locked() == stages
    finally:
        status.locked.cache_clear()


def stand_in(main: str, then: str, ends: Sequence[int]) -> subprocess.Popen[bytes]:
    """A process that does something with the nursery, with a stand-in for DVC's `main(words)`, and has these files."""
    modules = ("dvc", "dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.stage")
    lines = [
        "import os, signal, socket, sys, time, types",
        f"import {nursery.__name__} as nursery",
        f"sys.modules.update((name, types.ModuleType(name)) for name in {modules})",
        main,
        "sys.modules['dvc.cli'].main = main",
        then,
    ]
    command = [sys.executable, "-c", "\n".join(lines), *map(str, ends)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], pass_fds=ends, stdin=subprocess.PIPE)


def become(main: str) -> tuple[str, str]:
    """What a command prints, and the exit status that it leaves."""
    pipes = [os.pipe() for _ in range(2)]
    ends = [end for _, end in pipes]
    then = "nursery._become(int(sys.argv[1]), int(sys.argv[2]), ['repro', 'a'], {'B': 'c'})"
    with stand_in(main, then, ends) as process:
        assert process.stdin is not None
        process.stdin.write(b"a line")
        process.stdin.close()
        for end in ends:
            os.close(end)
        printed, status = (Path(f"/dev/fd/{reader}").read_text() for reader, _ in pipes)
    for reader, _ in pipes:
        os.close(reader)
    return printed, status


def test_a_command_hears_nothing_prints_both_streams_into_one_and_leaves_its_exit_status() -> None:
    main = """
def main(words):
    print(*words, os.environ["B"], os.read(0, 1), os.getsid(0) == os.getpid(), flush=True)
    print(os.get_inheritable(int(sys.argv[2])), file=sys.stderr, flush=True)
    os.kill(os.getpid(), 15)
    print("goes on")
    return 7
"""
    assert become(main) == ("repro a c b'' True\nFalse\ngoes on\n", "7")


def test_a_command_that_breaks_says_how_and_has_failed() -> None:
    printed, status = become("def main(words):\n    raise KeyError('odd')")
    assert printed.endswith("KeyError: 'odd'\n") and status == "1"


def test_every_command_that_still_runs_ends_with_the_line_and_those_that_have_ended_are_forgotten() -> None:
    main = """
def main(words):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print(os.getpid(), flush=True)
    time.sleep(60 if words == ["waits"] else 0)
    return 0
"""
    ours, theirs = socket.socketpair()
    running: list[int] = []
    with stand_in(main, "nursery.serve(socket.socket(fileno=int(sys.argv[1])))", [theirs.fileno()]) as process:
        theirs.close()
        try:
            for word in ("ends", "waits", "ends", "waits"):
                (printed, output), (ended, status) = os.pipe(), os.pipe()
                request = json.dumps({"words": [word], "environment": {}}).encode()
                socket.send_fds(ours, [request], [output, status])
                assert ours.recv(1) == b"."
                os.close(output)
                os.close(status)
                with os.fdopen(printed) as lines, os.fdopen(ended) as code:
                    pid = int(lines.readline())
                    if word == "waits":
                        running.append(pid)
                    else:
                        assert code.read() == "0"
            ours.close()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert all(map(toy_graph.gone, running)) and len(running) == 2


def test_a_tables_values_are_marked_against_the_same_row_of_head_and_its_heads_are_words() -> None:
    def metric(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.1, "high": value + 0.3, "better": "higher"}

    values = {"box": (0.5, 0.9), "mask": (0.9, 0.5)}
    lines = [
        grid.Line(row, run, {"colour_accuracy": metric(value)})
        for row, of_row in values.items()
        for run, value in zip(("HEAD", "one"), of_row, strict=True)
    ]
    table = grid.table(lines, ["colour_accuracy"])
    assert [column.header for column in table.columns] == ["row", "run", "colour"]
    assert list(table.columns[2].cells) == ["0.500±0.200", "0.900±0.200 better", "0.900±0.200", "0.500±0.200 worse"]


@given(st.lists(st.text("ab", min_size=1), max_size=3), st.lists(st.text("xy=", min_size=1), max_size=3))
def test_a_grid_queues_every_override_and_every_row(rows: list[str], overrides: list[str]) -> None:
    _, *words = command("grid-one", Variant(overrides=overrides, rows=rows))
    expected = ["-m", "dvc", "exp", "run", "--queue", "--name", "grid-one"]
    for override in overrides:
        expected += ["-S", override]
    assert words == [*expected, *(f"score@{row}" for row in rows)]


def test_the_words_of_a_run_are_its_experiment_and_its_overrides() -> None:
    assert parameters.words("default", None) == parameters.words("default", []) == []
    assert parameters.words("smoke", ["a=1", "b=2"]) == ["experiment=smoke", "a=1", "b=2"]


@pytest.mark.parametrize("by_form", [True, False])
def test_what_a_form_adds_is_held_against_the_values_of_its_experiment(
    by_form: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[tuple[object, ...]] = []
    monkeypatch.setattr(parameters.compose, "composed", " ".join)
    monkeypatch.setattr(parameters.compose, "check", lambda text: checks.append((text,)))
    monkeypatch.setattr(parameters.confine, "check", lambda *words: checks.append(words))
    monkeypatch.setattr(parameters.confine, "allowed", lambda: ["folder"])
    assert parameters.composed("smoke", ["a=1"], by_form=by_form) == "experiment=smoke a=1"
    confined = [("experiment=smoke a=1", "experiment=smoke", ["folder"])]
    assert checks == [*confined * by_form, ("experiment=smoke a=1",)]


def test_the_way_on_is_said_with_the_runs_own_words_when_it_breaks() -> None:
    messages: list[str] = []
    with parameters.way_on(["a=1 2"], messages.append):
        pass
    assert messages == []
    with pytest.raises(KeyboardInterrupt), parameters.way_on(["a=1 2"], messages.append):
        raise KeyboardInterrupt
    (sentence,) = messages
    assert "values of this run ('a=1 2'). To go on" in sentence
    assert "`python -m instdiff.config 'a=1 2' && dvc repro`" in sentence
    assert sentence.endswith("To have configs/ as they are: `python -m instdiff.config`")
    assert "values of this run (configs/ as they are). To go on" in parameters.going_on([])


def test_a_lock_says_its_present_holder_alone(tmp_path: Path) -> None:
    lock = tmp_path / "some" / "where" / "flow.lock"
    for name in ("a-run-with-a-very-long-name-indeed", "b"):
        with tree.held(name, pytest.fail, lock):
            assert lock.read_text().startswith(f"{name}, process ")
            assert lock.read_text().count("process") == 1


@pytest.mark.parametrize(("visible", "wanted"), [("", 1), ("", 0), ("3,5", 0)])
def test_where_no_gpu_is_wanted_or_there_is_none_none_is_waited_for(
    visible: str, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(gpus, "concurrency", lambda *_, **__: pytest.fail("nothing to wait for"))
    gpus.visible.cache_clear()
    try:
        with gpus.held(wanted) as environment:
            assert environment == {}
    finally:
        gpus.visible.cache_clear()
