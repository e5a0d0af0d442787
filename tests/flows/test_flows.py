"""The flow draws nothing itself: graph, staleness and commands are DVC's, on a small repository of its own."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy_graph
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.exceptions import ParameterTypeError

from eval.scoring.headline import HEADLINE
from flows import paper_flow, pipeline, serve
from flows.graph import dag, nursery, tree
from flows.graph.nursery import ClosedError, CommandFailedError, Nursery
from flows.results import artifacts, experiments, metrics
from flows.serving import gpus, pages, parameters, server, settings
from instdiff.progress import TAG

ROOT = Path(__file__).parents[2]
NOTHING: settings.Settings = settings.Settings(push=None, message=None, deployments={})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toy = toy_graph.write(tmp_path / "toy", NOTHING.model_dump())
    monkeypatch.chdir(toy)
    return toy


@pytest.fixture
def forks(repository: Path) -> Iterator[Nursery]:
    with Nursery({"DVC_NO_ANALYTICS": "1"}, jobs=2) as nursery:
        yield nursery


def repro(forks: Nursery, stage: str) -> list[str]:
    return list(forks.lines(["repro", "--single-item", stage], {}))


def test_the_graph_is_dvcs_and_what_is_stale_makes_its_descendants_stale(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", at=repository)
    assert not any(node.stale for node in dag.load().values())
    pipeline.compose.compile_params(["d.fails=true"])
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
    with Nursery({}, jobs=1) as nursery:
        assert os.getsid(nursery._process.pid) != os.getsid(0)  # Ctrl-C reaches it by the line alone
    with pytest.raises(ClosedError, match="the run is being stopped"):
        repro(nursery, "a")


def test_closing_the_nursery_ends_a_stage_and_leaves_no_lock(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", "b", at=repository)
    pipeline.compose.compile_params(["d.waits=true"])
    messages: list[str] = []

    def stage(nursery: Nursery) -> None:
        with pytest.raises(ClosedError):  # the stage is cancelled, not failed
            messages.extend(repro(nursery, "d"))

    part = repository / "d.part"
    with Nursery({"DVC_NO_ANALYTICS": "1"}, jobs=1) as nursery:
        thread = threading.Thread(target=stage, args=[nursery])
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


def test_a_child_that_does_not_listen_does_not_outlive_its_command() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    command = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {deaf!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        nursery.end([process.pid], patience=60)
        process.returncode = 0  # collected by `end`
        for _ in range(200):
            if toy_graph.gone(child):
                break
            time.sleep(0.05)
        assert toy_graph.gone(child)


@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_a_stage_that_fails_gives_its_gpus_back(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slots: list[int] = []

    @contextmanager
    def concurrency(_: str, occupy: int, **__: object) -> Iterator[None]:
        slots.append(occupy)
        try:
            yield
        finally:
            slots.append(-occupy)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(gpus, "concurrency", concurrency)
    for cached in (gpus.visible, gpus._free):
        cached.cache_clear()
    try:
        with pytest.raises(CommandFailedError), gpus.held(wanted) as environment:
            raise CommandFailedError(environment["CUDA_VISIBLE_DEVICES"])
        assert sorted(gpus._free().get_nowait() for _ in range(2)) == ["3", "5"]
        assert slots == [min(wanted, 2), -min(wanted, 2)]
    finally:
        for cached in (gpus.visible, gpus._free):
            cached.cache_clear()


@pytest.fixture
def quiet(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flow without a server: what it warned of."""
    warnings: list[str] = []
    logger = logging.getLogger("toy")
    monkeypatch.setattr(logger, "warning", warnings.append)
    for place, name, stub in (
        (pipeline, "under_name", lambda *_: None),
        (pipeline, "create_table_artifact", lambda *_, **__: None),
        (pipeline, "get_run_logger", lambda: logger),
        (pipeline.artifacts, "publish", lambda *_: []),
    ):
        monkeypatch.setattr(place, name, stub)
    return warnings


