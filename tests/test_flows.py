"""The flow draws nothing itself: graph, staleness and commands are DVC's, on a small repository of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.testing.utilities import prefect_test_harness

from flows import child, dag, pipeline
from instdiff.progress import TAG

#          a
#        /   \
#       b     c        b and c each wait for the other to have begun
#       |     |
#  (fails) d  f
#       |
#       e
STAGE = """
import pathlib, sys, time, yaml
name, *sources = sys.argv[1:]
params = yaml.safe_load(open("params.yaml"))
if name in ("b", "c"):
    pathlib.Path("begun-" + name).touch()
    other = pathlib.Path("begun-" + {"b": "c", "c": "b"}[name])
    for _ in range(600):
        if other.exists(): break
        time.sleep(0.1)
    else: sys.exit("the other branch did not begin")
if name == "d" and params["d"]["fails"]: sys.exit("d was told to fail")
if name == "a": print('@@progress {"done": 3, "total": 3, "unit": "pictures"}', flush=True)
pathlib.Path(name).write_text(name + str(params.get(name)) + "".join(pathlib.Path(s).read_text() for s in sources))
"""
EDGES = {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": ["d"], "f": ["c"]}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").write_text("a: {value: 1}\nd: {fails: true}\n")
    stages: dict[str, Any] = {
        name: {"cmd": f"python stage.py {' '.join([name, *sources])}", "deps": ["stage.py", *sources], "outs": [name]}
        for name, sources in EDGES.items()
    }
    stages["a"]["params"] = ["a"]
    stages["d"] |= {"params": ["d"], "meta": {"gpus": 1, "retries": 1}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    return tmp_path


@pytest.fixture
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


def outcome() -> dict[str, str]:
    artifact = Artifact.get("stages")
    assert artifact is not None
    return {row["stage"]: row["how"] for row in json.loads(str(artifact.data))}


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_branches_run_side_by_side_and_a_failure_stops_only_its_descendants(repository: Path) -> None:
    for value in (1, 2):  # DVC now knows what `a` makes of 1, while dvc.lock says 2
        pipeline.config.compile_params([f"a.value={value}"])
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q", "a"], check=True)

    failed = pipeline.pipeline(return_state=True)
    assert failed.is_failed()
    assert failed.message == "2 of 6 stages did not complete: d, e"
    assert outcome() == {"a": "Cached", "b": "ran", "c": "ran", "d": "Failed", "e": "NotReady", "f": "ran"}
    assert not (repository / "e").exists()

    mended = pipeline.pipeline(["d.fails=false"], return_state=True)
    assert mended.is_completed()
    assert outcome() == {"a": "Skipped", "b": "Skipped", "c": "Skipped", "d": "ran", "e": "ran", "f": "Skipped"}

    pipeline.pipeline(["d.fails=false", "a.value=3"], targets=["a"])
    assert outcome() == {"a": "ran"}
    progress = Artifact.get("progress-a")
    assert progress is not None
    assert progress.data == 100.0


def test_the_graph_is_dvcs_and_what_is_stale_makes_its_descendants_stale(repository: Path) -> None:
    pipeline.config.compile_params(["d.fails=false"])
    for name in ("b", "c"):
        (repository / f"begun-{name}").touch()
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert not any(node.stale for node in dag.load().values())
    pipeline.config.compile_params([])  # d fails again: d and e are no longer up to date
    graph = dag.load()
    assert {name: list(node.upstream) for name, node in graph.items()} == EDGES
    assert {name for name, node in graph.items() if node.stale} == {"d", "e"}
    assert graph["d"].meta == {"gpus": 1, "retries": 1}
    assert set(dag.upto(graph, ["d"])) == {"a", "b", "d"}


def test_a_target_names_a_stage_or_all_items_of_a_matrix() -> None:
    names = {"ingest": (), "ground@train": ("ingest",), "ground@val": ("ingest",), "train": ("ground@train",)}
    graph = {name: dag.Node(name, upstream, stale=False, meta={}) for name, upstream in names.items()}
    assert list(dag.upto(graph, ["ground"])) == ["ingest", "ground@train", "ground@val"]
    assert list(dag.upto(graph, ["train"])) == ["ingest", "ground@train", "train"]
    with pytest.raises(ValueError, match="no stage 'grond'"):
        dag.upto(graph, ["grond"])


def test_a_stage_that_is_up_to_date_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "lines", lambda *_: pytest.fail("a process was started"))
    state = pipeline.reproduce.fn("a", stale=False, jobs=1, gpus=0)
    assert not isinstance(state, dict)
    assert state.name == "Skipped"


def test_the_words_of_the_pinned_dvc_are_understood() -> None:
    assert pipeline.spoken("Stage 'a' didn't change, skipping") == "Skipped"
    assert pipeline.spoken("Stage 'a' is cached - skipping run, checking out outputs") == "Cached"
    assert pipeline.spoken("Running stage 'a':") is None
    assert pipeline.TAG == TAG == "@@progress "


def test_a_failing_child_is_an_error_that_names_its_command() -> None:
    printed = child.lines([sys.executable, "-c", "print('one'); print('two'); raise SystemExit(3)"], {})
    assert [next(printed), next(printed)] == ["one", "two"]
    with pytest.raises(child.ChildFailedError, match=r"SystemExit.* ended with exit status 3"):
        next(printed)


def test_stopping_a_child_ends_its_children_too() -> None:
    grandchild = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    )
    parent = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {grandchild!r}]); print(p.pid); p.wait()"
    )
    printed = child.lines([sys.executable, "-c", parent], {})
    process = next(int(line) for line in printed if line != "1")
    assert Path(f"/proc/{process}").exists()
    child.stop_all()
    with pytest.raises(child.ChildFailedError):
        list(printed)
    assert gone(process)


def gone(process: int) -> bool:
    """Ended, or about to be collected by whoever adopted it; the kernel may take a moment."""
    for _ in range(100):
        try:
            if "State:\tZ" in Path(f"/proc/{process}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False
