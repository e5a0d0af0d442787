"""What is out of date and why, in words: `make status`; `make comments` commits stages of which only comments changed.

DVC compares bytes, so that an edited comment makes every stage stale that lists the file. Here the syntax trees of the
two versions are compared, without comments and docstrings; the old version is looked for in Git by its hash.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from flows.graph import dag
from instdiff.work.resume import syntax

LOCK = Path("dvc.lock")
Changes = Sequence[Any]  # of one stage, as `dvc status` gives them


def words(changes: Changes) -> Iterator[str]:
    """Each reason why a stage is out of date."""
    for change in changes:
        if isinstance(change, str):
            yield {"changed command": "its command changed"}.get(change, change)
            continue
        for kind, files in change.items():
            for path, how in files.items():
                yield _word(kind, path, how)


def _word(kind: str, path: str, how: object) -> str:
    if isinstance(how, Mapping):
        return f"values changed: {', '.join(how)}"
    if kind == "changed outs":
        return f"{path}, which it writes, is {how}"
    return f"{'code' if path.endswith('.py') else 'input'} {path} is {how}"


def in_words_alone(stage: str, changes: Changes) -> str | None:
    """Why a stage cannot be committed as it is, or None where only comments and docstrings of its code changed."""
    recorded = {dep["path"]: dep["md5"] for dep in locked().get(stage, {}).get("deps", []) if "md5" in dep}
    for change in changes:
        files = change.get("changed deps") if isinstance(change, Mapping) and len(change) == 1 else None
        if files is None:
            return next(words([change]))
        for path, how in files.items():
            if isinstance(how, Mapping) or how != "modified" or not path.endswith(".py"):
                return _word("changed deps", path, how)
            old = version(path, recorded.get(path, ""))
            if old is None:
                return f"the version of {path} that ran is not in Git"
            if not same_meaning(old, Path(path).read_text(encoding="utf-8")):
                return f"code {path} does something else"
    return None


@cache
def locked() -> dict[str, Any]:
    """The stages of dvc.lock."""
    lock = yaml.safe_load(LOCK.read_text(encoding="utf-8")) if LOCK.is_file() else None
    stages: dict[str, Any] = (lock or {}).get("stages", {})
    return stages


@cache
def version(path: str, md5: str) -> str | None:
    """The version of a file that has this hash, from Git's history; None where there is none."""
    history = subprocess.run(["git", "log", "--format=%H", "--", path], capture_output=True, text=True, check=True)
    for commit in history.stdout.split():
        source = subprocess.run(["git", "show", f"{commit}:./{path}"], capture_output=True, check=False)
        if not source.returncode and hashlib.md5(source.stdout, usedforsecurity=False).hexdigest() == md5:
            return source.stdout.decode()
    return None


def same_meaning(old: str, new: str) -> bool:
    """Whether two sources of a module differ in comments, docstrings and layout alone."""
    try:
        return syntax(old) == syntax(new)
    except SyntaxError:
        return False


def main() -> None:
    """Say what is out of date; with --commit, take the stages whose code changed in words alone as up to date."""
    commits = sys.argv[1:] == ["--commit"]
    with dag.repository() as repo:
        changed: dict[str, Changes] = repo.status()
    refused = {stage: in_words_alone(stage, changes) for stage, changes in changed.items()}
    for stage, changes in changed.items():
        if refused[stage] is None:
            print(f"{stage}: only comments and docstrings of its code changed")
        else:
            print(f"{stage}: {'; '.join(words(changes))}")
    alike = [stage for stage, why in refused.items() if why is None]
    if commits and alike:
        subprocess.run([sys.executable, "-m", "dvc", "commit", "--quiet", "--force", *alike], check=True)
    for stage, why in refused.items():
        if commits and why is not None:
            print(f"{stage} is left as it is: {why}")
    if not changed:
        print("everything is up to date")
    elif not commits:
        print(f"`make repro` brings them up to date{'; `make comments` those that changed in words' if alike else ''}")


if __name__ == "__main__":
    try:
        main()
    except dag.Busy as why:
        sys.exit(str(why))