KEPT_FILES = {
    "all were skipped": (["Skipped", "Skipped"], False),
    "one ran": (["Skipped", "ran"], True),
    "one came from the cache": (["Cached", "Skipped"], True),
    "one failed": (["ran", "Failed"], False),
    "one was cancelled": (["ran", "Cancelled"], False),
}


@pytest.mark.parametrize(("how", "saved"), KEPT_FILES.values(), ids=KEPT_FILES.keys())
def test_a_run_that_did_something_and_failed_nowhere_is_kept_as_an_experiment(
    quiet: list[str], monkeypatch: pytest.MonkeyPatch, how: list[str], saved: bool
) -> None:
    names: list[str] = []
    rows = [{"stage": name, "how": outcome, "seconds": 0.0} for name, outcome in zip("ab", how, strict=True)]
    monkeypatch.setattr(pipeline, "run", lambda *_: rows)
    monkeypatch.setattr(pipeline.experiments, "save", lambda name, *_: names.append(name))
    pipeline.pipeline.fn(overrides=["a.value=3"], name="mine")
    assert names == (["mine"] if saved else [])
    failed = not set(how) <= pipeline.GOOD
    assert any("a.value=3 && dvc repro" in line for line in quiet) == failed


@pytest.mark.parametrize(
    ("message", "name", "deployment", "told"),
    [
        (None, "mine", None, []),
        ("a/team", "mine", "nightly", [("a/team", "mine")]),
        ("a/team", None, None, [("a/team", "brave-cat")]),
    ],
)
def test_who_the_settings_name_is_told_of_a_run_by_its_name_and_only_values_of_a_form_are_confined(
    quiet: list[str],
    monkeypatch: pytest.MonkeyPatch,
    message: str | None,
    name: str | None,
    deployment: str | None,
    told: list[tuple[str, str]],
) -> None:
    heard: dict[str, list[Any]] = {"told": [], "by_form": [], "last": []}
    composed, run = parameters.composed, SimpleNamespace(name="brave-cat")

    def checked(*words: Any, by_form: bool) -> str:
        heard["by_form"].append(by_form)
        return composed(*words, by_form=by_form)

    monkeypatch.setattr(settings, "read", lambda: NOTHING.model_copy(update={"message": message}))
    monkeypatch.setattr(parameters, "composed", checked)
    monkeypatch.setattr(pipeline, "runtime", SimpleNamespace(flow_run=run, deployment=SimpleNamespace(name=deployment)))
    monkeypatch.setattr(pipeline, "run", lambda *_: [])
    monkeypatch.setattr(artifacts, "publish", lambda _, last: heard["last"].append(last) or [])
    monkeypatch.setattr(experiments, "tell", lambda *words: heard["told"].append(words[:2]))
    pipeline.pipeline.fn(name=name)
    assert heard["told"] == told
    assert heard["by_form"] == [deployment is not None]
    assert heard["last"][0]["mask"]["mask_miou"]["value"] == 0.9  # of the last commit


@pytest.mark.parametrize("override", ["a.values=3", "a.value=1,2", "b.x=1"])
def test_a_run_with_wrong_values_leaves_those_of_the_tree(quiet: list[str], override: str) -> None:
    before = Path("params.yaml").read_bytes()
    state = pipeline.pipeline.fn(overrides=[override])
    assert state.is_failed() and str(state.message).startswith(f"{override}: ")
    assert Path("params.yaml").read_bytes() == before


def test_a_run_that_is_cancelled_says_which_values_the_tree_has_and_how_to_go_on() -> None:
    messages: list[str] = []
    given_words = ["experiment=smoke", "caption.template=a, b"]
    with pytest.raises(KeyboardInterrupt), parameters.way_on(given_words, messages.append):
        raise KeyboardInterrupt
    (sentence,) = messages
    assert "`python -m instdiff.config experiment=smoke 'caption.template=a, b' && dvc repro`" in sentence
    with parameters.way_on([], pytest.fail):
        pass


