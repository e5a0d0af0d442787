"""A Prefect server on loopback that answers its own pages and whoever holds its token.

Prefect's own server answers every origin and asks for no token. Here it stands behind instdiff/app/gate.py, and its API
wants the token (Prefect's `auth_string`), which is made anew for each server and never stands in a command line. The
user interface gets it from the address that `make ui` prints, the runs from their environment.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from flows.serving.entrance import ENTRANCE, Entrance

HOST = "127.0.0.1"
LOG = "server.log"  # where two writes meet, Prefect says so with a page of traceback, and tries again
USER = "instdiff"


class Access(NamedTuple):
    """Where a server is and what opens it."""

    address: str  # its origin
    token: str  # user:password

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def entrance(self) -> str:
        """The address that a person opens."""
        return f"{self.address}{ENTRANCE}#{self.token}"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of Prefect for the server and for what talks to it."""
        return {
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_API_AUTH_STRING": self.token,
            "PREFECT_SERVER_API_AUTH_STRING": self.token,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
        }


def address(port: int) -> str:
    """The origin of a server of ours."""
    return f"http://{HOST}:{port}"


def new(port: int | None = None) -> Access:
    """A token nobody has seen, for a server at that port, or at one that is free."""
    return Access(address(port or _free()), f"{USER}:{secrets.token_urlsafe(24)}")


def answers(access: Access, path: str = "/api/health") -> bool:
    """Whether a server is there, and at any other path of its API whether it takes the token."""
    header = {"Authorization": "Basic " + b64encode(access.token.encode()).decode()}
    connection = HTTPConnection(HOST, access.port, timeout=5)
    try:
        connection.request("GET", path, headers=header)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running(access: Access, patience: float = 240) -> Iterator[None]:
    """A server that answers, ended with the context; what it says goes to LOG in Prefect's folder.

    Raises:
        RuntimeError: the port is taken, it ended, or it did not answer within `patience` seconds.
    """
    log = Path(os.environ.get("PREFECT_HOME", ".prefect")) / LOG
    absent = f"no Prefect server at {access.address}; is the port taken? (--port chooses another)"
    if _listens(access.port):
        raise RuntimeError(absent)
    command = [sys.executable, "-m", "flows.serving.server"]
    # In a session of its own: what interrupts this process leaves the server up, to be told what stops, and then ended.
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as to:
        process = subprocess.Popen(
            command, start_new_session=True, env=os.environ | access.environment, stdout=to, stderr=to
        )
    try:
        deadline = time.monotonic() + patience
        while not answers(access):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{absent} What it said itself is in {log}")
            time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _free() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Serve until ended, at the address that the environment names."""
    import prefect
    import uvicorn
    from prefect.server.api.server import create_app

    from instdiff.app.gate import Gate

    access = Access(os.environ["PREFECT_API_URL"].removesuffix("/api"), os.environ["PREFECT_API_AUTH_STRING"])
    # Prefect has a second user interface, which asks an analytics host, and which the first one advertises.
    prefect.__ui_v2_static_path__ = prefect.__ui_v2_static_path__ / "not served"
    app = Gate(Entrance(create_app(final=True)), access.address)
    uvicorn.run(app, host=HOST, port=access.port, log_level="warning")


if __name__ == "__main__":
    main()
