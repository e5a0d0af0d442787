"""A model in a Python environment of its own, asked by one line of JSON and answering by one.

A worker that dies fails the question it had; it is started again for the next, so that the item it died of costs no
other. `line_server.py` is the other end.
"""

import base64
import contextlib
import io
import json
import os
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from instdiff.isolated import line_server

OTHERS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would lead the worker into our environment
LAST_CHARACTERS = 300  # characters of a dead worker's last words
DEATHS = 3  # in a row, before the fault is taken to be the worker's and not an item's


class WorkerDied(RuntimeError):
    """The worker ended before it answered."""


class WorkerLost(Exception):
    """It dies again and again: not a reason to fail every item, but to stop."""


class LineWorker:
    """Asks the model of a script, in the environment of a Python interpreter."""

    def __init__(self, name: str, python: Path, script: Path, arguments: Sequence[str]) -> None:
        self._name = name
        self._command = [str(python), "-W", "ignore", str(Path(line_server.__file__))]
        self._arguments = [str(script), *arguments]
        self._process: Process | None = None
        self._deaths = 0
        self.hello = self._running().hello

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply to a question; RuntimeError or MemoryError when the worker says why it has none, or dies."""
        try:
            reply = self._running().ask(question)
        except WorkerDied as error:
            self._process, self._deaths = None, self._deaths + 1
            if self._deaths == DEATHS:
                raise WorkerLost(f"{DEATHS} times in a row: {error}") from error
            raise
        self._deaths = 0
        if "error" in reply:
            raise MemoryError(reply["error"]) if reply["out_of_memory"] else RuntimeError(reply["error"])
        return reply

    def _running(self) -> "Process":
        if self._process is None:
            self._process = Process(self._name, self._command, self._arguments)
        return self._process


class Process:
    """A process and the two pipes it is spoken to through: what it prints goes to a file of its own."""

    def __init__(self, name: str, command: Sequence[str], arguments: Sequence[str]) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [*command, str(their_in), str(their_out), *arguments],
            pass_fds=(their_in, their_out),
            env=environment | offline,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.close(their_in)
        os.close(their_out)
        self._out, self._in = os.fdopen(our_out, "w"), os.fdopen(our_in)
        self.close = weakref.finalize(self, _end, self._process, self._out, self._in, self._log)
        self.hello = self._reply()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply to one line; WorkerDied when none comes."""
        try:
            self._out.write(json.dumps(question) + "\n")
            self._out.flush()
        except BrokenPipeError:
            pass  # it is dead; its last words are in the log
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        line = self._in.readline()
        if line.endswith("\n"):
            reply: dict[str, Any] = json.loads(line)
            return reply
        code = self._process.wait()
        self._log.seek(0)
        last = " ".join(self._log.read().decode("utf-8", "replace").split())[-LAST_CHARACTERS:]
        self.close()
        raise WorkerDied(f"the {self._name} worker ended with {code}: {last or 'without a word'}")


def _end(process: subprocess.Popen[bytes], *files: IO[Any]) -> None:
    """End a worker by ending its input, once nobody holds it any more, and at the latest with this process."""
    for file in files:
        with contextlib.suppress(BrokenPipeError):
            file.close()
    process.wait()


def base64_png(pixels: NDArray[np.uint8]) -> str:
    """A picture (height, width, 3) as a text that JSON can hold."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")
