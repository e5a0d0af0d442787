"""A repository with a graph of six small stages, for what runs graphs.

   a          b and c each wait for the other to have begun when `meet` says so;
 /   \\        d fails when told to, or waits for the file `go`, having written a part that it finds again;
b     c       f writes what a report stage writes: metrics, pictures, a page
|     |
d     f
|
e
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from flows.graph.nursery import search_path
from instdiff.files import tables
from instdiff.work.ledger import LEDGER

STAGE = """
import json, os, pathlib, sys, time, yaml
name, *sources = sys.argv[1:]
params = yaml.safe_load(open("params.yaml"))

def wait_for(path):
    for _ in range(1200):
        if path.exists(): return
        time.sleep(0.05)
    sys.exit(f"{path} did not come")

if name in ("b", "c") and params["meet"]:
    pathlib.Path("begun-" + name).touch()
    wait_for(pathlib.Path("begun-" + {"b": "c", "c": "b"}[name]))
if name == "d":
    if params["d"]["fails"]: sys.exit("d was told to fail")
    part = pathlib.Path("d.part")
    print("found a part" if part.exists() else "nothing to go on from", flush=True)
    part.write_text(str(os.getpid()))
    if params["d"]["waits"]: wait_for(pathlib.Path("go"))
if name == "a":
    pathlib.Path("gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    print('@@progress {"done": 3, "total": 3, "unit": "pictures"}', flush=True)
if name == "f":
    value = params["f"]["value"]
    value = {"value": value, "n": 9, "low": value - .1, "high": value + .1, "better": "higher"}
    pathlib.Path("metrics.json").write_text(json.dumps({"mask": {"mask_miou": value}}))
    pathlib.Path("report.html").write_text("<p>the report</p>")
pathlib.Path(name).write_text(name + str(params.get(name)) + "".join(pathlib.Path(s).read_text() for s in sources))
"""
EDGES = {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": ["d"], "f": ["c"]}
CONFIG = """
defaults: [_self_, {experiment: null}]
meet: false
a: {value: 1}
d: {fails: false, waits: false}
f: {value: 0.5}
"""
DEPLOYMENT = {"targets": [], "experiment": "default", "overrides": [], "schedule": None, "timezone": "UTC"}


def run(*command: str, at: Path) -> str:
    """What a command prints; it must succeed."""
    environment = {**os.environ, "PATH": search_path()}
    environment |= {"DVC_NO_ANALYTICS": "1", "INSTDIFF_PROGRESS": ""}
    done = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dvc(*words: str, at: Path) -> str:
    """What a DVC command prints."""
    return run(sys.executable, "-m", "dvc", *words, at=at)


def write(folder: Path, settings: dict[str, Any]) -> Path:
    """The repository, its first commit made; `settings` are its configs/deployments.yaml."""
    (folder / "configs" / "experiment").mkdir(parents=True)
    (folder / "configs" / "config.yaml").write_text(CONFIG)
    (folder / "configs" / "experiment" / "small.yaml").write_text("# @package _global_\na: {value: 7}\n")
    (folder / "configs" / "deployments.yaml").write_text(json.dumps(settings))
    (folder / "stage.py").write_text(STAGE)
    stages: dict[str, Any] = {
        name: {"cmd": f"python stage.py {' '.join([name, *sources])}", "deps": ["stage.py", *sources], "outs": [name]}
        for name, sources in EDGES.items()
    }
    stages["a"] |= {"params": ["a"], "meta": {"gpus": 1}}
    stages["b"]["params"] = stages["c"]["params"] = ["meet"]
    stages["d"] |= {"params": ["d"], "meta": {"retries": 1}}
    shown = {"metrics": "metrics.json", "page": "report.html", "samples": "samples.png", "ledger": "ledger"}
    stages["f"] |= {"params": ["f"], "metrics": [{"metrics.json": {"cache": False}}], "meta": {"show": shown}}
    stages["f"]["outs"] = ["f", "report.html"]
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (folder / "ledger").mkdir()
    dropped = [{"key": "x", "index": 0, "reason": "too_small", "detail": "3 pixels"}] * 2
    tables.write(folder / "ledger" / "annotate.parquet", pd.DataFrame(dropped), LEDGER)
    Image.new("RGB", (8, 8), "red").save(folder / "samples.png")
    run("git", "init", "-q", "-b", "main", at=folder)
    dvc("init", "-q", at=folder)
    for line in ("core.autostage true", "hydra.enabled true", "hydra.config_dir configs", "hydra.config_name config"):
        dvc("config", *line.split(), at=folder)
    before = {"value": 0.9, "n": 9, "low": 0.8, "high": 1.0, "better": "higher"}
    (folder / "metrics.json").write_text(json.dumps({"mask": {"mask_miou": before}}))
    (folder / ".gitignore").write_text("/begun-*\n/gpu\n/d.part\n/go\n/.prefect/\n")
    run("git", "config", "user.email", "toy@example.org", at=folder)
    run("git", "config", "user.name", "Toy", at=folder)
    run(sys.executable, "-m", "instdiff.config", at=folder)
    run("git", "add", ".", at=folder)
    run("git", "commit", "-q", "-m", "A toy", at=folder)
    return folder


def gone(process: int) -> bool:
    """Ended, or about to be collected by whoever adopted it."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
