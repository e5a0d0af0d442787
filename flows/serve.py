"""A Prefect server on loopback and the deployments it can start: `python -m flows.serve`, or `make ui`.

The server keeps its database in .prefect/, so that history survives a restart and nothing leaves the repository.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import pages, settings

HOST = "127.0.0.1"


def environment(port: int) -> dict[str, str]:
    """What server and deployments share: one address, one database, no telemetry."""
    home = Path(".prefect").resolve()
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",  # seconds until a run that was asked for is seen
        # Who runs is kept on the disk, so that a killed server does not take a deployment for busy for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",  # seconds until it is free again
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",  # until a waiting run asks again
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        pages.ADDRESS: f"http://{HOST}:{port + 1}",
    }


def healthy(port: int) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(port: int, patience: float = 240) -> Iterator[None]:
    """A server that answers, ended with the context; one that answers already is left as it is.

    Raises:
        RuntimeError: it ended, or did not answer within `patience` seconds.
    """
    if healthy(port):
        yield
        return
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    # In a session of its own: what interrupts this process leaves the server up, to be told what stops, and then ended.
    server = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + patience
        while not healthy(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no Prefect server at {HOST}:{port}; is the port taken? (--port chooses another)")
            time.sleep(1)
        yield
    finally:
        server.terminate()
        server.wait(30)


def deployments(chosen: settings.Settings) -> None:
    """Serve every deployment until interrupted; one run at a time, the others wait their turn."""
    from prefect import serve  # reads its settings from the environment when imported
    from prefect.schedules import Cron

    from flows import gpus
    from flows.pipeline import pipeline

    gpus.create_limit()
    served = []
    for name, one in chosen.deployments.items():
        deployment = pipeline.to_deployment(
            name,
            description=f"Brings {', '.join(one.targets) or 'every stage'} up to date, with all it rests on.",
            parameters={"experiment": one.experiment, "overrides": one.overrides, "targets": one.targets},
            schedule=Cron(one.schedule, timezone=one.timezone) if one.schedule else None,
            tags=["dvc"],
            concurrency_limit=1,
        )
        assert not isinstance(deployment, Coroutine)  # no event loop runs here
        served.append(deployment)
    serve(*served, limit=1)


def main() -> None:
    """Parse the command line; start a server unless one answers; serve."""
    parser = argparse.ArgumentParser(description="A local Prefect server and the deployments of this pipeline.")
    parser.add_argument("--port", type=int, default=4200, help="the server's; reports are served at the next one")
    port = parser.parse_args().port
    chosen = settings.read()
    for asked in (signal.SIGTERM, signal.SIGHUP):  # asked to end, it ends the server too, as by Ctrl-C
        signal.signal(asked, signal.default_int_handler)
    os.environ.update(environment(port))
    shown = pages.start(HOST, port + 1, Path(".dvc/cache"))
    try:
        with running(port):
            print(f"http://{HOST}:{port}", flush=True)
            deployments(chosen)
    finally:
        shown.shutdown()


if __name__ == "__main__":
    main()
