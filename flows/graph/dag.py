"""The stage graph as DVC sees it. Nothing here is drawn by hand."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.lock import LockError
from dvc.repo import Repo
from networkx import topological_sort

from instdiff.files import atomic

DRAWING = "dvc.yaml"  # pages elsewhere are run by name
LOCK = "dvc.lock"
KEPT_LOCK = Path("runs/dvc.lock")


@dataclass(frozen=True)
class Node:
    """One stage, or one item of a matrix."""

    name: str
    upstream: tuple[str, ...]  # the stages whose outputs it reads
    stale: bool  # something it reads differs from dvc.lock, or may once its upstream has run
    meta: dict[str, Any]  # what dvc.yaml says of how to run it: gpus, retries


Graph = dict[str, Node]  # upstream first


class Busy(Exception):
    """Nothing can work in the tree now: another run does, or one was ended while DVC wrote its lock."""


@contextmanager
def repository(root: Path = Path()) -> Iterator[Repo]:
    """DVC's view of a folder.

    Raises:
        Busy: another run works in it, and the sentence names its process; or dvc.lock is not whole.
    """
    try:
        with Repo(str(root)) as repo:
            if not _is_whole(root / LOCK):
                with repo.lock:  # which a run holds while it writes
                    mend_lock(root)
            yield repo
    except LockError as error:
        processes = ", ".join(sorted(set(re.findall(r"PID (\d+)", str(error))))) or "unknown"
        raise Busy(f"another run works in this tree (process {processes}): wait for it, or end it") from error


def keep_lock(root: Path = Path()) -> None:
    """Copy the lock aside if it is whole: DVC writes it in place after each stage, which takes a second."""
    if (root / LOCK).is_file() and _is_whole(root / LOCK):
        with atomic.file(root / KEPT_LOCK) as part:
            shutil.copyfile(root / LOCK, part)


def mend_lock(root: Path = Path()) -> None:
    """Put the last whole lock in the place of one that a run left that was ended while DVC wrote it.

    Raises:
        Busy: none was kept.
    """
    if _is_whole(root / LOCK):
        return
    if not (root / KEPT_LOCK).is_file():
        raise Busy(
            f"{LOCK} is not whole, as a run leaves it that is ended while DVC writes it: `git checkout {LOCK}` brings "
            "back that of the last commit, and `make repro` takes what has run since from DVC's cache"
        )
    shutil.copyfile(root / KEPT_LOCK, root / LOCK)
    print(f"{LOCK} was cut off by the end of the last run; the one before its last stage is in its place")


def _is_whole(lock: Path) -> bool:
    if not lock.is_file():
        return True
    try:
        content = yaml.load(lock.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and "schema" in content


def load(root: Path = Path()) -> Graph:
    """The whole graph of a folder's dvc.yaml, each stage after those it reads from."""
    with repository(root) as repo:
        keep_lock(root)
        every = repo.index.graph  # u -> v: u reads what v writes
        page = (root / DRAWING).resolve().relative_to(repo.root_dir).as_posix()
        edges = every.subgraph(stage for stage in every if stage.path_in_repo == page)
        own = {name: stage.name for stage in edges for name in (stage.addressing, f"{stage.relpath}:{stage.name}")}
        changed = {own[name] for name in repo.status() if name in own}
        graph: Graph = {}
        for stage in reversed(list(topological_sort(edges))):
            upstream = tuple(sorted(source.name for source in edges.successors(stage)))
            stale = stage.name in changed or any(graph[name].stale for name in upstream)
            graph[stage.name] = Node(stage.name, upstream, stale, dict(stage.meta or {}))
    return graph


def upto(graph: Graph, targets: Iterable[str]) -> Graph:
    """The targets and everything they rest on; a target names a stage, or all items of its matrix.

    Raises:
        ValueError: no stage has that name.
    """
    wanted: set[str] = set()
    for target in targets:
        items = [name for name in graph if target in (name, name.partition("@")[0])]
        if not items:
            raise ValueError(f"no stage {target!r} in dvc.yaml")
        for name in items:
            wanted.update(_ancestry(graph, name))
    return {name: node for name, node in graph.items() if name in wanted}


def _ancestry(graph: Graph, name: str) -> Iterator[str]:
    yield name
    for source in graph[name].upstream:
        yield from _ancestry(graph, source)
