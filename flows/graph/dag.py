"""The stage graph as DVC sees it. Nothing here is drawn by hand."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from networkx import topological_sort

DRAWING = "dvc.yaml"  # pages elsewhere are run by name


@dataclass(frozen=True)
class Node:
    """One stage, or one item of a matrix."""

    name: str
    upstream: tuple[str, ...]  # the stages whose outputs it reads
    stale: bool  # something it reads differs from dvc.lock, or may once its upstream has run
    meta: dict[str, Any]  # what dvc.yaml says of how to run it: gpus, retries


Graph = dict[str, Node]  # upstream first


def load(root: Path = Path()) -> Graph:
    """The whole graph of a folder's dvc.yaml, each stage after those it reads from."""
    with Repo(str(root)) as repo:
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
