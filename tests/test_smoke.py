"""Every stage, for real and small, in a fresh copy of the repository; then what DVC promises about it."""

import json
import multiprocessing
import os
import random
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from flows import repro
from flows.graph.nursery import search_path
from instdiff.files import provenance
from instdiff.progress import TAG

ROOT = Path(__file__).parents[1]
ROWS = {"real", "reconstructed", "none", "box", "scribble", "mask_mis"}
VALUES = ["experiment=smoke", "~rows.mask", "~rows.point", "~rows.hybrid", "~rows.box_mis"]  # six rows are enough
METRICS = {
    "box_ap50",
    "mask_ap50",
    "mask_miou",
    "pim",
    "colour_accuracy",
    "texture_accuracy",
    "shape_accuracy",
    "colour_leak",
    "fid",
}

pytestmark = pytest.mark.slow


def ran(output: str) -> set[str]:
    """Names of the stages of which DVC says so."""
    return set(re.findall(r"Running stage '([^']+)'", output))


@dataclass(frozen=True)
class Copy:
    """A repository of its own, with commands run as a person would."""

    folder: Path

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}"
        return done.stdout

    def compose(self, *overrides: str) -> None:
        self.run("python", "-m", "instdiff.config", *VALUES, *overrides)

    def repro(self, *options: str) -> set[str]:
        """Names of the stages that DVC ran."""
        return ran(self.run("dvc", "repro", *options))

    def flow(self) -> set[str]:
        """Names of the stages that the flow ran, three at a time: most of each is imports."""
        command = ["python", "-m", "flows.pipeline", *VALUES, "--jobs", "3"]
        total, start, shown = len(self.stages()), time.monotonic(), 0.0
        lines: list[str] = []
        begun: dict[str, None] = {}
        with subprocess.Popen(
            command, cwd=self.folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            for line in repro.timed(process.stdout):
                lines.append(line or "")
                new = dict.fromkeys(ran(line or ""))
                begun |= new
                now = time.monotonic() - start
                if new or now - shown >= repro.BETWEEN:
                    shown = now
                    print(f"{len(begun)} of {total} {next(reversed(begun), 'begins')}, {repro.spoken(now)} so far")
        assert process.returncode == 0, "\n".join(lines[-200:])
        return set(begun)

    def locked(self, stage: str) -> dict[str, Any]:
        """Command and outputs of a stage that ran."""
        lock: dict[str, Any] = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"][stage]
        return {"cmd": lock["cmd"], "outs": [out["path"] for out in lock["outs"]]}

    def outputs(self, stage: str) -> dict[str, str]:
        """File that the stage wrote -> hash of its bytes."""
        places = [self.folder / out for out in self.locked(stage)["outs"]]
        files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
        return {path.relative_to(self.folder).as_posix(): provenance.of_file(path) for path in files if path.is_file()}

    def stages(self) -> set[str]:
        listed = self.run("dvc", "stage", "list", "--name-only")
        return set(listed.split())


ENVIRONMENT = os.environ | {
    "PATH": search_path(),
    "DVC_NO_ANALYTICS": "1",
    "PYTHONUNBUFFERED": "1",
    "PREFECT_HOME": ".prefect",  # in the copy
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The repository as a clone of it would be, with the smoke experiment brought up to date once."""
    folder = tmp_path_factory.mktemp("smoke") / "instdiff"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name not in {"", "dvc.lock"} and (ROOT / name).is_file():  # the lock is of another run, and slow to rewrite
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    copied = Copy(folder)
    copied.run("git", "init", "--quiet")
    copied.run("git", "add", "--all")
    copied.run("git", "-c", "user.name=smoke", "-c", "user.email=smoke@localhost", "commit", "--quiet", "-m", "copy")
    copied.compose()
    assert copied.flow() == copied.stages()
    print(f"\nsmoke report: {folder / 'report.html'}")
    return copied


def test_the_whole_pipeline_ends_in_a_table_and_a_report(copy: Copy) -> None:
    table = json.loads((copy.folder / "metrics.json").read_text())
    assert table.keys() == ROWS
    for row in table.values():
        assert row.keys() == METRICS
        for metric in row.values():
            assert metric.keys() == {"value", "n", "low", "high", "better"}
            assert metric["n"] > 0
    assert "<html" in (copy.folder / "report.html").read_text()


def test_a_finished_tree_has_nothing_to_do(copy: Copy) -> None:
    assert copy.repro() == set()


def test_a_changed_value_runs_its_stage_and_unchanged_outputs_stop_there(copy: Copy) -> None:
    copy.compose("caption.batch_size=7")
    try:
        own = {"caption@train", "caption@val"}
        readers = {"look", "report"}  # of ledgers, whose parts say what they were made from
        assert copy.repro() == own | readers
    finally:
        copy.compose()
    assert copy.repro() - {"look"} == {*own, "report"}  # DVC's cache of runs leaves out outputs that persist


# Every stage that a person waits for.
LONG = ["ingest", "clip@text", "vae", "unet", "detector", "embed", "train", "generate@box"]


@pytest.mark.parametrize("stage", LONG)
def test_a_kill_at_any_moment_costs_time_and_changes_nothing(copy: Copy, stage: str) -> None:
    finished = copy.outputs(stage)
    for left in ("runs", *copy.locked(stage)["outs"]):  # what is there already is not made again
        path = copy.folder / left
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    kill_in_the_middle(copy, stage)
    process, output = begin(copy, stage)
    output.read()  # to its end, or a stage that says much would wait for a reader
    process.join()
    assert process.exitcode == 0
    assert copy.outputs(stage) == finished


def kill_in_the_middle(copy: Copy, stage: str) -> None:
    """Begin the stage and kill it, children included, when it has said how far it got, or a little later."""
    process, output = begin(copy, stage)
    reports = (json.loads(line.removeprefix(TAG)) for line in output if line.startswith(TAG))
    if (first := next(reports, None)) is not None and first["done"] < first["total"]:
        time.sleep(random.Random(stage).random() / 5)
    assert process.is_alive() and process.pid, f"{stage} was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def begin(copy: Copy, stage: str) -> tuple[BaseProcess, IO[str]]:
    """The stage's command in a fork of a process that has imported already, in a group of its own; what it prints."""
    modules = {shlex.split(copy.locked(name)["cmd"])[2] for name in LONG}
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(sorted(modules))
    reader, writer = forks.Pipe(duplex=False)
    process = forks.Process(target=become, args=(copy.folder, shlex.split(copy.locked(stage)["cmd"])[2:], writer))
    process.start()
    writer.close()
    return process, os.fdopen(os.dup(reader.fileno()), encoding="utf-8", errors="replace")


def become(folder: Path, words: list[str], output: Connection) -> None:
    """Be `python -m words...` in the folder."""
    os.setsid()
    os.chdir(folder)
    os.environ["INSTDIFF_PROGRESS"] = "1"
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
