"""Reports over HTTP on loopback, each under the hash DVC gave it: the report of an old run is not that of today."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from instdiff.app.gate import refusal

ADDRESS = "INSTDIFF_PAGES"  # the environment variable that says where pages are served
POLICY = "default-src 'unsafe-inline' data:; frame-ancestors 'none'"  # a page loads nothing and is framed by none


@contextmanager
def serving(address: str, cache: Path) -> Iterator[None]:
    """Answer `/<md5>` with that page of DVC's cache, in a thread of its own, at an address such as http://127.0.0.1:80.

    Raises:
        RuntimeError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if reason := refusal(address, self.headers.items()):
                self.send_error(403, explain=reason)
                return
            match = re.fullmatch(r"/([0-9a-f]{2})([0-9a-f]{30})", self.path)
            page = cache / "files" / "md5" / match[1] / match[2] if match else None
            if page is None or not page.is_file():
                self.send_error(404, "DVC's cache holds no such page")
                return
            content = page.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    where = urlsplit(address)
    try:
        server = ThreadingHTTPServer((str(where.hostname), int(where.port or 0)), Handler)
    except OSError as error:
        raise RuntimeError(f"reports cannot be served at {address}: {error.strerror}; --port chooses another") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