@pytest.mark.parametrize("parameter", [{"jobs": 0}, {"jobs": -1}, {"name": "--all"}, {"name": "a b"}, {"name": ""}])
def test_what_the_form_cannot_mean_is_no_parameter(parameter: dict[str, object]) -> None:
    with pytest.raises(ParameterTypeError):
        pipeline.pipeline.validate_parameters(parameter)


def test_a_part_of_the_papers_pictures_is_one_or_more() -> None:
    folders = {"coco": "c", "weights": "w"}
    paper_flow.table.validate_parameters({**folders, "subset": 1})
    for change in ({"subset": 0}, {"subset": -1}, {"jobs": 0}):
        with pytest.raises(ParameterTypeError):
            paper_flow.table.validate_parameters({**folders, **change})


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
        "import sys, time; from pathlib import Path; from flows.graph import tree\n"
        "with tree.held('killed', print, Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    with tree.held("next", pytest.fail, lock):
        pass


def metric(value: float, half: float, better: str = "higher") -> dict[str, Any]:
    return {"value": value, "n": 10, "low": value - half, "high": value + half, "better": better}


def test_a_metric_falls_when_it_leaves_the_last_runs_interval_on_its_worse_side() -> None:
    before = {
        "box": {"box_ap50": metric(0.5, 0.1), "pim": metric(0.5, 0.1), "fid": metric(2, 1, "lower")},
        "gone": {"pim": metric(1, 0)},
    }
    after = {
        "box": {"box_ap50": metric(0.39, 0.1), "pim": metric(0.41, 0.1), "fid": metric(3.1, 1, "lower")},
        "new": {"pim": metric(1, 0)},
    }
    fell = {change.metric: (change.fell, change.rose) for change in metrics.changes(before, after)}
    assert fell == {"box_ap50": (True, False), "pim": (False, False), "fid": (True, False)}
    assert {change.metric for change in metrics.changes(after, before) if change.rose} == {"box_ap50", "fid"}
    assert metrics.changes(after, after) == []


def test_the_table_of_metrics_has_a_place_for_each_value_of_each_row() -> None:
    table = metrics.table({"real": {"pim": metric(0.5, 0.1)}, "box": {"pim": metric(0.25, 0.01), "fid": metric(2, 1)}})
    assert table == [
        {"metric": "pim", "real": "0.500±0.100", "box": "0.250±0.010"},
        {"metric": "fid", "real": "", "box": "2.000±1.000"},
    ]


def test_the_last_run_is_what_the_tree_holds_or_else_the_last_commit(repository: Path) -> None:
    path = Path("metrics.json")
    path.write_text('{"mask": {}}')
    assert metrics.read(path) == {"mask": {}}
    path.unlink()
    assert metrics.read(path)["mask"]["mask_miou"]["value"] == 0.9
    assert metrics.read(Path("never.json")) == {}


def test_the_last_commit_is_read_in_a_folder_of_a_repository_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "a" / "tree"
    tree.mkdir(parents=True)
    for folder, value in ((tmp_path, 0.1), (tree, 0.7)):
        (folder / "metrics.json").write_text(json.dumps({"box": {"pim": metric(value, 0.1)}}))
    toy_graph.run("git", "init", "-q", at=tmp_path)
    toy_graph.run("git", "add", ".", at=tmp_path)
    toy_graph.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "Two", at=tmp_path)
    monkeypatch.chdir(tree)
    Path("metrics.json").unlink()
    assert metrics.read(Path("metrics.json"))["box"]["pim"]["value"] == 0.7


def unspoken(*_: object) -> None:
    raise AssertionError("a message was sent")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["pim", "fid", "colour_leak"]))
def test_a_metric_within_the_last_interval_neither_fell_nor_rose_and_sends_no_message(
    a: float, b: float, c: float, name: str
) -> None:
    low, value, high = sorted([a, b, c])
    end = {"n": 9, "low": low, "high": high, "better": HEADLINE[name].better}
    before, after = ({"value": at, **end} for at in (low, value))
    change = metrics.Change("box", name, before, after)
    assert not change.fell and not change.rose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.Block, "load", unspoken)
        experiments.tell("custom-webhook/team", "run", [change])


