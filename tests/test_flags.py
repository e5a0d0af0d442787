"""Flags that guard something stand as they must, in every file: what one test of one place would not see."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("instdiff", "data_prep", "eval", "flows")
CHANGES = {  # records that change while they are filled
    "instdiff/layouts/files.py": 1,
    "data_prep/sources/tars.py": 1,
    "eval/benchmarks/judge_outputs.py": 1,
}
OFF = {  # what is off where nobody says so: it is written to switch it on
    "dirs_exist_ok",
    "exist_ok",
    "flush",
    "keepdim",
    "local_files_only",
    "missing_ok",
    "parents",
    "required",
}
OLD_PYTHONS = {"eval/answerers/minicpm_worker.py": 1}  # whose zip has no such flag
TRUSTED = {"instdiff/foundation/detector.py": 1}  # a file that our own trainer wrote a moment ago


@cache
def calls() -> list[tuple[str, ast.Call]]:
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def flags(call: ast.Call) -> dict[str | None, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords}


def of(name: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls of a function, by whatever it is reached."""
    for file, call in calls():
        function = call.func
        if name == (function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)):
            yield file, call


def counted(files: list[str]) -> dict[str, int]:
    return {file: files.count(file) for file in files}


def test_what_is_zipped_is_of_one_length() -> None:
    loose = [file for file, call in of("zip") if flags(call).get("strict") != "True"]
    assert counted(loose) == OLD_PYTHONS


def test_records_stay_as_they_were_made() -> None:
    loose = [file for file, call in of("dataclass") if flags(call).get("frozen") != "True"]
    bare = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() == "@dataclass"
    ]
    assert loose == []
    assert counted(bare) == CHANGES


def test_weights_are_read_without_executing_what_is_in_them() -> None:
    loose = [file for file, call in of("load") if ast.unparse(call.func) == "torch.load"
             and flags(call).get("weights_only") != "True"]  # fmt: skip
    assert counted(loose) == TRUSTED


def test_nothing_is_switched_off_that_is_off_anyway() -> None:
    idle = [
        f"{file}:{call.lineno}: {word.arg}"
        for file, call in calls()
        for word in call.keywords
        if word.arg in OFF and isinstance(word.value, ast.Constant) and word.value.value is False
    ]
    assert idle == []
