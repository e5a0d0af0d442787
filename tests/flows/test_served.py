"""A real server and the deployments it starts, on a toy graph: asked for, planned, killed, cancelled."""

import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import browser
import pytest
import toy_graph
from playwright.sync_api import Page as Tab
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from prefect.artifacts import Artifact
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactCollectionFilter,
    ArtifactCollectionFilterKey,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows import pipeline, serve
from flows.graph import tree
from flows.graph.nursery import search_path
from flows.serving import gpus, server

pytestmark = pytest.mark.slow
Value = TypeVar("Value")
METRICS = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=["metrics"]))
PATIENCE = 300  # seconds until a run that does not end is an error


def until(condition: Callable[[], Value], what: str) -> Value:
    """The first answer that is not empty."""
    for _ in range(PATIENCE * 5):
        if answer := condition():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web hook and what it was sent."""
    received: list[dict[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{hook.server_port}", received
    hook.shutdown()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, with a Git and a DVC remote of its team."""
    folder = tmp_path_factory.mktemp("served")
    monthly = toy_graph.DEPLOYMENT | {"targets": ["a"], "schedule": "0 3 1 * *"}
    toy_graph.write(
        folder / "toy",
        {
            "push": "team",
            "message": "custom-webhook/team",
            "deployments": {
                "rebuild": toy_graph.DEPLOYMENT,
                "monthly": monthly,
                "often": toy_graph.DEPLOYMENT | {"targets": ["a"]},
            },
        },
    )
    toy_graph.run("git", "init", "-q", "--bare", "-b", "main", str(folder / "team.git"), at=folder)
    toy_graph.run("git", "remote", "add", "team", str(folder / "team.git"), at=folder / "toy")
    toy_graph.dvc("remote", "add", "-q", "-d", "store", str(folder / "store"), at=folder / "toy")
    toy_graph.run("git", "commit", "-qam", "Remotes", at=folder / "toy")
    toy_graph.run("git", "push", "-q", "team", "main", at=folder / "toy")
    return folder / "toy"


