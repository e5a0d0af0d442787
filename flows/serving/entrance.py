"""The page that takes the token of Prefect's server out of the address that `make ui` prints."""

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ENTRANCE = "/enter"
# The user interface keeps the token where its own login form would; what follows `#` is never sent to a server.
ENTER = """<!doctype html><title>instdiff</title><script>
const token = location.hash.slice(1);
if (token) { localStorage.setItem("prefect-password", btoa(token)); location.replace("/dashboard"); }
else document.write("Open the whole address that `make ui` printed, with what follows #.");
</script>"""


class Entrance:
    """An ASGI application with that page at `/enter`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page, or pass on."""
        here = scope["type"] == "http" and scope["path"] == ENTRANCE
        await (HTMLResponse(ENTER) if here else self.app)(scope, receive, send)
