"""The flow, and the server it is shown by, with stand-ins for Prefect: what each is asked for, and how a run ends."""

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prefect
import prefect.automations
import pytest
from prefect.blocks.abstract import NotificationBlock
from prefect.states import Cancelled, Completed, Failed, Running

from flows import paper, paper_flow, pipeline, serve
from flows.graph import dag
from flows.graph.nursery import ClosedError
from flows.results import experiments, metrics, progress
from flows.serving import confine, gpus, pages, server, settings

GRAPH = {
    "a": dag.Node("a", (), False, {}),
    "b": dag.Node("b", ("a", "elsewhere"), True, {"retries": 2, "gpus": 3}),
}


def named(words: Sequence[object]) -> dict[str, object]:
    """The words of a task by the names of its parameters."""
    return dict(zip(("stage", "stale", "num_gpus", "nursery", "page"), words, strict=True))


def test_each_stage_is_a_task_after_those_it_reads_from_with_its_retries_and_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks: list[dict[str, Any]] = []

    class Reproducing:
        def with_options(self, **options: Any) -> SimpleNamespace:
            def submit(name: str, *words: object, **how: object) -> SimpleNamespace:
                state: Any = Failed(name="Crashed") if name == "a" else Cancelled()
                future = SimpleNamespace()
                future.wait = lambda: setattr(future, "state", state)  # which there is none of before
                tasks.append({"options": options, **named((name, *words)), **how, "future": future})
                return future

            return SimpleNamespace(submit=submit)

    nursery: Any = object()
    monkeypatch.setattr(pipeline, "reproduce", Reproducing())
    monkeypatch.setattr(gpus, "create_limit", lambda: tasks.append({}))
    rows = pipeline.run(GRAPH, nursery, "folder/dvc.yaml:")
    limit, first, second = tasks
    assert limit == {}  # before any stage
    delays = [task["options"].pop("retry_delay_seconds") for task in (first, second)]
    assert [list(delay(3)) for delay in delays] == [[5, 10, 20]] * 2
    futures = [task.pop("future") for task in (first, second)]
    shared = {"nursery": nursery, "page": "folder/dvc.yaml:", "return_state": False}
    assert first == {"options": {"retries": 0}, "stage": "a", "stale": False, "num_gpus": 0, "wait_for": [], **shared}
    assert second == {
        "options": {"retries": 2}, "stage": "b", "stale": True, "num_gpus": 3, "wait_for": [futures[0]], **shared
    }  # fmt: skip
    assert rows == [
        {"stage": "a", "how": "Crashed", "seconds": 0.0},
        {"stage": "b", "how": "Cancelled", "seconds": 0.0},
    ]


