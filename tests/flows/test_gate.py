"""Who may ask the servers that flows start: own pages under the own name; and what a form may say."""

import asyncio
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from starlette.types import Message, Receive, Scope, Send

from flows import pipeline, serve
from flows.serving import confine, pages, server
from flows.serving.entrance import ENTRANCE, Entrance
from instdiff.app.gate import Gate, refusal

OWN = "http://127.0.0.1:4200"
FOREIGN = [
    "http://evil.example",
    "http://127.0.0.1:4201",
    "https://127.0.0.1:4200",
    "http://localhost:4200",
    "null",
    "",
]
HOSTS = [
    "evil.example",
    "evil.example:4200",
    "127.0.0.1",
    "127.0.0.1:4201",
    "localhost:4200",
    "127.0.0.1.evil:4200",
    "",
]
headers = st.lists(st.tuples(st.sampled_from(["Accept", "Cookie", "Referer"]), st.text()))


@given(headers, st.sampled_from(["Origin", "origin", "ORIGIN"]), st.sampled_from(FOREIGN) | st.text())
def test_a_page_of_another_origin_is_refused_whatever_else_it_sends(
    others: list[tuple[str, str]], name: str, origin: str
) -> None:
    reason = refusal(OWN, [("Host", "127.0.0.1:4200"), *others, (name, origin)])
    assert (reason is None) == (origin == OWN)


@given(headers, st.sampled_from(["Host", "host", "HOST"]), st.sampled_from(HOSTS) | st.text())
def test_another_name_of_this_machine_is_refused_whatever_else_is_sent(
    others: list[tuple[str, str]], name: str, host: str
) -> None:
    reason = refusal(OWN, [*others, (name, host)])
    assert (reason is None) == (host == "127.0.0.1:4200")


def test_a_request_of_no_page_needs_the_host_alone_and_exactly_one() -> None:
    host = ("host", "127.0.0.1:4200")
    assert refusal(OWN, [host]) is None
    assert refusal(OWN, [])
    assert refusal(OWN, [host, ("host", "evil.example")])
    assert refusal(OWN, [host, ("origin", OWN), ("origin", "http://evil.example")])


async def behind(scope: Scope, _: Receive, send: Send) -> None:
    """An application that answers everything, and allows every origin, as Prefect does."""
    if scope["type"] == "http":
        allow = (b"access-control-allow-origin", b"*")
        await send({"type": "http.response.start", "status": 200, "headers": [allow]})
        await send({"type": "http.response.body", "body": b"the server's"})
    else:
        await send({"type": "websocket.accept"})


def answer(kind: str = "http", path: str = "/api", **sent: str) -> list[Message]:
    """What comes back for a request with these headers."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    named = {"host": "127.0.0.1:4200"} | sent
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    scope = {"type": kind, "path": path, "method": "POST", "headers": raw}
    asyncio.run(Gate(Entrance(behind), OWN)(scope, receive, send))
    return messages


@pytest.mark.parametrize("sent", [{"origin": "http://evil.example"}, {"host": "evil.example"}])
def test_what_is_refused_never_reaches_the_server(sent: dict[str, str]) -> None:
    start, body = answer(**sent)
    assert start["status"] == 403
    assert b"server's" not in body["body"]
    assert not [name for name, _ in start["headers"] if name.startswith(b"access-control")]
    assert [message["type"] for message in answer("websocket", **sent)] == ["websocket.close"]
    assert answer(path=ENTRANCE, **sent)[0]["status"] == 403


def test_own_pages_are_answered_and_may_load_nothing_from_elsewhere() -> None:
    start, body = answer(origin=OWN)
    assert (start["status"], body["body"]) == (200, b"the server's")
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    allowed = policy.partition("default-src ")[2].partition(";")[0].split()
    assert set(allowed) == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert "frame-ancestors 'none'" in policy
    assert answer("websocket", origin=OWN) == [{"type": "websocket.accept"}]


def test_the_entrance_is_a_page_at_its_own_path_and_all_else_is_the_servers() -> None:
    start, body = answer(path=ENTRANCE)
    assert start["status"] == 200 and dict(start["headers"])[b"content-type"].startswith(b"text/html")
    assert b"location.hash.slice(1)" in body["body"] and b'replace("/dashboard")' in body["body"]
    for path in ("/", "/enter/", "/entered", "/api/enter"):
        assert answer(path=path)[1]["body"] == b"the server's"
    assert answer("websocket", path=ENTRANCE) == [{"type": "websocket.accept"}]


def test_the_server_that_is_started_is_prefects_behind_gate_and_entrance_on_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import prefect
    import prefect.server.api.server
    import uvicorn

    served: list[tuple[Any, dict[str, object]]] = []
    monkeypatch.setattr(prefect, "__ui_v2_static_path__", Path("ui"), raising=False)
    monkeypatch.setattr(prefect.server.api.server, "create_app", lambda *, final: ("prefect's", final))
    monkeypatch.setattr(uvicorn, "run", lambda app, **how: served.append((app, how)))
    for name, value in server.Access("http://127.0.0.1:4321", "instdiff:x").environment.items():
        monkeypatch.setenv(name, value)
    server.main()
    ((app, how),) = served
    assert how == {"host": "127.0.0.1", "port": 4321, "log_level": "warning"}
    assert isinstance(app, Gate) and isinstance(app.app, Entrance) and app.app.app == ("prefect's", True)
    assert not prefect.__ui_v2_static_path__.exists()


@pytest.fixture
def report(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A served report: the port and its path."""
    digest = "ab" + "0" * 30
    page = tmp_path / "files" / "md5" / digest[:2] / digest[2:]
    page.parent.mkdir(parents=True)
    page.write_text("<p>the report</p>")
    access = server.new()
    with pages.serving(access.address, tmp_path):
        yield access.port, "/" + digest


