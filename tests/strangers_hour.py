"""A stranger's first hour, scripted: `make hour`, or `make hour SMALL=1` with values that take minutes.

In a fresh clone in a fresh folder, with Python, Git and make: rebuild the default run, draw the README's picture, take
a folder of COCO's from its files to a table, go back, mistype a value, stop a run in the middle and go on, go back
again, use the page of `make ui`, compare an experiment. Every command, what a stranger sees of it and how long it took
is printed; the first that does not do what the pages say ends the hour.

SMALL borrows the environment of this tree instead of installing one.
"""

import argparse
import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
FEW_ROWS = "~rows.reconstructed ~rows.mask ~rows.point ~rows.scribble ~rows.hybrid ~rows.box_mis ~rows.mask_mis"
SHIPPED = (  # networks and layers as they are shipped, so that pictures look as in the README
    "clip=import vae=import unet=import detector=import generate.steps=12 train.start.kind=layers "
    "train.start.weights=weights/miniature/instance/layers train.optimisation.learning_rate=1e-9"
)
SMALL = {  # overrides of each run
    "default": f"experiment=smoke {SHIPPED} {FEW_ROWS}",
    "my": f"train.batch_size=4 train.optimisation.steps=4 generate.steps=2 score.num_resamples=50 {FEW_ROWS}",
}
PATIENCE = 120 * 60  # seconds that a command may take


class Failed(Exception):
    """A step did not do what the pages say."""


class Seen(NamedTuple):
    """What a command printed, and how it ended."""

    text: str
    status: int


class Hour:
    """A clone, and commands run in it as a person would."""

    def __init__(self, folder: Path, *, small: bool) -> None:
        self.folder, self.small = folder, small
        self.steps: list[tuple[str, float]] = []
        who = {f"GIT_{role}_{what}": "stranger" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        dropped = {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "SMALL"}
        own = {name: value for name, value in os.environ.items() if name not in dropped}
        path = f"{folder}/.venv/bin{os.pathsep}{os.environ['PATH']}"
        self.environment = own | who | {"PATH": path} | ({"PYTHONPATH": str(folder)} if small else {})

    def of(self, run: str) -> str:
        """The overrides of a run."""
        return SMALL[run] if self.small else ""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a title before, and the time after."""
        print(f"\n## {title}", flush=True)
        begun = time.monotonic()
        yield
        self.steps.append((title, time.monotonic() - begun))
        print(f"   ({spoken(self.steps[-1][1])})", flush=True)

    def run(self, command: str, *, status: int | None = 0, stop: Callable[[str], bool] | None = None) -> Seen:
        """Run a command line and show what it prints; `stop` says after which line it is interrupted, as by Ctrl-C.

        Raises:
            Failed: it ended otherwise than with `status`, or showed a traceback.
        """
        print(f"   $ {command}", flush=True)
        begun, seen = time.monotonic(), []
        process = self.started(command)
        assert process.stdout is not None
        for line in process.stdout:
            print(f"     {line.rstrip()}", flush=True)
            seen.append(line)
            if stop is not None and stop(line):
                stop = None
                print("     ^C", flush=True)
                os.killpg(process.pid, signal.SIGINT)
            if time.monotonic() - begun > PATIENCE:
                os.killpg(process.pid, signal.SIGKILL)
        ended, text = process.wait(), "".join(seen)
        if status is not None and ended != status:
            raise Failed(f"{command}: ended with {ended}, expected {status}")
        if "Traceback (most recent call last)" in text:
            raise Failed(f"{command}: showed a traceback")
        return Seen(text, ended)

    def started(self, command: str) -> "subprocess.Popen[str]":
        """The command, begun in a session of its own, so that it can be interrupted with its children."""
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def quietly(self, *words: str) -> str:
        """What a command prints, not shown."""
        done = subprocess.run(words, cwd=self.folder, env=self.environment, text=True, capture_output=True, check=True)
        return done.stdout

    def holds(self, name: str) -> None:
        """A file must be there."""
        if not list(self.folder.glob(name)):
            raise Failed(f"{name} is not there")

    def up_to_date(self) -> None:
        """No stage may be out of date."""
        if "everything is up to date" not in self.run("make status").text:
            raise Failed("the tree is not up to date")

    def changed(self) -> str:
        """What differs from the last commit, among the files of the repository."""
        return self.quietly("git", "status", "--porcelain", "--untracked-files=no")


def spoken(seconds: float) -> str:
    """A time in words."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def cloned(hour: Hour) -> None:
    """The repository as it was committed, and an environment."""
    hour.folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"   $ git clone {ROOT} {hour.folder}")
    subprocess.run(["git", "clone", "--quiet", ROOT, hour.folder], check=True)
    if hour.small:
        (hour.folder / ".venv").symlink_to(ROOT / ".venv")
    hour.run("make setup")


