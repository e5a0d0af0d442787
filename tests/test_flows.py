"""The flow draws nothing itself: graph, staleness and commands are DVC's, on a small repository of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_graph
import yaml

from flows import artifacts, dag, metrics, nursery, pages, pipeline, settings, tree
from flows.nursery import CommandFailedError, Nursery
from instdiff.progress import TAG

ROOT = Path(__file__).parents[1]
NOTHING: settings.Settings = settings.Settings(push=None, message=None, deployments={})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toy = toy_graph.write(tmp_path / "toy", NOTHING.model_dump())
    monkeypatch.chdir(toy)
    return toy


@pytest.fixture
def forks(repository: Path) -> Iterator[Nursery]:
    with Nursery({"DVC_NO_ANALYTICS": "1"}, jobs=2) as one:
        yield one


def repro(forks: Nursery, stage: str) -> list[str]:
    return list(forks.lines(["repro", "--single-item", stage], {}))


def test_the_graph_is_dvcs_and_what_is_stale_makes_its_descendants_stale(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", at=repository)
    assert not any(node.stale for node in dag.load().values())
    pipeline.config.compile_params(["d.fails=true"])
    graph = dag.load()
    assert {name: list(node.upstream) for name, node in graph.items()} == toy_graph.EDGES
    assert {name for name, node in graph.items() if node.stale} == {"d", "e"}
    assert graph["d"].meta == {"retries": 1}
    assert set(dag.upto(graph, ["d"])) == {"a", "b", "d"}
    (repository / "aside").mkdir()
    (repository / "aside" / "dvc.yaml").write_text("stages: {g: {cmd: echo g > g, outs: [g]}}")
    assert dag.load() == graph  # what another page draws is run by name


def test_a_target_names_a_stage_or_all_items_of_a_matrix() -> None:
    names = {"ingest": (), "ground@train": ("ingest",), "ground@val": ("ingest",), "train": ("ground@train",)}
    graph = {name: dag.Node(name, upstream, stale=False, meta={}) for name, upstream in names.items()}
    assert list(dag.upto(graph, ["ground"])) == ["ingest", "ground@train", "ground@val"]
    assert list(dag.upto(graph, ["train"])) == ["ingest", "ground@train", "train"]
    with pytest.raises(ValueError, match="no stage 'grond'"):
        dag.upto(graph, ["grond"])


def test_the_words_of_the_pinned_dvc_are_understood(forks: Nursery, repository: Path) -> None:
    assert {pipeline.spoken(line) for line in repro(forks, "a")} == {None}
    assert {pipeline.spoken(line) for line in repro(forks, "a")} - {None} == {"Skipped"}
    (repository / "dvc.lock").unlink()
    assert {pipeline.spoken(line) for line in repro(forks, "a")} - {None} == {"Cached"}
    assert pipeline.TAG == TAG == "@@progress "


def test_a_failing_stage_is_an_error_that_names_its_command(forks: Nursery) -> None:
    with pytest.raises(CommandFailedError, match="dvc repro --single-item z ended with exit status 255"):
        repro(forks, "z")


def test_no_command_starts_once_the_nursery_has_closed(repository: Path) -> None:
    with Nursery({}, jobs=1) as one:
        pass
    with pytest.raises(CommandFailedError, match="the run is being stopped"):
        repro(one, "a")


def test_closing_the_nursery_ends_a_stage_and_leaves_no_lock(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", "b", at=repository)
    pipeline.config.compile_params(["d.waits=true"])
    said: list[str] = []

    def stage(one: Nursery) -> None:
        with pytest.raises(CommandFailedError):
            said.extend(repro(one, "d"))

    part = repository / "d.part"
    with Nursery({"DVC_NO_ANALYTICS": "1"}, jobs=1) as one:
        thread = threading.Thread(target=stage, args=[one])
        thread.start()
        while not (part.is_file() and part.read_text()):
            time.sleep(0.05)
    thread.join()
    assert not thread.is_alive()
    assert toy_graph.gone(int(part.read_text()))
    (repository / "go").touch()
    assert "found a part" in toy_graph.dvc("repro", "d", at=repository)


def test_what_does_not_listen_is_ended_too() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        nursery.end([process.pid], patience=0.2)
        assert toy_graph.gone(process.pid)


def test_a_second_flow_waits_and_says_for_whom(repository: Path) -> None:
    lock = repository / tree.LOCK
    order: list[str] = []

    def second() -> None:
        with tree.held("second", order.append, lock):
            order.append("second")

    with tree.held("first", order.append, lock):
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first ends")
    thread.join()
    assert order[1:] == ["first ends", "second"]
    assert f"Another run works in {repository} (first, process {os.getpid()}, since" in order[0]


def test_a_killed_flow_leaves_the_tree_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = (
        "import sys, time; from pathlib import Path; from flows import tree\n"
        "with tree.held('killed', print, Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    with tree.held("next", pytest.fail, lock):
        pass


def one(value: float, half: float, better: str = "higher") -> dict[str, Any]:
    return {"value": value, "n": 10, "low": value - half, "high": value + half, "better": better}


def test_a_metric_falls_when_it_leaves_the_last_runs_interval_on_its_worse_side() -> None:
    before = {
        "box": {"box_ap50": one(0.5, 0.1), "pim": one(0.5, 0.1), "fid": one(2, 1, "lower")},
        "gone": {"pim": one(1, 0)},
    }
    after = {
        "box": {"box_ap50": one(0.39, 0.1), "pim": one(0.41, 0.1), "fid": one(3.1, 1, "lower")},
        "new": {"pim": one(1, 0)},
    }
    fell = {change.metric: (change.fell, change.rose) for change in metrics.changes(before, after)}
    assert fell == {"box_ap50": (True, False), "pim": (False, False), "fid": (True, False)}
    assert {change.metric for change in metrics.changes(after, before) if change.rose} == {"box_ap50", "fid"}
    assert metrics.changes(after, after) == []


def test_the_last_run_is_what_the_tree_holds_or_else_the_last_commit(repository: Path) -> None:
    path = Path("metrics.json")
    path.write_text('{"mask": {}}')
    assert metrics.read(path) == {"mask": {}}
    path.unlink()
    assert metrics.read(path)["mask"]["mask_miou"]["value"] == 0.9
    assert metrics.read(Path("never.json")) == {}


def test_a_page_is_served_under_its_hash_and_nothing_else_is(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", "f", at=repository)
    server = pages.start("127.0.0.1", 0, Path(".dvc/cache"))
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(pages.ADDRESS, address)
            with urllib.request.urlopen(artifacts.link(Path("report.html"))) as page:
                assert page.read() == b"<p>the report</p>"
        for path in ("/", "/../../params.yaml", "/" + "0" * 32):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path)
    finally:
        server.shutdown()


def test_the_deployments_name_stages_and_experiments_that_exist() -> None:
    chosen = settings.read(ROOT / "configs" / "deployments.yaml")
    assert set(chosen.deployments) >= {"rebuild", "dataset", "evaluate"}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    experiments = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")} | {"default"}
    for deployment in chosen.deployments.values():
        assert set(deployment.targets) <= set(stages)
        assert deployment.experiment in experiments


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "deployments.yaml"
    wrong.write_text("{push: null, message: null, deployments: {nightly: {targets: all}}}")
    with pytest.raises(ValueError, match=r"deployments\.yaml[\s\S]*deployments\.nightly\.targets"):
        settings.read(wrong)


def test_what_the_pools_are_offered_is_the_flow_and_its_parameters() -> None:
    page = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert [one["name"] for one in page["deployments"]] == ["local", "docker", "kubernetes", "slurm"]
    for one in page["deployments"]:
        file, name = one["entrypoint"].split(":")
        assert (ROOT / file).samefile(pipeline.__file__) and getattr(pipeline, name) is pipeline.pipeline
        pipeline.pipeline.validate_parameters(one["parameters"])