def fetched(port: int, path: str, **sent: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host="Host" in sent)
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    status_and_body = response.status, response.read()
    connection.close()
    return status_and_body


@pytest.mark.parametrize("sent", [{"Origin": origin} for origin in FOREIGN] + [{"Host": host} for host in HOSTS])
def test_reports_are_for_own_pages_too(report: tuple[int, str], sent: dict[str, str]) -> None:
    port, path = report
    assert fetched(port, path)[0] == 200
    status, body = fetched(port, path, **sent)
    assert (status, b"the report" in body) == (403, False)


def test_a_taken_port_is_one_sentence(report: tuple[int, str], tmp_path: Path) -> None:
    address = server.address(report[0])
    with pytest.raises(RuntimeError, match="--port chooses another"), pages.serving(address, tmp_path):
        pass
    with pytest.raises(RuntimeError, match="is the port taken"), server.running(server.Access(address, "instdiff:x")):
        pass


def test_each_server_has_a_token_of_its_own_that_stands_in_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = server.new(4200), server.new(4200)
    assert first.token != second.token and len(first.token) > 40
    commands: list[tuple[list[str], dict[str, str]]] = []

    def recorded(command: list[str], **options: Any) -> None:
        commands.append((command, options["env"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(server.subprocess, "Popen", recorded)
    with pytest.raises(KeyboardInterrupt), server.running(server.new()):
        pass
    ((command, environment),) = commands
    token = environment["PREFECT_SERVER_API_AUTH_STRING"]
    assert environment["PREFECT_API_AUTH_STRING"] == token
    assert token not in " ".join(command)
    assert command[1:] == ["-m", "flows.serving.server"]  # behind the gate
    assert environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == environment["PREFECT_API_URL"].removesuffix("/api")


def test_only_this_user_reads_the_token_and_a_second_ui_is_sent_to_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    access = server.new(4200)
    with serve.alone():
        serve.written(access)
        assert serve.ACCESS.stat().st_mode & 0o077 == 0
        assert serve.last_access() == access
        with pytest.raises(RuntimeError, match=f"already runs at {access.entrance}"), serve.alone():
            pass
    with serve.alone():
        pass


def test_a_run_from_the_shell_is_watched_by_a_server_of_its_own_or_by_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[server.Access] = []

    class Running:
        def __init__(self, access: server.Access) -> None:
            started.append(access)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(server, "running", Running)
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pipeline.watched():
        (access,) = started
        assert PREFECT_API_URL.value() == f"{access.address}/api"
        assert PREFECT_API_AUTH_STRING.value() == access.token
    with temporary_settings({PREFECT_API_URL: "http://team:4200/api"}), pipeline.watched():
        assert PREFECT_API_URL.value() == "http://team:4200/api"
    assert len(started) == 1


BEFORE = "kept: {metrics: metrics.json}\ntrain: {weights: /models/given, steps: 3}\nrows: {box: [a]}\n"


def refused(change: str) -> bool:
    try:
        confine.check(change, BEFORE, [Path("/data/coco")])
    except ValueError as error:
        assert f"leads out of {Path.cwd()}, where the form may not go" in str(error)
        return True
    return False


@pytest.mark.parametrize(
    "place",
    [
        "../../somewhere", "/etc/passwd", "data/../../x", "~/x", "s3://bucket/x", "file:/etc/passwd", "tcp://evil:1",
        "simplecache::http://evil/x", "evil:8786", "/data/coco/../x", "/data/coconut", ".git/x", "data/../.dvc/x",
        "zip::x", "pipe:x", "memory:x", "data:x", "a.b-c:1", ".prefect/x", "a/.venv", "a\ns3://bucket/x",
    ],
)  # fmt: skip
def test_a_value_of_the_form_does_not_lead_out_of_the_tree(place: str) -> None:
    for text in (f"kept: {{metrics: '{place}'}}", f"rows: {{box: [a, '{place}']}}", f"a: [{{b: '{place}'}}]"):
        assert refused(text), text


@pytest.mark.parametrize(
    "text",
    [
        "kept: {metrics: metrics-other.json}",
        "train: {weights: data/../weights/x, steps: 4}",
        "ingest: {pictures: /data/coco/train}",  # allowed at the shell
        "generate: {negative_prompt: 'blurry, low quality, 3:2 / 4:3, (worst: 1.2)...'}",
        "caption: {template: 'a photo: {category}'}",
    ],
)
def test_a_value_of_the_form_may_be_any_other(text: str) -> None:
    assert not refused(text)


def test_what_configs_say_themselves_is_no_word_of_the_form() -> None:
    assert not refused(BEFORE)
    assert refused(BEFORE.replace("steps: 3", "weights_too: /models/given"))
    with pytest.raises(ValueError, match=r"^kept\.metrics: '/etc/x' leads"):
        confine.check("kept: {metrics: /etc/x}", BEFORE, [])


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "data"]), min_size=1, max_size=8))
def test_a_relative_path_is_refused_exactly_where_it_ends_above_the_tree(parts: list[str]) -> None:
    ends_inside = Path(Path.cwd(), *parts).resolve().is_relative_to(Path.cwd().resolve())
    assert refused(f"kept: {{metrics: {'/'.join(parts)!r}}}") == (not ends_inside)