class Printing:
    """A nursery whose commands print these lines."""

    def __init__(self, *lines: str) -> None:
        self.printed, self.asked = lines, list[tuple[list[str], Mapping[str, str]]]()

    def lines(self, words: list[str], environment: Mapping[str, str]) -> Iterator[str]:
        self.asked.append((words, environment))
        yield from self.printed


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What a stage logged, how far it said to be, and how many GPUs it held; the clock goes on by 1.26 s a look."""
    messages: dict[str, list[Any]] = {"log": [], "progress": [], "gpus": []}
    clock = iter(1.26 * number for number in range(9))

    def hold(wanted: int) -> nullcontext[dict[str, str]]:
        messages["gpus"].append(wanted)
        return nullcontext({"CUDA_VISIBLE_DEVICES": "3"})

    monkeypatch.setattr(pipeline, "get_run_logger", lambda: SimpleNamespace(info=messages["log"].append))
    monkeypatch.setattr(pipeline, "Progress", lambda stage: lambda event: messages["progress"].append((stage, event)))
    monkeypatch.setattr(gpus, "held", hold)
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    return messages


def reproduced(nursery: Any, *, stale: bool = True) -> Any:
    return pipeline.reproduce.fn("s", stale, 2, nursery, "out/dvc.yaml:")


def test_a_stage_is_one_command_of_dvc_whose_lines_are_logged_and_whose_progress_is_shown(
    heard: dict[str, list[Any]],
) -> None:
    nursery = Printing("Running stage 's':", "  ", '@@progress {"done": 1, "total": 2, "unit": "x"}', "end")
    assert reproduced(nursery) == {"stage": "s", "how": "ran", "seconds": 1.3}
    words = ["--wait-for-lock", "repro", "--single-item", "out/dvc.yaml:s"]
    assert nursery.asked == [(words, {"CUDA_VISIBLE_DEVICES": "3"})]
    assert heard == {
        "log": ["Running stage 's':", "end"],
        "progress": [("s", {"done": 1, "total": 2, "unit": "x"})],
        "gpus": [2],
    }


@pytest.mark.parametrize(
    ("line", "how"),
    [("Stage 's' didn't change, skipping", "Skipped"), ("Stage 's' is cached - skipping run, checking out", "Cached")],
)
def test_a_stage_that_did_not_run_ends_well_under_a_name_that_says_so(
    heard: dict[str, list[Any]], line: str, how: str
) -> None:
    state = reproduced(Printing(line, "more"))
    assert (state.name, state.is_completed()) == (how, True)
    assert pipeline.row("s", state) == {"stage": "s", "how": how, "seconds": 1.3}
    assert heard["log"] == [line, "more"]


def test_a_stage_that_is_up_to_date_asks_for_nothing(heard: dict[str, list[Any]]) -> None:
    nursery = Printing("anything")
    state = reproduced(nursery, stale=False)
    assert state.name == "Skipped" and pipeline.row("s", state)["how"] == "Skipped"
    assert nursery.asked == heard["gpus"] == []


def test_a_stage_that_is_ended_with_its_run_is_cancelled_and_has_not_failed(heard: dict[str, list[Any]]) -> None:
    class Closing(Printing):
        def lines(self, words: list[str], environment: Mapping[str, str]) -> Iterator[str]:
            raise ClosedError("the run is being stopped")

    state = reproduced(Closing())
    assert state.is_cancelled() and state.message == "the run is being stopped"
    assert heard["gpus"] == [2]


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (Completed(), 0, "Completed: every stage is up to date\n"),
        (Failed(message="1 of 2 stages did not complete: a"), 1, "Failed: 1 of 2 stages did not complete: a\n"),
    ],
)
def test_the_command_runs_the_flow_with_its_words_and_ends_as_it_does(
    state: Any, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs: list[dict[str, Any]] = []
    of_form = inspect.signature(pipeline.pipeline.fn).parameters["jobs"]

    def flow(**how: Any) -> Any:
        runs.append(how)
        return state

    monkeypatch.setattr(pipeline, "watched", nullcontext)
    monkeypatch.setattr(pipeline, "pipeline", flow)
    more = ["a=1", "b=2", "--target", "x", "--target", "y", "--jobs", "1", "--name", "mine"]
    for arguments in ([], more):
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        with pytest.raises(SystemExit) as end:
            pipeline.main()
        assert int(end.value.code or 0) == code
    assert runs == [
        {"overrides": [], "targets": None, "jobs": 2, "name": None, "return_state": True},
        {"overrides": ["a=1", "b=2"], "targets": ["x", "y"], "jobs": 1, "name": "mine", "return_state": True},
    ]
    assert capsys.readouterr().out == 2 * words
    assert runs[0]["jobs"] == of_form.default


@pytest.mark.parametrize(
    ("state", "named_anew"),
    [(Running(name="Waiting"), True), (Running(name="Mine"), False), (Cancelled(), False), (None, False)],
    ids=str,
)
def test_a_run_that_is_running_has_a_name_of_ours_and_one_that_has_ended_keeps_its_own(
    state: Any, named_anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[Any, ...]] = []

    def set_state(*words: Any, **how: Any) -> None:
        states.append((*words, how))

    run = SimpleNamespace(id="r", state=state)
    client = SimpleNamespace(read_flow_run={"r": run}.__getitem__, set_flow_run_state=set_state)

    def connected(*, sync_client: bool) -> nullcontext[SimpleNamespace]:
        assert sync_client
        return nullcontext(client)

    monkeypatch.setattr(pipeline, "get_client", connected)
    monkeypatch.setattr(pipeline, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id="r")))
    pipeline.under_name("Mine", "why")
    assert len(states) == named_anew
    for own, new, how in states:
        assert (own, new.name, new.message, new.is_running()) == ("r", "Mine", "why", True)
        assert how == {"force": True}  # Prefect lets no running run begin to run


@pytest.fixture
def paper_made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The flow of the paper's table with a stand-in for each thing it asks: what it was asked, in order."""
    heard: dict[str, Any] = {"asked": [], "how": {"a": "ran", "b": "Cached", "paper": "ran"}, "deployment": None}

    def noted(name: str, answer: Any = None) -> Callable[..., Any]:
        return lambda *words: heard["asked"].append((name, *words)) or answer

    def run(graph: dag.Graph, nursery: object, page: str) -> list[pipeline.Row]:
        heard["asked"].append(("run", list(graph), nursery, page))
        return [{"stage": name, "how": heard["how"][name], "seconds": 1.5} for name in graph]

    runtime = SimpleNamespace(flow_run=SimpleNamespace(name="r"), deployment=SimpleNamespace())
    monkeypatch.setattr(paper_flow, "runtime", runtime)
    heard["runtime"] = runtime.deployment
    runtime.deployment.name = None
    monkeypatch.setattr(paper_flow, "tree", SimpleNamespace(held=lambda *_: nullcontext("lock")))
    monkeypatch.setattr(paper_flow, "Nursery", noted("nursery", nullcontext("forks")))
    monkeypatch.setattr(paper_flow, "confined", noted("confined"))
    monkeypatch.setattr(paper_flow, "get_run_logger", lambda: SimpleNamespace(info=noted("info")))
    monkeypatch.setattr(pipeline, "under_name", lambda _: None)
    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(paper, "prepare", noted("prepare"))
    monkeypatch.setattr(paper, "halves", lambda _: iter([GRAPH, {"paper": dag.Node("paper", (), True, {})}]))
    monkeypatch.setattr(paper, "timed", noted("timed"))
    return heard


