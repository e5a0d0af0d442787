"""salesforce-lavis as a describer: a worker in its own environment, since its pins exclude what everything else needs.

One line of JSON a batch in each direction; `make lavis` makes the environment. A worker that dies fails the batch it
had; it is started again for the next, so that the crop it died of costs no other.
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

from PIL import Image

from data_prep.annotators import lavis_worker
from data_prep.annotators.crops import ModelParams, Pixels
from instdiff.provenance import fingerprint
from instdiff.work.outcomes import Failure

OTHERS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would lead the worker into our environment
SHOWN = 300  # characters of a dead worker's last words


DEATHS = 3  # in a row, before the fault is taken to be the worker's and not a crop's


class WorkerDied(RuntimeError):
    """The worker ended before it answered."""


class WorkerLost(Exception):
    """It dies again and again: not a reason to fail every crop, but to stop."""


class Lavis:
    """Asks LAVIS' BLIP or BLIP-2."""

    def __init__(self, params: ModelParams, script: Path = Path(lavis_worker.__file__)) -> None:
        if params.python is None:
            raise ValueError("caption: backend lavis needs python, the interpreter of its environment (make lavis)")
        self._params, self._command = params, [str(params.python), "-W", "ignore", str(script)]
        self._worker: Worker | None = None
        self._deaths = 0
        hello = self._running().hello
        self.name = f"lavis-{hello['lavis']}:{hello['model']}@{fingerprint(params.weights)}"

    def describe(self, crops: Sequence[Pixels]) -> list[str | Failure]:
        """What each crop shows; RuntimeError when the worker says why not, or dies."""
        settings = self._params.model_dump(mode="json", include={"prompt", "num_beams", "max_tokens"})
        try:
            answer = self._running().ask({"crops": [_png(crop) for crop in crops], **settings})
        except WorkerDied as error:
            self._worker, self._deaths = None, self._deaths + 1
            if self._deaths == DEATHS:
                raise WorkerLost(f"{DEATHS} times in a row: {error}") from error
            raise
        self._deaths = 0
        if "error" in answer:
            raise MemoryError(answer["error"]) if answer["out_of_memory"] else RuntimeError(answer["error"])
        captions: list[str | Failure] = [str(caption).strip() for caption in answer["captions"]]
        return captions

    def _running(self) -> "Worker":
        if self._worker is None:
            self._worker = Worker(self._command, str(self._params.weights), self._params.precision)
        return self._worker


class Worker:
    """A process and the two pipes it is spoken to through: what LAVIS prints goes to a file of its own."""

    def __init__(self, command: Sequence[str], weights: str, precision: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [*command, str(their_in), str(their_out), weights, precision],
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
        self.hello = self._answer()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to one line; WorkerDied when none comes."""
        try:
            self._out.write(json.dumps(question) + "\n")
            self._out.flush()
        except BrokenPipeError:
            pass  # it is dead; its last words are in the log
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._in.readline()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        self._log.seek(0)
        last = " ".join(self._log.read().decode("utf-8", "replace").split())[-SHOWN:]
        self.close()
        raise WorkerDied(f"the LAVIS worker ended with {code}: {last or 'without a word'}")


def _end(process: subprocess.Popen[bytes], *files: IO[Any]) -> None:
    """End a worker by ending its input, once nobody holds it any more, and at the latest with this process."""
    for file in files:
        with contextlib.suppress(BrokenPipeError):
            file.close()
    process.wait()


def _png(crop: Pixels) -> str:
    stream = io.BytesIO()
    Image.fromarray(crop).save(stream, "png", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")