def rebuilt(hour: Hour) -> None:
    """The default run, which is then kept."""
    hour.run(make_repro(hour.of("default")))
    hour.holds("report.html")
    hour.run("git commit -qam 'My first run' && git log -1 --format=%s")
    hour.up_to_date()


def make_repro(overrides: str, *more: str) -> str:
    """`make repro` with these overrides."""
    named = re.search(r"experiment=(\S+) ?", overrides)
    words = [f"EXPERIMENT={named[1]}"] if named else []
    rest = overrides.replace(named[0], "") if named else overrides
    return shlex.join(["make", "repro", *words, *more, *([f"OVERRIDES={rest}"] if rest else [])])


def drawn(hour: Hour) -> None:
    """The picture of the README, by the commands as they stand there."""
    page = (hour.folder / "README.md").read_text()
    layout = re.search(r"<!-- file: layout.json -->\n```json\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"<!-- runs -->\n```\n(.*?)```", page, re.DOTALL)
    if layout is None or not commands:
        raise Failed("README.md has no layout or no command that draws it")
    (hour.folder / "layout.json").write_text(layout[1])
    for line in commands[0].strip().splitlines():
        hour.run(line)
    hour.holds("OUTPUT/layout/*/shapes-0.png")
    hour.holds("OUTPUT/layout/*/provenance.json")


def taken(hour: Hour) -> None:
    """Pictures of one's own, from the files to a table."""
    mine = hour.folder.parent / "mine"
    hour.run(f"PYTHONPATH=. python tests/worlds/own_folder.py {mine} {40 if hour.small else 2000}")
    hour.run(make_repro(hour.of("my"), "EXPERIMENT=my-coco", f"MY={mine}"))
    table = json.loads((hour.folder / "metrics-my.json").read_text())
    if not {"real", "none", "box"} <= table.keys():
        raise Failed(f"metrics-my.json has the rows {', '.join(table)}")


def returned(hour: Hour) -> None:
    """The values and outputs of the last commit."""
    hour.run("make back")
    if left := hour.changed():
        raise Failed(f"after `make back` these differ from the last commit:\n{left}")
    hour.up_to_date()


def mistyped(hour: Hour) -> None:
    """A value that is wrong is one sentence, and changes nothing."""
    for wrong, says in (("generate.guidence=6", "did you mean generate.guidance?"), ("generate.steps=ten", "integer")):
        seen = hour.run(f"python -m instdiff.config {hour.of('default')} {wrong}", status=1)
        if says not in seen.text or len(seen.text.splitlines()) != 1:
            raise Failed(f"{wrong}: not one sentence with {says!r}")
        if hour.changed():
            raise Failed(f"{wrong}: the tree has changed")


def stopped(hour: Hour) -> None:
    """A run that is interrupted in the middle goes on from there."""
    changed = make_repro(f"{hour.of('default')} generate.guidance=5".strip())
    begun = re.compile(r"\d+ of \d+ generate")
    seen = hour.run(changed, status=None, stop=lambda line: bool(begun.match(line)))
    if seen.status == 0:
        raise Failed("the run was over before it could be stopped")
    again = hour.run(changed)
    done = {line.split()[3] for line in seen.text.splitlines() if re.match(r"\d+ of \d+ \S+ ?, ", line)}
    if twice := {stage for stage in done if re.search(rf"of \d+ {re.escape(stage)}, ", again.text)}:
        raise Failed(f"these ran twice: {', '.join(sorted(twice))}")


def watched(hour: Hour) -> None:
    """The user interface: asked for a run, which ends well, and stopped."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = f"make ui PORT={port}"
    print(f"   $ {command} &", flush=True)
    process = hour.started(command)
    assert process.stdout is not None
    try:
        where = None
        for line in process.stdout:
            print(f"     {line.rstrip()}", flush=True)
            if where := re.match(r"Open (http://[^/]+)/\S*#(\S+)", line):
                break
        if where is None:
            raise Failed("`make ui` printed no address")
        server = Server(where[1], where[2])
        server.until(lambda: server.get("/health") is True, "the health page")
        print(f"   GET {where[1]}/api/health: {server.get('/health')}", flush=True)
        deployment = server.until(lambda: server.get("/deployments/name/instdiff/rebuild"), "the deployment")
        named, *rest = hour.of("default").split() or [""]
        values = {"experiment": named.removeprefix("experiment=") or "default", "overrides": rest}
        run = server.post(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": values})
        print(f"   asked for a run of `rebuild`: {run['name']}", flush=True)

        def ended() -> Any:
            state = server.get(f"/flow_runs/{run['id']}")["state"]
            return state if state["type"] in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"} else None

        state = server.until(ended, "the end of the run")
        print(f"   it is {state['name']}", flush=True)
        if state["type"] != "COMPLETED":
            raise Failed(f"the run is {state['name']}: {state['message']}")
    finally:
        print("   ^C", flush=True)
        os.killpg(process.pid, signal.SIGINT)
        for line in process.stdout:
            print(f"     {line.rstrip()}", flush=True)
        process.wait(60)
    with socket.socket() as listener:
        if listener.connect_ex(("127.0.0.1", port)) == 0:
            raise Failed("the server outlives `make ui`")


class Server:
    """Prefect's, asked as the page asks it."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self.header = {"Authorization": f"Basic {base64.b64encode(token.encode()).decode()}"}

    def get(self, path: str) -> Any:
        """What it answers; None where it answers with an error, or not yet."""
        try:
            return self._answer(Request(f"{self.address}/api{path}", headers=self.header))
        except OSError:
            return None

    def post(self, path: str, content: Any) -> Any:
        """What it answers when it is sent something.

        Raises:
            Failed: with its own words where it refuses.
        """
        header = self.header | {"Content-Type": "application/json"}
        try:
            return self._answer(Request(f"{self.address}/api{path}", json.dumps(content).encode(), header))
        except HTTPError as error:
            raise Failed(f"{path}: {error.code} {error.read().decode(errors='replace')[:500]}") from error

    def until(self, answer: Callable[[], Any], what: str) -> Any:
        """The first answer that is one."""
        begun = time.monotonic()
        while (reply := answer()) is None:
            if time.monotonic() - begun > PATIENCE:
                raise Failed(f"{what} did not come")
            time.sleep(1)
        return reply

    def _answer(self, request: Request) -> Any:
        with urlopen(request, timeout=300) as reply:
            return json.loads(reply.read())


def compared(hour: Hour) -> None:
    """An experiment by its name, and what it changed."""
    values = " ".join(f"-S {word}" for word in [*hour.of("default").split(), "generate.guidance=5"])
    hour.run(f"dvc exp run --name guidance-5 {values}")
    hour.run("instdiff compare HEAD guidance-5 --row box --html compare.html")
    hour.holds("compare.html")


STEPS: dict[str, Callable[[Hour], None]] = {
    "a fresh clone": cloned,
    "rebuild": rebuilt,
    "the README's picture": drawn,
    "pictures of one's own": taken,
    "the way back": returned,
    "a wrong value": mistyped,
    "stopped in the middle, and on": stopped,
    "the way back again": returned,
    "the page": watched,
    "an experiment compared": compared,
}


def main() -> None:
    """Print every step; exit with 1 at the first that fails."""
    parser = argparse.ArgumentParser(prog="make hour", description=__doc__)
    parser.add_argument("--small", action="store_true", help="values that take minutes, and this tree's environment")
    parser.add_argument("--folder", type=Path, help="where the clone goes, or is; a new one by default")
    parser.add_argument("--start", type=int, default=1, metavar="STEP", help="go on at this step in --folder")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, by all children too
    folder = options.folder or Path(tempfile.mkdtemp(prefix="strangers-hour-"))
    hour = Hour(folder.resolve() / "instdiff", small=options.small)
    for number, (title, step) in enumerate(STEPS.items(), start=1):
        if number < options.start:
            continue
        try:
            with hour.step(f"{number} of {len(STEPS)}: {title}"):
                step(hour)
        except Failed as why:
            sys.exit(f"\nFAILED: {why}\nthe clone is {hour.folder}; --folder {folder} --start {number} goes on there")
    print("\n" + "\n".join(f"{spoken(seconds):>9}  {title}" for title, seconds in hour.steps))
    print(f"{spoken(sum(seconds for _, seconds in hour.steps)):>9}  in all; the clone is {hour.folder}")


if __name__ == "__main__":
    main()
