"""The data stages without a network, each started by its own command: seconds, memory, and what an addition costs.

    python bench/data_stages.py FOLDER --pictures 50000 [--pack 1000] [--more 500] [--processes 2] [--tree CHECKOUT]

Scenes are made in FOLDER, which must not exist. With --more everything runs twice again: with so many more pictures,
and with nothing to do. --tree takes code and values from another checkout, to compare. This process imports next to
nothing, since the system counts what a process held before its command began as that command's.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

STAGES = ("ingest", "ground@train", "segment@train", "caption@train", "sketch@train", "annotate@train", "shard")
COMMANDS = """
import json
from dvc.repo import Repo
print(json.dumps({stage.addressing: stage.cmd for stage in Repo().index.stages}))
"""


def prepare(folder: Path, tree: Path, pictures: int, pack: int, processes: int) -> None:
    """The values of a default run with so many scenes, in the folder."""
    folder.mkdir(exist_ok=True)
    for name in ("configs", "dvc.yaml", "weights"):
        if not (folder / name).exists():
            (folder / name).symlink_to(tree / name)
    executor = "here" if processes == 1 else "processes"
    workers = [f"work.workers.{name}={value}" for name, value in (("executor", executor), ("processes", processes))]
    values = [
        f"ingest.num_train={pictures}",
        f"ingest.work.part_size={pack}",
        *workers,
        *(f"ingest.{word}" for word in workers),
    ]
    subprocess.run([sys.executable, "-m", "instdiff.config", *values], cwd=folder, check=True)


def run(command: str, folder: Path) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processors, and MB that the largest of its processes held at most."""
    began = time.perf_counter()
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command}: ended with {status}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def measure(folder: Path, what: str, commands: dict[str, str]) -> None:
    """Run every stage and print a line each."""
    total = 0.0
    for name in STAGES:
        wall, cpu, peak = run(commands[name], folder)
        total += cpu
        print(f"{what}: {name.partition('@')[0]:8} {wall:7.1f} s {cpu:7.1f} s of processors {peak:5.0f} MB", flush=True)
    print(f"{what}: in all {total:.1f} s of processors", flush=True)


def sums(folder: Path) -> dict[str, str]:
    """A hash of each shard."""
    shards = sorted(folder.glob("data/shards/*.tar"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--pack", type=int, default=1000)
    parser.add_argument("--more", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    folder, tree = options.folder.resolve(), options.tree.resolve()
    os.environ |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", COMMANDS], cwd=tree, stdout=subprocess.PIPE, check=True)
    commands = json.loads(process.stdout)
    prepare(folder, tree, options.pictures, options.pack, options.processes)
    measure(folder, f"{options.pictures}", commands)
    if options.more is not None:
        before = sums(folder)
        prepare(folder, tree, options.pictures + options.more, options.pack, options.processes)
        measure(folder, f"{options.pictures} and {options.more} more", commands)
        after = sums(folder)
        changed = [name for name, digest in before.items() if after.get(name) != digest]
        print(f"of {len(before)} shards {len(changed)} have other bytes: {' '.join(changed)}", flush=True)
        measure(folder, "nothing to do", commands)


if __name__ == "__main__":
    main()
