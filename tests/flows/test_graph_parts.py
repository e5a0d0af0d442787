"""Targets and what they rest on, outputs that no cache has, and the lock's own words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import back
from flows.graph import dag, tree
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


def test_the_way_on_is_said_with_the_runs_own_words_when_it_breaks() -> None:
    messages: list[str] = []
    with parameters.way_on(["a=1 2"], messages.append):
        pass
    assert messages == []
    with pytest.raises(KeyboardInterrupt), parameters.way_on(["a=1 2"], messages.append):
        raise KeyboardInterrupt
    (sentence,) = messages
    assert "`python -m instdiff.config 'a=1 2' && dvc repro`" in sentence


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
