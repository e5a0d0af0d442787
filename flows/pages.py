"""Reports over HTTP on loopback, each under the hash DVC gave it: the report of an old run is not that of today."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = "INSTDIFF_PAGES"  # the environment variable that says where pages are served


def start(host: str, port: int, cache: Path) -> ThreadingHTTPServer:
    """Answer `/<md5>` with that page of DVC's cache, in a thread of its own, until shut down."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = re.fullmatch(r"/([0-9a-f]{2})([0-9a-f]{30})", self.path)
            page = cache / "files" / "md5" / asked[1] / asked[2] if asked else None
            if page is None or not page.is_file():
                self.send_error(404, "DVC's cache holds no such page")
                return
            content = page.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", "default-src 'unsafe-inline' data:")  # it loads nothing
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
