"""Who may ask a server of ours: pages of its own origin, under its own address, and nobody else.

Any web page that is open in a browser on this machine can send requests to loopback. Its browser names the page's
origin in `Origin`, and a host name that was made to resolve to loopback (DNS rebinding) in `Host`: both are checked
before the server sees the request. What starts work needs a token besides: flows/serving/server.py, page.py.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A browser sends nothing from these pages to anywhere else, and shows them in no other page's frame.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"


def refusal(address: str, headers: Iterable[tuple[str, str]]) -> str | None:
    """Why a request is not answered, or None when it may be.

    Args:
        address: the server's own origin, such as http://127.0.0.1:4200.
        headers: of the request; names in any case.
    """
    sent = [(name.lower(), value) for name, value in headers]
    if [value for name, value in sent if name == "host"] != [urlsplit(address).netloc]:
        return f"This server answers as {address} and under no other name."
    if any(value != address for name, value in sent if name == "origin"):
        return f"This server answers pages of {address} and of no other origin."
    return None


class Gate:
    """An ASGI application behind the checks, its pages held to a content security policy."""

    def __init__(self, app: ASGIApp, address: str, policy: str = POLICY) -> None:
        self.app, self.address, self.policy = app, address, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or pass on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        if reason := refusal(self.address, headers):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            else:
                await PlainTextResponse(reason, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, self._with_policy(send))

    def _with_policy(self, send: Send) -> Send:
        async def passed_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = self.policy
            await send(message)

        return passed_on
