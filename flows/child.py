"""A child process whose output is read line by line, and whose whole family ends when it is stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_running: set[subprocess.Popen[str]] = set()


class ChildFailedError(RuntimeError):
    """The command ended with another exit status than 0."""


def lines(command: list[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what the command prints, stdout and stderr as one, without line ends.

    Raises:
        ChildFailedError: it exited with another status than 0.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    everything = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment}
    with subprocess.Popen(
        command,
        env=everything,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own, so that stop() reaches the grandchildren
    ) as child:
        _running.add(child)
        try:
            assert child.stdout is not None
            for line in child.stdout:
                yield line.rstrip("\n")
            status = child.wait()
        finally:
            stop(child)
            _running.discard(child)
    if status:
        raise ChildFailedError(f"{' '.join(command)} ended with exit status {status}")


def stop(child: subprocess.Popen[str], patience: float = 10) -> None:
    """End a child that still runs, and all that it started: politely, then after `patience` seconds for good."""
    if child.poll() is not None:
        return
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def stop_all() -> None:
    """End every child that still runs."""
    for child in list(_running):
        stop(child)