def test_the_papers_table_is_made_and_then_its_page_and_both_know_what_ran_for_how_long(
    paper_made: dict[str, Any], tmp_path: Path
) -> None:
    rows: Any = paper_flow.table.fn("c", "w", 7, "2", ["x=1"], str(tmp_path), 3)
    assert [row["stage"] for row in rows] == ["a", "b", "paper"]
    page = f"{tmp_path}/dvc.yaml:"
    assert paper_made["asked"] == [
        ("nursery", pipeline.ENVIRONMENT, 3, ["lock"]),
        ("prepare", Path("c"), Path("w"), 7, "2", ["x=1"], tmp_path),
        ("run", ["a", "b"], "forks", page),
        ("timed", tmp_path, {"a": 1.5}),
        ("run", ["paper"], "forks", page),
        ("timed", tmp_path, {"paper": 1.5}),
        ("info", "The paper's table: %s", tmp_path / "paper.html"),
    ]


def test_where_a_stage_of_the_papers_table_fails_there_is_no_page(paper_made: dict[str, Any]) -> None:
    paper_made["how"]["b"] = "Failed"
    state: Any = paper_flow.table.fn("c", "w")
    assert state.is_failed() and state.message == "1 of 2 stages did not complete: b"
    assert [words[0] for words in paper_made["asked"]] == ["nursery", "prepare", "run", "timed"]
    assert paper_made["asked"][0][2] == 1  # stage at a time, which has all workers


