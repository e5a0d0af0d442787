"""The house stays one that a stranger walks: few doors, arrows that point down, and no code that only tests call.

A room is a module or package at the door of a package; an arrow is an import between rooms, wherever it stands in a
file; floors are the longest chain of arrows.
"""

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("instdiff", "data_prep", "eval", "flows")
KEPT = {  # what no code of ours calls, and why it is there
    "instdiff.checkpoints.comfyui.write": "the way out for users of ComfyUI: docs/checkpoints.md",
    "instdiff.checkpoints.official.OFFICIAL_UNIFUSION": "sizes of the released model, of golden vectors",
    "instdiff.checkpoints.official.load_unet": "golden vectors of the released UNet",
    "instdiff.checkpoints.official.write_official": "the way out to the released code: docs/checkpoints.md",
    "instdiff.sampling.guidance.with_reloaded_first_conv": "the released numbers: docs/differences.md",
    "data_prep.annotators.lavis_worker.load": "called in another environment, by line_server.py",
    "flows.paper_flow.table": "named in prefect.yaml",
}
BY_NAME = {"main", "run", "Params"}  # found by their name in a module that a table names


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def rooms(package: str) -> dict[str, set[str]]:
    """Each room of a package, and the rooms that it imports."""
    names = {child.rpartition(".")[2] for child in graph().find_children(package)} - {"__main__"}
    arrows: dict[str, set[str]] = {name: set() for name in names}
    for module in graph().modules:
        if module.startswith(f"{package}.") and (own := module.split(".")[1]) in names:
            imported = graph().find_modules_directly_imported_by(module)
            others = {name.split(".")[1] for name in imported if name.startswith(f"{package}.")}
            arrows[own] |= (others & names) - {own}
    return arrows


def floors(arrows: dict[str, set[str]]) -> int:
    heights: dict[str, int] = {}
    for room in graphlib.TopologicalSorter(arrows).static_order():
        heights[room] = 1 + max((heights[below] for below in arrows[room]), default=0)
    return max(heights.values())


@pytest.mark.parametrize(
    ("package", "most_rooms", "most_arrows", "most_floors"), [("instdiff", 20, 75, 7), ("flows", 11, 17, 4)]
)
def test_a_package_has_few_rooms_arrows_and_floors(
    package: str, most_rooms: int, most_arrows: int, most_floors: int
) -> None:
    arrows = rooms(package)
    assert len(arrows) <= most_rooms
    assert sum(map(len, arrows.values())) <= most_arrows
    assert floors(arrows) <= most_floors


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_comes_back_to_where_it_began(package: str) -> None:
    own = {module for module in graph().modules if module.startswith(f"{package}.")}
    imports = {module: graph().find_modules_directly_imported_by(module) & own for module in own}
    graphlib.TopologicalSorter(imports).prepare()


def test_no_command_fails_unseen() -> None:
    """Whose result nobody takes has to succeed."""
    for module in graph().modules:
        for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and ast.unparse(node).startswith(("subprocess.run(", "subprocess.call(")):
                assert "check=True" in ast.unparse(node), f"{module}: line {node.lineno}"


def test_no_network_is_looked_for_on_a_hub() -> None:
    """A name that is no folder is a sentence, and nobody is told of it."""
    for module in graph().modules:
        for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in HUB:
                values = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert None in values or values.get("local_files_only") == "True", f"{module}: line {node.lineno}"


HUB = {"from_pretrained", "from_single_file", "from_config_name"}  # a `**options` is held by the test of its module


def test_what_no_code_of_ours_calls_is_listed_with_the_reason() -> None:
    assert set(unused()) == set(KEPT)


def unused() -> Iterator[str]:
    """Names at the top of a module that nothing else in it uses, and no other module imports or reads."""
    trees = {module: ast.parse(source(module).read_text(encoding="utf-8")) for module in graph().modules}
    used = set().union(*(foreign_names(tree) for tree in trees.values()))
    for module in trees.keys() - {name for name in trees if name.startswith("eval.")}:
        tree = trees[module]
        for statement in tree.body:
            for name in names_of(statement):
                inside = (node for other in tree.body if other is not statement for node in ast.walk(other))
                is_used = any(isinstance(node, ast.Name) and node.id == name for node in inside)
                if not (is_used or name in BY_NAME or f"{module}.{name}" in used):
                    yield f"{module}.{name}"


def names_of(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def foreign_names(tree: ast.Module) -> set[str]:
    """What a module imports, and what it reads of the modules that it imports, by dotted names."""
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    read = {
        f"{imported[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    return read | set(imported.values())


def source(module: str) -> Path:
    place = ROOT / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