@given(st.floats(0, 1), st.floats(0.001, 1), st.sampled_from(["pim", "fid", "colour_leak"]))
def test_a_metric_beyond_the_last_interval_fell_on_its_worse_side_and_sends_a_message(
    low: float, beyond: float, name: str
) -> None:
    before = {"value": low, "n": 9, "low": low, "high": low + 0.1}
    better = HEADLINE[name].better
    worse = low + 0.1 + beyond if better == "lower" else low - beyond
    change = metrics.Change("box", name, before, before | {"value": worse, "better": better})
    assert change.fell and not change.rose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments.Block, "load", unspoken)
        with pytest.raises(AssertionError, match="a message was sent"):
            experiments.tell("custom-webhook/team", "run", [change])


def test_a_page_is_served_under_its_hash_and_nothing_else_is(repository: Path) -> None:
    toy_graph.dvc("repro", "-q", "f", at=repository)
    address = server.new().address
    with pages.serving(address, Path(".dvc/cache")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(pages.ADDRESS, address)
            with urllib.request.urlopen(artifacts.link(Path("report.html"))) as page:
                assert page.read() == b"<p>the report</p>"
        for path in ("/", "/../../params.yaml", "/" + "0" * 32):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path)


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


def nightly(text: str) -> str:
    """Settings with one deployment, changed by this YAML."""
    changed = toy_graph.DEPLOYMENT | yaml.safe_load(text)
    return yaml.safe_dump({"push": None, "message": None, "deployments": {"nightly": changed}})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{push: [", "not a readable YAML file"),
        ("a: b: c", "not a readable YAML file"),
        ("", "should be a valid dictionary"),
        ("{push: null, message: null}", "deployments: a value is missing"),
        ("{push: null, message: null, deployments: {}, pus: 1}", "pus: no such value: did you mean push?"),
        (nightly('schedule: "0 25 * * *"'), "deployments.nightly: cron '0 25 * * *' is none: five fields"),
        (nightly("schedule: each night"), "deployments.nightly: cron 'each night' is none"),
        (nightly("timezone: Europe/Berln"), "nightly: timezone 'Europe/Berln' is none: UTC, or a name such as"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_one_sentence_with_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "deployments.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        settings.read(path)
    assert sentence in str(refused.value) and str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"experiment": "smal"}, "nightly: experiment=smal: configs/experiment has small: did you mean small?"),
        ({"overrides": ["a.valu=3"]}, "nightly: a.valu=3: no such value: did you mean a.value?"),
        ({"overrides": ["+x=../../y"]}, "leads out of"),
        ({"targets": ["z"]}, "nightly: z: no such stage"),
    ],
)
def test_a_deployment_that_cannot_run_is_refused_before_it_is_served(
    repository: Path, changed: dict[str, object], sentence: str
) -> None:
    deployment = settings.Deployment.model_validate(toy_graph.DEPLOYMENT | changed)
    with pytest.raises(ValueError, match=r"^configs/deployments\.yaml: ") as refused:
        serve.check(NOTHING.model_copy(update={"deployments": {"nightly": deployment}}))
    assert sentence in str(refused.value)


def test_what_the_pools_are_offered_is_the_flow_and_its_parameters() -> None:
    page = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert [deployment["name"] for deployment in page["deployments"]] == [
        "local",
        "docker",
        "kubernetes",
        "slurm",
        "paper",
    ]
    for deployment in page["deployments"]:
        module, flow = (
            (paper_flow, paper_flow.table) if deployment["name"] == "paper" else (pipeline, pipeline.pipeline)
        )
        file, name = deployment["entrypoint"].split(":")
        assert (ROOT / file).samefile(module.__file__) and getattr(module, name) is flow
        flow.validate_parameters(deployment["parameters"])