@pytest.fixture(scope="module")
def port() -> int:
    """Two free ports side by side, as free as can be known."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ui:
    """`make ui` in the toy; what it started outlives a kill of it."""

    def __init__(self, repository: Path, port: int, log: Path) -> None:
        self.repository, self.port, self.log = repository, port, log
        self.server = 0  # the process of the Prefect server

    def start(self) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "5", "PYTHONUNBUFFERED": "1"}
        environment["PATH"] = search_path()
        command = [sys.executable, "-m", "flows.serve", "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.repository,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._serves, "the deployments are served")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        started = [pid for pid in children if b"flows.serving.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        self.server = int(started[0]) if started else self.server  # one that answers already is not started again

    def _serves(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "Your deployments are being served" in self.log.read_text()

    def access(self) -> server.Access:
        address, token = (self.repository / serve.ACCESS).read_text().split()
        return server.Access(address, token)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        with suppress(ProcessLookupError):
            os.kill(self.server, signal.SIGKILL)


@pytest.fixture(scope="module")
def ui(repository: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    ui = Ui(repository, port, tmp_path_factory.mktemp("log") / "serve.log")
    try:
        ui.start()
        yield ui
    finally:
        ui.stop()


@contextmanager
def opened(ui: Ui) -> Iterator[SyncPrefectClient]:
    """A client of its server, which has a token of its own each time it starts."""
    access = ui.access()
    named = {PREFECT_API_URL: f"{access.address}/api", PREFECT_API_AUTH_STRING: access.token}
    with temporary_settings(named), get_client(sync_client=True) as client:
        yield client
        APILogWorker.drain_all()  # nothing is left to send to a server that has ended


@pytest.fixture
def client(ui: Ui) -> Iterator[SyncPrefectClient]:
    with opened(ui) as server_client:
        yield server_client


@pytest.fixture
def tab(ui: Ui) -> Iterator[Tab]:
    """A browser that has opened what `make ui` printed."""
    with browser.opened() as page:
        page.set_default_timeout(PATIENCE * 1000)  # milliseconds
        page.goto(next(line for line in ui.log.read_text().splitlines() if line.startswith("Open ")).split()[1])
        page.wait_for_url("**/dashboard")
        yield page


def ask(client: SyncPrefectClient, **parameters: object) -> FlowRun:
    """Ask for a run, as the form of the UI does."""
    deployment = client.read_deployment_by_name("instdiff/rebuild")
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def ended(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    def final() -> FlowRun | None:
        now = client.read_flow_run(run.id)
        return now if now.state and now.state.is_final() else None

    return until(final, f"the run {run.name} ends")


def tasks(client: SyncPrefectClient, run: FlowRun) -> dict[str, str]:
    """Stage -> name of the state its task ended in."""
    runs = client.read_task_runs(task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id])))
    return {run.name: run.state_name or "" for run in runs}


def latest(key: str) -> Any:
    artifact = Artifact.get(key)
    assert artifact is not None, key
    return json.loads(str(artifact.data)) if artifact.type == "table" else artifact.data


def unbegun(repository: Path) -> None:
    """Forget what stage d has left, so that it begins anew and waits."""
    for name in ("go", "d.part"):
        (repository / name).unlink(missing_ok=True)


def waiting(repository: Path) -> int:
    """The process of stage d, once it has begun."""
    part = repository / "d.part"
    return int(until(lambda: part.is_file() and part.read_text(), "d begins"))


def holder(repository: Path) -> int:
    """The process of the flow that works in the tree."""
    return int((repository / tree.LOCK).read_text().split("process ")[1].split(",")[0])


def test_a_run_leaves_its_tasks_artifacts_experiment_and_a_message(
    client: SyncPrefectClient, repository: Path, webhook: tuple[str, list[dict[str, str]]]
) -> None:
    address, received = webhook
    block = CustomWebhookNotificationBlock(
        name="team", url=address, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    block.save("team")
    run = ended(client, ask(client, experiment="small", name="first"))
    assert run.state_name == "Completed"
    assert tasks(client, run) == dict.fromkeys("abcdef", "Completed")
    assert (repository / "a").read_text() == "a{'value': 7}"

    assert {row["stage"]: row["how"] for row in latest("stages")} == dict.fromkeys("abcdef", "ran")
    assert latest("progress-a") == 100.0
    assert latest("metrics") == [{"metric": "mask_miou", "mask": "0.500±0.100"}]
    assert "| mask | mask_miou | 0.900 | 0.800 to 1.000 | 0.500 | **fell** |" in latest("metrics-changes")
    assert latest("samples").startswith("data:image/webp;base64,")
    assert latest("ledger")[0] == {"stage": "annotate", "reason": "too_small", "count": 2, "example": "x, 3 pixels"}
    with urllib.request.urlopen(latest("report").split("(")[1].rstrip(")")) as page:
        assert page.read() == (repository / "report.html").read_bytes()
    assert received == [
        {
            "subject": "first: 1 metrics fell by more than their interval",
            "body": "mask mask_miou: 0.900 (0.800 to 1.000) -> 0.500",
        }
    ]
    limit = client.read_global_concurrency_limit_by_name(gpus.LIMIT)
    assert (limit.limit, limit.active_slots) == (1, 0)
    assert (repository / "gpu").read_text() == "5"


def test_a_second_clone_takes_the_experiment_and_computes_nothing(
    client: SyncPrefectClient, repository: Path, tmp_path: Path
) -> None:
    toy_graph.run("git", "clone", "-q", str(repository.parent / "team.git"), "clone", at=tmp_path)
    clone = tmp_path / "clone"
    toy_graph.dvc("exp", "pull", "-q", "origin", "first", at=clone)
    toy_graph.dvc("exp", "apply", "-q", "first", at=clone)
    output = toy_graph.dvc("repro", at=clone)
    assert "Running stage" not in output
    assert json.loads((clone / "metrics.json").read_text())["mask"]["mask_miou"]["value"] == 0.5


def test_what_the_form_cannot_mean_is_refused_before_it_runs(client: SyncPrefectClient) -> None:
    with pytest.raises(PrefectHTTPStatusError, match=r"'grand' is not one of \['default', 'small'\]"):
        ask(client, experiment="grand")
    failed = ended(client, ask(client, name="first"))
    assert failed.state is not None
    assert "there is an experiment 'first' already" in str(failed.state.message)


def test_a_kill_mid_stage_costs_that_stage_alone(client: SyncPrefectClient, repository: Path) -> None:
    unbegun(repository)
    overrides = ["experiment=small", "d.waits=true"]
    run = ask(client, overrides=overrides)
    stage = waiting(repository)
    os.kill(holder(repository), signal.SIGKILL)
    assert ended(client, run).state_name == "Crashed"
    until(lambda: toy_graph.gone(stage), "the stage ends with its flow")

    (repository / "go").touch()
    again = ended(client, ask(client, overrides=overrides))
    assert again.state_name == "Completed"
    assert tasks(client, again) == dict.fromkeys("abcf", "Skipped") | dict.fromkeys("de", "Completed")
    assert (repository / "d.part").read_text() != str(stage), "d went on from the part it had"


def test_a_cancelled_run_ends_its_stage_and_leaves_a_tree_that_repro_goes_on_from(
    client: SyncPrefectClient, repository: Path
) -> None:
    unbegun(repository)
    run = ask(client, overrides=["a.value=8", "d.waits=true"])
    stage = waiting(repository)
    client.set_flow_run_state(run.id, Cancelling(), force=True)
    assert ended(client, run).state_name == "Cancelled"
    assert tasks(client, run)["d"] == "Cancelled"
    until(lambda: toy_graph.gone(stage), "the stage ends with its flow")

    (repository / "go").touch()
    with tree.held("a person", print, repository / tree.LOCK):  # once the stage's DVC has ended too
        output = toy_graph.dvc("repro", at=repository)
    assert "Stage 'b' didn't change" in output
    assert "found a part" in output
    assert (repository / "e").is_file()


def test_a_run_that_waits_for_another_is_seen_to_wait_and_for_whom(client: SyncPrefectClient, repository: Path) -> None:
    def state() -> State | None:
        return client.read_flow_run(run.id).state

    with tree.held("a person", print, repository / tree.LOCK):
        run = ask(client, targets=["a"])
        until(lambda: (now := state()) and now.name == "Waiting", "the run waits")
        assert "Another run works in" in str(state()) and "(a person, process" in str(getattr(state(), "message", ""))
    assert ended(client, run).state_name == "Completed"


def submitted(tab: Tab) -> UUID:
    """The run that the open form asks for; a busy server may refuse a click, and a person clicks again."""
    for _ in range(5):
        with suppress(PlaywrightTimeout):
            with tab.expect_response("**/create_flow_run", timeout=PATIENCE * 200) as answer:  # milliseconds
                tab.get_by_role("button", name="Submit").click()
            if answer.value.ok:
                return UUID(answer.value.json()["id"])
    raise AssertionError(f"the form asks for nothing: {tab.locator('body').inner_text()}")


def test_the_browser_shows_form_graph_and_artifacts_and_asks_nobody_else(
    client: SyncPrefectClient, port: int, tab: Tab
) -> None:
    hosts = browser.asked_of(tab)
    form = client.read_deployment_by_name("instdiff/rebuild")
    tab.goto(f"http://127.0.0.1:{port}/deployments/deployment/{form.id}/run")
    for words in ("a file of configs/experiment, or default", "how many stages may run side by side."):
        tab.get_by_text(words).first.wait_for()
    run = client.read_flow_run(submitted(tab))
    assert ended(client, run).state_name == "Completed"

    tab.goto(f"http://127.0.0.1:{port}/runs/flow-run/{run.id}")
    tab.get_by_text("6 Task runs").first.wait_for()
    tab.locator("canvas").first.wait_for()
    tab.goto(f"http://127.0.0.1:{port}/artifacts")
    for key in ("stages", "metrics", "metrics-changes", "samples", "ledger", "report"):
        tab.get_by_text(key, exact=True).first.wait_for()
    # By the client: where a browser's event loop runs, `Artifact.get` would answer with a coroutine.
    (table,) = client.read_latest_artifacts(artifact_filter=METRICS)
    tab.goto(f"http://127.0.0.1:{port}/artifacts/artifact/{table.latest_id}")
    tab.get_by_text("0.500±0.100").first.wait_for()
    tab.goto(f"http://127.0.0.1:{port}/v2/dashboard")  # Prefect's second interface, which would ask an analytics host
    tab.get_by_text("Dashboard").first.wait_for()
    tab.goto(latest_link(client))
    tab.get_by_text("the report").wait_for()
    assert hosts == {"127.0.0.1"}


def latest_link(client: SyncPrefectClient) -> str:
    """The address of the report."""
    key = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=["report"]))
    (link,) = client.read_latest_artifacts(artifact_filter=key)
    return str(link.data).split("(")[1].rstrip(")")


FORGED = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": "localhost"}]


@pytest.mark.parametrize("sent", FORGED)
def test_a_foreign_page_is_answered_by_neither_server_even_with_the_token(ui: Ui, sent: dict[str, str]) -> None:
    key = b64encode(ui.access().token.encode()).decode()
    headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
    for port, path in ((ui.port, "/api/deployments/filter"), (ui.port, "/"), (ui.port + 1, "/" + "0" * 32)):
        for method in ("POST", "OPTIONS", "GET") if port == ui.port else ("GET",):
            answer = asked_for(port, method, path, headers | sent)
            assert answer.status == 403
            assert answer.headers["access-control-allow-origin"] is None


def test_who_has_no_token_starts_nothing(client: SyncPrefectClient, ui: Ui) -> None:
    form = client.read_deployment_by_name("instdiff/rebuild")
    path = f"/api/deployments/{form.id}/create_flow_run"
    for authorization in ({}, {"Authorization": "Basic " + b64encode(b"instdiff:guessed").decode()}):
        answer = asked_for(ui.port, "POST", path, {"Content-Type": "application/json"} | authorization)
        assert answer.status == 401


def asked_for(port: int, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, "{}" if method == "POST" else None, headers)
    return connection.getresponse()


def test_the_form_leads_out_of_the_tree_only_where_the_shell_allowed_it(
    client: SyncPrefectClient, repository: Path
) -> None:
    before = (repository / "params.yaml").read_text()
    failed = ended(client, ask(client, overrides=["+kept.metrics=../../somewhere"]))
    assert failed.state_name == "Failed"
    assert "leads out of" in str(failed.state.message if failed.state else "")
    assert (repository / "params.yaml").read_text() == before


def test_a_second_ui_says_where_the_first_is(ui: Ui, repository: Path) -> None:
    command = [sys.executable, "-m", "flows.serve", "--port", str(ui.port + 2)]
    second = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert (second.returncode, second.stderr) == (1, f"make ui: already runs at {ui.access().entrance}\n")


def scheduled(client: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    """Runs of a deployment that a schedule made, the next one first."""
    deployment_id = client.read_deployment_by_name(f"instdiff/{deployment}").id
    scheduled = [run for run in client.read_flow_runs() if run.auto_scheduled and run.deployment_id == deployment_id]
    return sorted(scheduled, key=lambda run: run.expected_start_time or datetime.max.replace(tzinfo=UTC))


def test_a_schedule_of_the_settings_has_its_next_run_waiting(client: SyncPrefectClient) -> None:
    run = until(lambda: scheduled(client, "monthly"), "the scheduler plans a run")[0]
    assert run.parameters["targets"] == ["a"]
    assert run.expected_start_time is not None
    assert (run.expected_start_time.day, run.expected_start_time.hour) == (1, 3)


def test_what_a_schedule_starts_is_kept_as_an_experiment_of_its_name_and_time(
    client: SyncPrefectClient, repository: Path
) -> None:
    toy_graph.run(sys.executable, "-m", "instdiff.config", "a.value=9", at=repository)
    toy_graph.dvc("repro", "-q", "a", at=repository)  # so that the run has something to do
    often = client.read_deployment_by_name("instdiff/often").id
    every = IntervalSchedule(interval=timedelta(minutes=1), anchor_date=datetime.now(UTC) + timedelta(seconds=4))
    (schedule,) = client.create_deployment_schedules(often, [(every, True)])
    run = ended(client, until(lambda: scheduled(client, "often"), "the run is planned")[0])
    client.delete_deployment_schedule(often, schedule.id)
    assert run.state_name == "Completed"
    assert set(tasks(client, run)) == {"a"}
    assert (repository / "a").read_text() == "a{'value': 1}"
    references = toy_graph.run("git", "for-each-ref", "--format=%(refname)", "refs/exps", at=repository)
    assert f"/often-{run.expected_start_time:%Y%m%d-%H%M%S}\n" in references


def test_branches_run_side_by_side_and_a_failure_stops_only_its_descendants(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(pipeline, "RETRY_DELAY", 0.1)
    toy = toy_graph.write(tmp_path / "toy", {"push": None, "message": None, "deployments": {}})
    monkeypatch.chdir(toy)

    def outcome() -> dict[str, str]:
        return {row["stage"]: row["how"] for row in latest("stages")}

    for value in (1, 2):  # DVC now knows what `a` makes of 1, while dvc.lock says 2
        pipeline.compose.compile_params([f"a.value={value}"])
        toy_graph.dvc("repro", "-q", "a", at=toy)
    failed = pipeline.pipeline(overrides=["d.fails=true", "meet=true"], return_state=True)
    assert failed.is_failed()
    assert failed.message == "2 of 6 stages did not complete: d, e"
    assert outcome() == {"a": "Cached", "b": "ran", "c": "ran", "d": "Failed", "e": "NotReady", "f": "ran"}
    assert not (toy / "e").exists()

    mended = pipeline.pipeline(overrides=["meet=true"], return_state=True)
    assert mended.is_completed()
    assert outcome() == {"a": "Skipped", "b": "Skipped", "c": "Skipped", "d": "ran", "e": "ran", "f": "Skipped"}


def test_an_interrupt_while_the_server_starts_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    popen = subprocess.Popen

    def recorded(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*words, **options))
        return started[-1]

    def interrupted(_: server.Access) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", recorded)
    monkeypatch.setattr(server, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt), server.running(server.new()):
        pass
    assert [process.poll() is not None for process in started] == [True]


def test_what_a_terminal_ends_all_at_once_does_not_hold_the_server_that_is_ended_last(ui: Ui) -> None:
    assert os.getpgid(ui.server) != ui.process.pid  # Ctrl-C reaches the group of what it started
    os.killpg(ui.process.pid, signal.SIGTERM)
    ui.process.wait(60)
    assert toy_graph.gone(ui.server)
    ui.start()


def test_a_kill_of_what_serves_mid_stage_leaves_a_tree_that_the_next_run_goes_on_from(
    client: SyncPrefectClient, ui: Ui, repository: Path
) -> None:
    unbegun(repository)
    overrides = ["d.waits=true", "a.value=10"]
    ask(client, overrides=overrides)
    waiting(repository)
    ui.process.kill()
    ui.process.wait()
    ui.start()
    (repository / "go").touch()
    again = ended(client, ask(client, overrides=overrides))
    assert again.state_name == "Completed"
    assert {stage: tasks(client, again)[stage] for stage in "ab"} == {"a": "Skipped", "b": "Skipped"}
    assert (repository / "e").read_text().endswith("a{'value': 10}")


def test_a_kill_of_the_server_costs_no_stage_its_work(client: SyncPrefectClient, ui: Ui, repository: Path) -> None:
    unbegun(repository)
    run = ask(client, overrides=["d.waits=true", "a.value=11"])
    command = os.getsid(waiting(repository))  # DVC's, which writes down what the stage made
    os.kill(ui.server, signal.SIGKILL)
    (repository / "go").touch()
    until(lambda: toy_graph.gone(command), "the stage goes on to its end")
    os.kill(holder(repository), signal.SIGKILL)  # it would try for a minute to tell the server
    ui.process.kill()
    with tree.held("a person", print, repository / tree.LOCK):  # once the stage's DVC has ended too
        output = toy_graph.dvc("repro", at=repository)
    assert "Stage 'd' didn't change" in output
    assert (repository / "e").read_text().endswith("a{'value': 11}")
    ui.start()  # as after a loss of power: nobody was there to say that the run had ended
    with opened(ui) as anew:
        assert ended(anew, run).state_name == "Crashed"
