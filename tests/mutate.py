"""Plant small faults in the code one at a time and see which ones the tests notice: `make mutate`.

The faults are Cosmic Ray's; each place of a module is tried with a single one, chosen by the seed. A mutant meets the
test files that concern its module: those that import it, or import what imports it, by the import graph, the nearest
first. Some processes on copies of the tree do this, each test file in a fork, so that libraries are loaded once.
"""

import argparse
import ast
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import grimp
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
PACKAGES = ("instdiff", "data_prep", "eval", "flows")
SCRATCH = ROOT / "runs" / "mutate"
PATIENCE = 4  # times the seconds of the processor that a test file may take, on the clock: machines are busy
OF_ALL = ("tests/test_flags.py",)  # laws that read every source
KINDS = (  # what a hurried hand would write; the others mostly end in a TypeError, which any call notices
    *("*Operator_Add_Sub", "*_Sub_Add", "*_Mul_Div", "*_Div_Mul", "*_FloorDiv_Mul", "*_Mod_FloorDiv"),
    *("*_BitAnd_BitOr", "*_BitOr_BitAnd", "*_LShift_RShift", "*_RShift_LShift", "*_Delete_*", "*_Eq_NotEq"),
    *("*_NotEq_Eq", "*_Lt_LtE", "*_LtE_Lt", "*_Gt_GtE", "*_GtE_Gt", "*_Is_IsNot", "*_IsNot_Is", "core/AddNot"),
    *("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/ReplaceAndWithOr", "core/ReplaceOrWithAnd"),
    *("core/*Break*", "core/ExceptionReplacer", "core/NumberReplacer", "core/RemoveDecorator", "core/ZeroIteration*"),
)


class Mutant(NamedTuple):
    """A fault: the operator, its how-manyeth chance in the file, and the line."""

    file: str
    operator: str
    occurrence: int
    line: int

    @property
    def package(self) -> str:
        return self.file.partition("/")[0]

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def mutants(file: str, draw: random.Random) -> list[Mutant]:
    """One fault for each place of a file; annotations of types are no places."""
    text = (ROOT / file).read_text(encoding="utf-8")
    tree, places = get_ast(text), dict[Any, list[Mutant]]()
    unread = list(_annotations(ast.parse(text)))
    for name in plugins.operator_names():
        if any(fnmatch(name, kind) for kind in KINDS):
            operator = plugins.get_operator(name)()
            spans = (span for node in ast_nodes(tree) for span in operator.mutation_positions(node))
            for occurrence, (start, stop) in enumerate(spans):
                if not any(first <= start and stop <= last for first, last in unread):
                    places.setdefault(start, []).append(Mutant(file, name, occurrence, start[0]))
    return [draw.choice(places[place]) for place in sorted(places)]


def compiles(mutant: Mutant) -> bool:
    """Whether it is a fault at all: a star of a signature is no product."""
    try:
        compile(mutated((ROOT / mutant.file).read_text(encoding="utf-8"), mutant), mutant.file, "exec")
    except (SyntaxError, AttributeError):  # the second is Cosmic Ray's own, of a dotted name among exceptions
        return False
    return True


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(note := getattr(node, name, None), ast.expr):
                yield (note.lineno, note.col_offset), (note.end_lineno or 0, note.end_col_offset or 0)


def concerned(graph: grimp.ImportGraph) -> dict[str, list[str]]:
    """Module -> the test files within two steps of imports, nearest first; of a module without any, the nearest.

    Of those as near, the ones that import it themselves come before those whose helpers do. Before them all come the
    laws that read every source, which import none.
    """
    imported = own = {path: _imports(path, graph.modules) for path in sorted((ROOT / "tests").rglob("*.py"))}
    while (grown := {path: names | _through_helpers(names, imported) for path, names in imported.items()}) != imported:
        imported = grown
    by_name = _loaded_by_name(graph.modules)
    tests = {path.relative_to(ROOT).as_posix(): names for path, names in imported.items() if _is_test(path)}
    files_of = {}
    for module in graph.modules:
        ring, seen, files = {module}, {module}, list[str]()
        for distance in range(6):
            if distance > 1 and files:
                break
            near = [path for path, names in tests.items() if names & ring and path not in files]
            files += sorted(near, key=lambda path: (not own[ROOT / path] & ring, len(tests[path])))
            near_by = (graph.find_modules_that_directly_import(each) | by_name.get(each, set()) for each in ring)
            ring = set().union(*near_by) - seen
            seen |= ring
        files_of[module] = [*OF_ALL, *files] if files else []
    return files_of


