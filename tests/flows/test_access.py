"""Who is asked whether a server is there: with the token, at its port, and a left one only while it answers."""

import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import serve
from flows.serving import server
from flows.serving.server import Access

TOKEN = "instdiff:secret"


@pytest.fixture
def there() -> Iterator[Access]:
    """A server that answers /api/health to all, and other paths to those who hold the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            holds = self.headers["Authorization"] == "Basic " + b64encode(TOKEN.encode()).decode()
            self.send_response(200 if holds or self.path == "/api/health" else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    one = ThreadingHTTPServer((server.HOST, 0), Handler)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield Access(server.address(one.server_address[1]), TOKEN)
    one.shutdown()
    one.server_close()


def test_a_server_answers_all_that_it_is_there_and_its_own_whether_the_token_holds(there: Access) -> None:
    other = Access(there.address, "instdiff:another")
    assert server.answers(there) and server.answers(other)
    assert server.answers(there, "/api/admin/version")
    assert not server.answers(other, "/api/admin/version")
    assert not server.answers(Access(server.address(server._free()), TOKEN))


def test_what_is_written_is_known_again_and_a_new_token_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ACCESS", tmp_path / "access")
    assert serve.last_access() is None
    for _ in range(2):
        one = server.new(4321)
        serve.written(one)
        assert serve.last_access() == one
        assert (tmp_path / "access").stat().st_mode & 0o777 == 0o600
    assert server.new(4321).token != server.new(4321).token
    assert server.new(4321).address == "http://127.0.0.1:4321"


@pytest.mark.parametrize(("port", "answers", "taken"), [(0, True, True), (0, False, False), (1, True, False)])
def test_a_left_server_is_taken_at_its_port_while_it_answers(
    port: int, answers: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ACCESS", tmp_path / "access")
    monkeypatch.setattr(server, "answers", lambda access, path: answers and path == "/api/admin/version")
    left = server.new(4321)
    serve.written(left)
    found, runs = serve.choose(4321 + port)
    assert (found == left, runs) == (taken, taken)
    assert found.port == 4321 + port


def test_a_person_and_prefect_are_told_the_same_server_and_token() -> None:
    one = Access("http://127.0.0.1:4200", TOKEN)
    assert one.entrance == f"http://127.0.0.1:4200/enter#{TOKEN}"
    assert one.environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert one.environment["PREFECT_API_AUTH_STRING"] == TOKEN
    assert one.environment["PREFECT_SERVER_API_AUTH_STRING"] == TOKEN
    assert one.environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert serve.environment(one)["INSTDIFF_PAGES"] == "http://127.0.0.1:4201"