def test_what_a_form_says_of_the_papers_table_is_confined_and_what_is_wrong_is_one_sentence(
    paper_made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("c: no such folder")

    paper_made["runtime"].name = "paper"
    monkeypatch.setattr(paper, "prepare", refuse)
    for given, overrides in ((None, []), (["x=1"], ["x=1"])):
        state: Any = paper_flow.table.fn("c", "w", overrides=given)
        assert state.is_failed() and state.message == "c: no such folder"
        assert [words[0] for words in paper_made["asked"]] == ["nursery", "confined"]
        assert paper_made["asked"].pop() == ("confined", "c", "w", "paper", None, overrides)
        paper_made["asked"].clear()


def test_an_experiment_is_saved_under_its_name_and_pushed_where_there_is_a_remote() -> None:
    for push, commands in ((None, 1), ("origin", 2)):
        nursery: Any = Printing("kept", " ", "")
        messages: list[str] = []
        experiments.save("mine", push, nursery, messages.append)
        expected = [["exp", "save", "--name", "mine"], ["exp", "push", "origin", "mine"]][:commands]
        assert nursery.asked == [(words, {}) for words in expected]
        assert messages == ["kept"] * commands


def test_a_name_that_an_experiment_has_is_taken_and_another_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    commit = [*author, "commit", "-q", "--allow-empty", "-m", "x"]
    for words in (["init", "-q"], commit, ["update-ref", "refs/exps/ab/cdef/mine", "HEAD"]):
        subprocess.run(["git", *words], check=True)
    assert experiments.named("other") == "other"
    with pytest.raises(ValueError, match="there is an experiment 'mine' already"):
        experiments.named("mine")
    assert experiments.named(None) is None  # by hand
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    with pytest.raises(subprocess.CalledProcessError):
        experiments.named("other")


def test_a_run_of_a_deployment_is_named_by_it_and_its_time_unless_it_has_a_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = SimpleNamespace(scheduled_start_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    runtime = SimpleNamespace(deployment=SimpleNamespace(name="nightly"), flow_run=run)
    monkeypatch.setattr(experiments, "runtime", runtime)
    assert experiments.named(None) == "nightly-20260102-030405"


def test_who_is_told_hears_of_what_fell_alone_and_must_be_a_block_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[tuple[str, str]] = []

    class Telling(NotificationBlock):
        async def notify(self, body: str, subject: str | None = None) -> None: ...

    def metric(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "better": "higher"}

    fell, rose = (
        metrics.Change("box", name, metric(0.5), metric(value)) for name, value in (("ap", 0.2), ("pim", 0.9))
    )
    monkeypatch.setattr(Telling, "notify", lambda self, body, subject: messages.append((body, subject)))
    blocks = {"a/team": Telling.model_construct(), "b/other": object()}
    monkeypatch.setattr(experiments.Block, "load", blocks.__getitem__)
    experiments.tell("a/team", "night", [rose, fell])
    assert messages == [(str(fell), "night: 1 metrics fell by more than their interval")]
    with pytest.raises(ValueError, match="message: b/other is no notification block"):
        experiments.tell("b/other", "night", [fell])
    experiments.tell("b/other", "night", [rose])


@pytest.mark.parametrize(
    ("event", "seconds", "units", "words"),
    [
        ({"done": 3, "total": 9, "unit": "steps"}, 6.0, 2, "3 of 9 steps, 0.333 steps/s, 0:00:18 left"),
        ({"done": 3, "total": 9, "unit": "steps", "note": "loss 0.5"}, 6.0, 0, "3 of 9 steps, loss 0.5"),
        ({"done": 3, "total": 9, "unit": "steps"}, 0.0, 2, "3 of 9 steps"),
        ({"done": 1, "total": 8, "unit": "x", "note": ""}, 0.5, 1, "1 of 8 x, 2 x/s, 0:00:04 left"),
    ],
)
def test_progress_is_how_far_how_fast_since_the_first_report_and_how_long_yet(
    event: dict[str, Any], seconds: float, units: int, words: str
) -> None:
    assert progress.described(event, seconds, units) == words


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Says what CUDA_VISIBLE_DEVICES is, or that there is none."""

    def see(text: str | None) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if text is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        gpus.visible.cache_clear()
        gpus._free.cache_clear()

    yield see
    for cached in (gpus.visible, gpus._free):
        cached.cache_clear()


def test_gpus_are_those_of_the_environment_or_all_that_the_driver_lists_or_none(
    with_gpus: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(words: list[str], *, capture_output: bool, text: bool, check: bool) -> Any:
        assert (words, capture_output, text, check) == (["nvidia-smi", "--list-gpus"], True, True, False)
        return SimpleNamespace(stdout="GPU 0: one\nGPU 1: another\n")

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", listing)
    for chosen, visible in ((None, ("0", "1")), ("5,7", ("5", "7")), ("", ())):
        with_gpus(chosen)
        assert gpus.visible() == visible
    monkeypatch.setattr(subprocess, "run", absent)
    with_gpus(None)
    assert gpus.visible() == ()


def test_a_limit_of_as_many_slots_as_gpus_is_made_where_there_is_a_gpu_and_held_strictly(
    with_gpus: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[object, ...]] = []
    client = SimpleNamespace(upsert_global_concurrency_limit_by_name=lambda *words: limits.append(words))

    def connected(*, sync_client: bool) -> nullcontext[SimpleNamespace]:
        assert sync_client
        return nullcontext(client)

    def concurrency(name: str, **how: object) -> nullcontext[None]:
        limits.append((name, how))
        return nullcontext()

    monkeypatch.setattr(gpus, "get_client", connected)
    monkeypatch.setattr(gpus, "concurrency", concurrency)
    with_gpus("")
    gpus.create_limit()
    assert limits == []
    with_gpus("5,7,9")
    gpus.create_limit()
    with gpus.held(2) as environment:
        assert environment == {"CUDA_VISIBLE_DEVICES": "5,7"}
    how = {"occupy": 2, "lease_duration": 60, "strict": True}  # the least that Prefect accepts
    assert limits == [(gpus.LIMIT, 3), (gpus.LIMIT, how)]


class Process:
    """A server that has ended with this code, or runs; and what became of it."""

    def __init__(self, code: int | None) -> None:
        self.code, self.done = code, list[object]()

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.done.append("asked to end")

    def wait(self, seconds: float) -> None:
        self.done.append(seconds)


@pytest.mark.parametrize(
    ("code", "times", "answers", "fails"),
    [
        (None, [0.0, 1.0, 2.0], [False, False, True], False),
        (1, [0.0, 1.0], [False], True),
        (0, [0.0, 1.0], [False], True),
        (None, [0.0, 240.0, 240.1], [False, False], True),
        (None, [0.0, 240.0], [False, True], False),
    ],
)
def test_a_server_is_waited_for_while_it_runs_and_four_minutes_at_most_and_is_always_ended(
    code: int | None,
    times: list[float],
    answers: list[bool],
    fails: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[dict[str, Any]] = []
    process, clock, replies = Process(code), iter(times), iter(answers)

    def popen(_: list[str], **how: Any) -> Process:
        started.append(how)
        return process

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "some" / "where"))
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(server, "answers", lambda access: next(replies))
    monkeypatch.setattr(server, "_listens", lambda port: False)
    sleeps: list[float] = []
    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=sleeps.append))
    log = tmp_path / "some" / "where" / "server.log"
    refusal = pytest.raises(RuntimeError, match=f"What it said itself is in {log}") if fails else nullcontext()
    with refusal, server.running(server.Access("http://127.0.0.1:1", "instdiff:x")):
        assert process.done == []
    assert process.done == ["asked to end", 30]
    assert next(replies, None) is None
    assert set(sleeps) <= {1}
    (how,) = started
    assert how["start_new_session"] is True and how["stdout"].name == how["stderr"].name == str(log)


ENTRY = {"targets": ["a", "b"], "experiment": "smoke", "overrides": ["x=1"], "timezone": "Europe/Berlin"}


def test_each_deployment_is_served_with_its_values_and_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []
    made: dict[str, dict[str, Any]] = {}
    wanted = settings.Settings.model_validate(
        {
            "push": None,
            "message": None,
            "deployments": {"night": {**ENTRY, "schedule": "0 3 * * *"}, "hand": {**ENTRY, "schedule": None}},
        }
    )

    def to_deployment(name: str, **how: Any) -> str:
        made[name] = how
        return name

    monkeypatch.setattr(pipeline, "pipeline", SimpleNamespace(to_deployment=to_deployment))
    monkeypatch.setattr(gpus, "create_limit", lambda: order.append("limit"))
    monkeypatch.setattr(serve, "crash_dead_runs", lambda: order.append("crash"))
    monkeypatch.setattr(prefect, "serve", lambda *names: order.append(names))
    serve.deployments(wanted)
    assert order == ["limit", "crash", ("night", "hand")]
    for how in made.values():
        assert how["parameters"] == {"experiment": "smoke", "overrides": ["x=1"], "targets": ["a", "b"]}
    clock = made["night"]["schedule"]
    assert (clock.cron, clock.timezone, made["hand"]["schedule"]) == ("0 3 * * *", "Europe/Berlin", None)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_run_has_crashed_that_gave_no_sign_of_life_three_times_and_the_rule_is_made_once(
    is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[Any] = []

    def read(*, name: str) -> None:
        if not is_there:
            raise ValueError(name)

    def create(rule: Any) -> None:
        rules.append(rule)

    monkeypatch.setattr(prefect.automations.Automation, "read", read)
    monkeypatch.setattr(prefect.automations.Automation, "create", create)
    serve.crash_dead_runs()
    assert len(rules) == (not is_there)
    for rule in rules:
        assert rule.trigger.within == timedelta(seconds=90)  # a sign each 30 s, the least that Prefect takes
        assert rule.trigger.threshold == 1
        assert rule.trigger.posture.value == "Proactive"
        assert "prefect.flow-run.heartbeat" in rule.trigger.after & rule.trigger.expect
        assert [action.state.value for action in rule.actions] == ["CRASHED"]
    assert serve.environment(server.new(1))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """`make ui` with a stand-in for each thing it starts: what was started, in order."""
    started: list[Any] = []

    @contextmanager
    def context(*words: Any) -> Iterator[None]:
        started.append(words)
        yield
        started.append("ended")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "environment", lambda access: {"PREFECT_API_URL": access.address})
    monkeypatch.setattr(settings, "read", lambda: "settings")
    monkeypatch.setattr(serve, "check", started.append)
    monkeypatch.setattr(serve, "deployments", lambda wanted: started.append(("served", wanted)))
    monkeypatch.setattr(serve, "written", lambda access: started.append(("written", access)))
    monkeypatch.setattr(server, "running", context)
    monkeypatch.setattr(pages, "serving", context)
    monkeypatch.setenv(confine.ALLOWED, "")
    monkeypatch.setenv("PREFECT_API_URL", "")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield started
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("there", [False, True])
def test_the_interface_starts_what_is_not_there_and_serves_reports_at_the_next_port(
    there: bool, ui: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "choose", lambda port: (server.Access(server.address(port), "instdiff:x"), there))
    for words, port in (([], 4200), (["--port", "5000", "--allow", "in", "--allow", "/out"], 5000)):
        ui.clear()
        monkeypatch.setattr(sys, "argv", ["ui", *words])
        serve.main()
        access = server.Access(f"http://127.0.0.1:{port}", "instdiff:x")
        reports = (f"http://127.0.0.1:{port + 1}", Path(".dvc/cache"))
        begun = [reports] if there else [reports, (access,)]
        rest = [("written", access), ("served", "settings"), *["ended"] * len(begun)]
        assert ui == ["settings", *begun, *rest]
        assert capsys.readouterr().out == f"Open {access.entrance}\n"
        assert os.environ["PREFECT_API_URL"] == access.address
    assert confine.allowed() == [tmp_path / "in", Path("/out")]
    for number in (signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.parametrize("why", [ValueError("of a value"), RuntimeError("of a port")])
def test_what_keeps_the_interface_from_starting_is_one_sentence(
    why: Exception, ui: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(port: int) -> None:
        raise why

    monkeypatch.setattr(serve, "choose", refuse)
    monkeypatch.setattr(sys, "argv", ["ui"])
    with pytest.raises(SystemExit) as end:
        serve.main()
    assert end.value.code == str(why)
    assert ui == []