def _loaded_by_name(modules: set[str]) -> dict[str, set[str]]:
    """Module -> those that load it by its name, whole or made of its package's and a table's."""
    loads = dict[str, set[str]]()
    for module in modules:
        for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
            text = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            if isinstance(text, ast.Constant) and isinstance(name := text.value, str):
                prefix = name if text is not node and name.endswith(".") else None
                for other in (each for each in modules if each == name or (prefix and each.startswith(prefix))):
                    loads.setdefault(other, set()).add(module)
    return loads


def _is_test(path: Path) -> bool:
    return path.name.startswith("test_")


def _through_helpers(names: set[str], imported: dict[Path, set[str]]) -> set[str]:
    return {each for path, own in imported.items() if not _is_test(path) and path.stem in names for each in own}


def _imports(path: Path, modules: set[str]) -> set[str]:
    """First-party modules and test helpers that a file imports, or names in a command."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules:
            names.add(node.value)
    return names


def changed(base: str) -> set[str]:
    """Files that differ from where the branch left its base, committed or not."""
    since = _git("merge-base", "HEAD", base).strip()
    return {*_git("diff", "--name-only", since).split(), *_git("ls-files", "--others", "--exclude-standard").split()}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def copied(name: str) -> Path:
    """A copy of the working tree with its history, for one process."""
    tree = SCRATCH / name
    shutil.rmtree(tree, ignore_errors=True)
    _git("clone", "--quiet", "--shared", str(ROOT), str(tree))
    for file in _git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / file).is_file():
            shutil.copyfile(ROOT / file, tree / file)
    return tree


def planned(modules: set[str]) -> tuple[dict[str, list[str]], set[str]]:
    """The test files of every module, and the modules that these ones rest on, themselves among them."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return concerned(graph), modules.union(*(graph.find_upstream_modules(module) for module in modules))


def load_libraries(modules: set[str]) -> None:
    """Import what the modules take from others: a fork then starts at once.

    Those of flows are left to the forks: Prefect and DVC start threads.
    """
    for path in sorted(path for path in map(source, modules) if path.parent != ROOT / "flows"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.partition(".")[0] not in (*PACKAGES, ""):
                    try:
                        import_module(name)
                    except ImportError:
                        continue
    import_module("hypothesis.extra.numpy")


def source(module: str) -> Path:
    """The file of a first-party module."""
    place = ROOT / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def passes(test: str, limit: float) -> tuple[bool, float]:
    """Whether the tests of a file pass, in a fork, within so many seconds of the processor; and how many it took."""
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + limit) + 1, resource.RLIM_INFINITY))
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        import pytest

        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", test]
        os._exit(int(pytest.main(words) not in {0, 5}))
    stop = time.monotonic() + PATIENCE * limit
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status == 0, used.ru_utime + used.ru_stime
        if time.monotonic() > stop:  # it waits for something
            os.killpg(child, signal.SIGKILL)
            os.wait4(child, 0)
            return False, limit
        time.sleep(0.02)


class Tests:
    """Test files, and which of them fail without a fault; a fault has to survive so many seconds of the processor."""

    def __init__(self, limit: float) -> None:
        self.limit, self.green = limit, dict[str, bool]()

    def passes(self, test: str) -> tuple[bool, float]:
        return passes(test, 30 + 3 * self.limit)

    def outcome(self, mutant: Mutant, files: list[str], tree: Path) -> str:
        """`noticed by` a file that passes without the fault, `survived`, or `untested` where no file concerns it."""
        path = tree / mutant.file
        whole, total = path.read_text(encoding="utf-8"), 0.0
        changed = mutated(whole, mutant)
        try:
            for test in files:
                path.write_text(changed, encoding="utf-8")
                is_green, taken = self.passes(test)
                total += taken
                path.write_text(whole, encoding="utf-8")
                if not is_green and self._is_green(test):
                    return f"noticed by {test}"
                if total > self.limit:
                    break
        finally:
            path.write_text(whole, encoding="utf-8")
        return "survived" if files else "untested"

    def _is_green(self, test: str) -> bool:
        if test not in self.green:
            self.green[test] = self.passes(test)[0]
        return self.green[test]


