"""DVC commands as forks of one process that has imported DVC already: importing takes seconds, forking a moment.

The nursery is a process of its own and has no threads, so that forking is safe. When its parent closes the line to it,
or dies however suddenly, it ends every command that still runs with all that the command started, and then itself.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

MAX_BYTES = 65536  # of a request: words and environment of one command
PATIENCE = 20.0  # seconds between asking a command to end and ending it; Prefect gives a cancelled flow 30


def search_path() -> str:
    """PATH with the folder of this Python first, so that the `python` of a stage is this one in any shell."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


class CommandFailedError(RuntimeError):
    """The command ended with another exit status than 0."""


class ClosedError(CommandFailedError):
    """The command was ended, or not begun, because the nursery closes."""


class Nursery:
    """Starts DVC commands; leaving its context ends those that still run."""

    def __init__(self, environment: Mapping[str, str], jobs: int, inherited: Iterable[int] = ()) -> None:
        """Start the process; at most `jobs` commands run at once.

        It keeps the `inherited` file descriptors open until its last command has ended.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.graph.nursery", str(theirs.fileno())],
                env={**os.environ, "PATH": search_path(), "PYTHONUNBUFFERED": "1", **environment},
                pass_fds=[theirs.fileno(), *inherited],
                start_new_session=True,  # what ends the flow's process group reaches it by the line alone
            )
        self._line = ours
        self._room = threading.BoundedSemaphore(jobs)
        self._one_at_a_time = threading.Lock()
        self._closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._line.close()

    def lines(self, words: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
        """Yield what `dvc words...` prints, stdout and stderr as one, without line ends.

        Raises:
            ClosedError: the nursery closes.
            CommandFailedError: it ended with another exit status than 0.
        """
        command = " ".join(["dvc", *words])
        with self._room, _Pipe() as (printed, output), _Pipe() as (ended, status):
            request = json.dumps({"words": list(words), "environment": dict(environment)}).encode()
            try:
                with self._one_at_a_time:
                    socket.send_fds(self._line, [request], [output.fileno(), status.fileno()])
                    begun = self._line.recv(1)
            except OSError:
                begun = b""
            if not begun:
                raise ClosedError(f"{command}: the run is being stopped")
            output.close()
            status.close()
            for line in printed:
                yield line.rstrip("\n")
            code = ended.read()
        if code != "0" and self._closing:
            raise ClosedError(f"{command} was ended with the run")
        if code != "0":
            raise CommandFailedError(f"{command} " + (f"ended with exit status {code}" if code else "was killed"))


class _Pipe:
    """Two files: what is written to the second is read from the first."""

    def __enter__(self) -> tuple[Any, Any]:
        reader, writer = os.pipe()
        self.files = (os.fdopen(reader, errors="replace"), os.fdopen(writer, "wb", buffering=0))
        return self.files

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.close()


def serve(line: socket.socket) -> None:
    """Fork for every request until the line is closed; then end what still runs."""
    import dvc.cli.parser
    import dvc.repo.stage  # noqa: F401  # what every fork needs

    # A fork mostly reads and writes dvc.lock, and would go through all that is imported here again and again meanwhile.
    gc.freeze()
    gc.set_threshold(100_000)

    living: list[int] = []
    while True:
        try:
            request, files, *_ = socket.recv_fds(line, MAX_BYTES, 2)
        except ConnectionError:
            break
        living = [pid for pid in living if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        if not request:
            break
        fork = os.fork()
        if fork == 0:
            line.close()
            _become(files[0], files[1], **json.loads(request))
        living.append(fork)
        for file in files:
            os.close(file)
        with suppress(OSError):
            line.send(b".")
    end(living)


def _become(output: int, status: int, words: list[str], environment: Mapping[str, str]) -> None:
    """Be the command, in a process group of its own, and never return."""
    code = 1
    try:
        os.setsid()
        # DVC outlives its stage, which a polite signal ends, and leaves no lock behind.
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.set_inheritable(status, False)
        os.environ.update(environment)
        for stream, to in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(to, stream)
        os.close(output)
        from dvc.cli import main

        code = main(words)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            os.write(status, str(code).encode())
        os._exit(code)


def end(commands: Iterable[int], patience: float = PATIENCE) -> None:
    """End commands and all that they started: politely, then after `patience` seconds for good."""
    left = list(commands)
    _signal(left, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        ended = [pid for pid in left if os.waitpid(pid, os.WNOHANG) != (0, 0)]
        _signal(ended, signal.SIGKILL)  # whom the command left behind
        left = [pid for pid in left if pid not in ended]
    _signal(left, signal.SIGKILL)
    for pid in left:
        os.waitpid(pid, 0)


def _signal(groups: Iterable[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
