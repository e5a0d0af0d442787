"""The way back: `make back` gives the tree the values and outputs of the last commit, and loses nothing.

`git checkout params.yaml dvc.lock && dvc checkout` deletes what the last commit's outputs are not: where these are not
in DVC's cache, as in a clone that has never run them, nothing is left. So this looks first, and puts the present lock,
values and metrics into Git's stash.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from flows.graph import dag
from instdiff.config import compose


def missing(lock: dict[str, Any], cache: Path) -> Iterator[str]:
    """The outputs that a dvc.lock names and neither DVC's cache nor Git has."""
    for stage in lock.get("stages", {}).values():
        for out in stage.get("outs", []):
            if not _cached(str(out["md5"]), cache) and not _in_git(out["path"]):
                yield out["path"]


def _of_graph(lock: dict[str, Any]) -> dict[str, Any]:
    """The lock of the stages that the last commit's graph has: rows that its values leave out keep their entries."""
    with Repo(rev="HEAD") as repo:
        names = {stage.name for stage in repo.index.stages if isinstance(stage, PipelineStage)}
    return {**lock, "stages": {name: stage for name, stage in lock.get("stages", {}).items() if name in names}}


def _cached(md5: str, cache: Path) -> bool:
    path = cache / md5[:2] / md5[2:]
    if not path.is_file():
        return False
    inside = json.loads(path.read_text(encoding="utf-8")) if md5.endswith(".dir") else []
    return all((cache / entry["md5"][:2] / entry["md5"][2:]).is_file() for entry in inside)


def _in_git(path: str) -> bool:
    return subprocess.run(["git", "cat-file", "-e", f"HEAD:./{path}"], capture_output=True, check=False).returncode == 0


def unsaved(status: dict[str, Any]) -> list[str]:
    """Outputs that were changed by hand or left by a stage that did not end, which no cache has."""
    changes = [change for reasons in status.values() for change in reasons if isinstance(change, dict)]
    outs = {path: how for change in changes for path, how in change.get("changed outs", {}).items()}
    return sorted(path for path, how in outs.items() if how in ("modified", "new") and not _in_git(path))


def main() -> None:
    """Go back, or say why not and what to do."""
    lock_of_head = subprocess.run(["git", "show", "HEAD:./dvc.lock"], capture_output=True, text=True, check=False)
    lock = _of_graph(yaml.safe_load(lock_of_head.stdout) or {})
    with dag.repository() as repo:
        status, cache = repo.status(), Path(repo.cache.local.path)
    if changed := unsaved(status):
        sys.exit(
            f"nothing was done: no stage finished {', '.join(changed)}; `make repro` does, `dvc commit` keeps it so"
        )
    if absent := sorted(set(missing(lock, cache))):
        compose.compile_params([])
        sys.exit(
            f"params.yaml has the values of configs/ again. Data stay as they are: of the last commit's outputs "
            f"{len(absent)} are not in DVC's cache here ({absent[0]}, ...); `dvc pull` fetches them where a remote has "
            f"them, `make repro` computes them"
        )
    files = dict.fromkeys(["params.yaml", "dvc.lock", *_outs(lock)])
    quiet = ["-c", "apply.whitespace=nowarn"]  # of the lock, whose lines may end in a blank
    stash = ["git", *quiet, "stash", "push", "--quiet", "--message", "before make back", "--", *filter(_in_git, files)]
    before = _stashed()
    subprocess.run(stash, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet"], check=True)
    forth = "" if _stashed() == before else "; `git stash pop && dvc checkout` returns to what was"
    print(f"the tree is as the last commit has it{forth}")


def _stashed() -> str:
    return subprocess.run(["git", "stash", "list"], capture_output=True, text=True, check=True).stdout


def _outs(lock: dict[str, Any]) -> list[str]:
    return [out["path"] for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])]


if __name__ == "__main__":
    try:
        main()
    except dag.Busy as why:
        sys.exit(str(why))