def mutated(text: str, mutant: Mutant) -> str:
    """The module's text with the fault."""
    return mutate_code(text, plugins.get_operator(mutant.operator)(), mutant.occurrence)


def work(number: int, chosen: list[Mutant], files: dict[str, list[str]], limit: float) -> None:
    """Try the mutants of one process and write a line for each."""
    tree, tests = copied(f"tree-{number}"), Tests(limit)
    os.chdir(tree)
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "tests")]
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(tree))
    sys.dont_write_bytecode = True
    with (SCRATCH / f"results-{number}.jsonl").open("w", encoding="utf-8") as results:
        for mutant in chosen:
            outcome = tests.outcome(mutant, files.get(mutant.module, []), tree)
            results.write(json.dumps({**mutant._asdict(), "outcome": outcome}) + "\n")
            results.flush()


def report(chosen: list[Mutant], places: Counter[str]) -> None:
    """The share by package, and what nobody noticed with its change."""
    lines = [line for path in sorted(SCRATCH.glob("results-*.jsonl")) for line in path.read_text().splitlines()]
    outcomes = {Mutant(*[row[name] for name in Mutant._fields]): row["outcome"] for row in map(json.loads, lines)}
    for mutant, outcome in sorted(outcomes.items()):
        if not outcome.startswith("noticed"):
            whole = (ROOT / mutant.file).read_text(encoding="utf-8")
            pairs = zip(whole.splitlines(), mutated(whole, mutant).splitlines(), strict=False)
            before, after = next(((line, other) for line, other in pairs if line != other), ("", ""))
            print(f"{mutant.file}:{mutant.line}: {outcome}\n    - {before.strip()}\n    + {after.strip()}")
    for package in PACKAGES:
        own = [outcome for mutant, outcome in outcomes.items() if mutant.package == package]
        if own:
            noticed = sum(outcome.startswith("noticed") for outcome in own)
            print(f"{package}: {noticed} of {len(own)} noticed ({noticed / len(own):.0%}); {places[package]} places")
    if len(outcomes) < len(chosen):
        print(f"{len(chosen) - len(outcomes)} were not tried")


def main() -> None:
    """Choose places, try them in two processes, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="main", help="branch whose files are left out unless they differ here")
    parser.add_argument("--whole", action="store_true", help="every file, changed or not")
    parser.add_argument("--only", nargs="+", default=["*"], help="files by patterns, such as 'instdiff/layouts/*'")
    parser.add_argument("--sample", type=int, help="so many places of each package, not all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        help="seconds of tests a fault has to survive",
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    files = sorted(path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    near = set(files) if options.whole else changed(options.base)
    draw = random.Random(options.seed)
    every = [
        mutant
        for file in files
        if file in near and any(fnmatch(file, pattern) for pattern in options.only)
        for mutant in mutants(file, draw)
    ]
    chosen = list[Mutant]()
    for package in PACKAGES:
        own = [mutant for mutant in every if mutant.package == package]
        chosen += own if options.sample is None else draw.sample(own, min(options.sample, len(own)))
    chosen = [mutant for mutant in chosen if compiles(mutant)]
    draw.shuffle(chosen)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for left in SCRATCH.glob("results-*.jsonl"):
        left.unlink()
    os.nice(10)
    with multiprocessing.get_context("fork").Pool(1) as apart:  # the graph's threads would be missing in the forks
        files_of, needed = apart.apply(planned, [{mutant.module for mutant in chosen}])
    load_libraries(needed)
    children = []
    for number in range(options.processes):
        children.append(os.fork())
        if not children[-1]:
            try:
                work(number, chosen[number :: options.processes], files_of, options.limit)
            finally:
                os._exit(0)
    try:
        for child in children:
            os.waitpid(child, 0)
    finally:
        report(chosen, Counter(mutant.package for mutant in every))
        for number in range(options.processes):
            shutil.rmtree(SCRATCH / f"tree-{number}", ignore_errors=True)


if __name__ == "__main__":
    main()
