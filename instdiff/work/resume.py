"""Half-done work between kills: it is named by a digest of all that decides it, no less and no more.

That is the stage's parameters but for `work`, its inputs, and what the code does that the stage imports. Comments,
docstrings and formatting do nothing, and neither do the modules that only start a stage, show it or rename its files.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

import grimp

from instdiff.files import atomic, provenance
from instdiff.schema import Strict

PACKAGES = ("instdiff", "data_prep", "eval")
STARTERS = frozenset(  # no byte of an output is theirs
    {
        "instdiff.config.combinations",
        "instdiff.config.values",
        "instdiff.files.atomic",
        "instdiff.files.value_faults",
        "instdiff.progress",
        "instdiff.stage",
    }
)


BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where statements hold statements
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def digest(stage: str, params: Strict, *inputs: Path | str) -> str:
    """What a half-done run of a stage belongs to: its module, parameters, code, and inputs.

    An input is a file or folder, which stands for its bytes, or a text, such as a hash that is known already.
    """
    sums = [provenance.of_path(each) if isinstance(each, Path) else each for each in inputs]
    text = "\n".join([stage, params.model_dump_json(exclude={"work"}), *sums, code(stage)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder(digest: str) -> Path:
    """Where a run keeps its checkpoints, or what it has finished, between kills."""
    return Path("runs") / digest


def clear(scratch: Path) -> None:
    """Remove what lies between kills, once the result is written."""
    atomic.remove(scratch)


def code(stage: str) -> str:
    """A hash of what the stage's code does: the syntax trees of all modules it imports."""
    return hashlib.sha256("\n".join(_meaning(source(name)) for name in modules(stage)).encode()).hexdigest()


@cache  # a process runs the code that it has imported
def _meaning(path: Path) -> str:
    return hashlib.sha256(syntax(path.read_text(encoding="utf-8")).encode()).hexdigest()


@cache
def modules(stage: str) -> tuple[str, ...]:
    """The stage's module and all first-party modules that it imports, directly or not, in the order of the names."""
    graph = _graph()
    reached = {stage, *graph.find_upstream_modules(stage)} - STARTERS
    rooms = {name for name in reached if graph.find_children(name) or name in PACKAGES}
    return tuple(sorted(name for name in reached if name not in rooms or graph.find_modules_directly_imported_by(name)))


def source(module: str) -> Path:
    """The file of a first-party module."""
    place = Path(__file__).parents[2] / module.replace(".", "/")
    package = place / "__init__.py"
    return package if package.is_file() else place.with_suffix(".py")


def syntax(text: str) -> str:
    """What the code says, without comments, docstrings and formatting."""
    tree = ast.parse(text)
    for node in _with_docstrings(tree):
        node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _with_docstrings(tree: ast.Module) -> list[Documented]:
    """The nodes that have one; statements alone are looked through, which are few beside expressions."""
    documented: list[Documented] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        todo += (inner for name in BLOCKS for inner in getattr(node, name, ()))
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            documented.append(node)
    return documented


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)
