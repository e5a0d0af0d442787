"""`dvc repro`, readable off a terminal: a line a stage, and one every half minute within: `python -m flows.repro`.

On a terminal DVC and the stages show themselves. Elsewhere (a log, a CI) this counts the stages, says how long each
took and about how long the rest will, by what each took the last time. Whatever else a stage prints goes to
runs/output/<stage>.txt, and its end is shown where the stage fails.
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from flows.graph import dag
from flows.graph.nursery import search_path
from instdiff.files import atomic
from instdiff.progress import TAG

SECONDS = Path("runs/seconds.json")  # stage -> seconds it took the last time it ran
OUTPUT = Path("runs/output")
BETWEEN = 30.0  # seconds between two lines within a stage
MAX_LINES = 30  # lines of a failed stage
INTERRUPTED = 130  # the exit status of what Ctrl-C ended, by custom of shells
_BEGINS = re.compile(r"Running stage '([^']+)'")
_CACHED = re.compile(r"Stage '([^']+)' is cached - skipping run")


class Account:
    """What to report of a run, from the lines that DVC and its stages print."""

    def __init__(
        self,
        stale: Sequence[str],
        seconds_before: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count the `stale` stages, which took `seconds_before` in an earlier run."""
        self.left, self.total = list(stale), len(stale)
        self.seconds_before, self.clock = dict(seconds_before), clock
        self.took: dict[str, float] = {}  # in this run
        self.stage: str | None = None
        self.output: list[str] = []
        self.within = ""

    def line(self, text: str) -> Iterator[str]:
        """What to say when this line has come."""
        if begins := _BEGINS.search(text):
            yield from self.end()
            self.stage, self.output, self.within = begins[1], [], ""
            self.began = self.last_line = self.clock()
        elif cached := _CACHED.search(text):
            yield from self.end()
            self._done(cached[1])
            yield f"{self._place(cached[1])}, from the cache"
        elif text.startswith("Updating lock file"):
            yield from self.end()
        elif text.startswith(TAG):
            event = json.loads(text.removeprefix(TAG))
            self.within = f": {event['done']} of {event['total']} {event['unit']}"
        elif text.strip():
            self.output.append(text)
        yield from self.tick()

    def tick(self) -> Iterator[str]:
        """What to say when time has passed."""
        if self.stage is not None and self.clock() - self.last_line >= BETWEEN:
            self.last_line = self.clock()
            yield f"{self._place(self.stage, here=1)}{self.within}, {spoken(self.clock() - self.began)} so far"

    def end(self) -> Iterator[str]:
        """What to say when the stage has ended well."""
        if self.stage is None:
            return
        stage, self.stage = self.stage, None
        self.took[stage] = self.clock() - self.began
        self._done(stage)
        left = self.rest()
        rest = "" if left is None or not self.left else f", about {spoken(left)} left"
        yield f"{self._place(stage)}, {spoken(self.took[stage])}{rest}"

    def rest(self) -> float | None:
        """About how many seconds the stages take that are left; None where nothing is known of any."""
        seconds = self.seconds_before | self.took
        if not seconds:
            return None
        usual = sum(seconds.values()) / len(seconds)
        return sum(seconds.get(stage, usual) for stage in self.left)

    def _done(self, stage: str) -> None:
        if stage in self.left:
            self.left.remove(stage)

    def _place(self, stage: str, here: int = 0) -> str:
        return f"{min(self.total, self.total - len(self.left) + here)} of {self.total} {stage}"


def spoken(seconds: float) -> str:
    """A time in words: 20 s, 2 min, 1 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def timed(stream: IO[str]) -> Iterator[str | None]:
    """The lines of a stream, and None each second in which none came."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def report(account: Account, lines: Iterable[str | None], folder: Path = Path()) -> Iterator[str]:
    """What to say, line by line; a stage's own output is written down when it ends, the lock kept when one begins."""
    for line in lines:
        stage = account.stage
        yield from account.tick() if line is None else account.line(line)
        if stage is not None and account.stage != stage:
            keep(stage, account.output)
        if account.stage not in (None, stage):
            dag.keep_lock(folder)


def keep(stage: str, output: Sequence[str]) -> Path:
    """Write down what a stage printed."""
    path = OUTPUT / f"{stage}.txt"
    with atomic.file(path) as part:
        part.write_text("\n".join(output) + "\n", encoding="utf-8")
    return path


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Entered, Ctrl-C is noted and ends nothing here: DVC and its stage get it too, and are heard to their end.

    Only the main thread can be told; in another one nothing changes.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def run(words: Sequence[str], stale: Sequence[str], folder: Path = Path()) -> tuple[int, dict[str, float]]:
    """Run `dvc repro` with these words in a folder, a line a stage; its exit status, and the seconds stages took.

    `stale` are the stages that are to be counted.
    """
    seconds = folder / SECONDS
    seconds_before = json.loads(seconds.read_text(encoding="utf-8")) if seconds.is_file() else {}
    account = Account(stale, seconds_before)
    environment = os.environ | {"PATH": search_path(), "INSTDIFF_PROGRESS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dvc", "repro", *words]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with noted_interrupts() as interrupts, subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        assert process.stdout is not None
        for line in report(account, timed(process.stdout), folder):
            print(line, flush=True)
    if interrupts:
        print("stopped; the next run goes on from here", flush=True)
    elif process.returncode and account.stage is not None:
        path = keep(account.stage, account.output)
        print(f"{account.stage} failed; its output is in {path} and ends:", *account.output[-MAX_LINES:], sep="\n")
    elif process.returncode:
        print(*account.output[-MAX_LINES:], sep="\n")
    with atomic.file(seconds) as part:
        part.write_text(json.dumps(seconds_before | account.took), encoding="utf-8")
    return INTERRUPTED if interrupts else process.returncode, account.took


def main() -> None:
    """Run `dvc repro` with the words given, and exit as it does."""
    if sys.stdout.isatty():
        environment = os.environ | {"PATH": search_path()}
        os.execve(sys.executable, [sys.executable, "-m", "dvc", "repro", *sys.argv[1:]], environment)  # noqa: S606
    try:
        graph = dag.load()
    except dag.Busy as why:
        sys.exit(str(why))
    stale = [name for name, node in graph.items() if node.stale]
    print(f"{len(stale)} of {len(graph)} stages are out of date" if stale else "everything is up to date", flush=True)
    status, _ = run(sys.argv[1:], stale)
    sys.exit(status)


if __name__ == "__main__":
    main()
