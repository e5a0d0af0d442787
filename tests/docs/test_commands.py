"""Every command of every page is one that its program understands; what a page marks as running runs, as it stands.

Marks are comments above a block: `<!-- runs -->`, `<!-- prints -->` (what the block before it prints, `...` for
anything), `<!-- file: NAME -->` (written before what follows runs), `<!-- needs: WHAT -->` (not run, and why). Blocks
run in a folder with the miniature's weights where `make repro` leaves them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
import yaml
from dvc.cli.parser import get_main_parser

from instdiff import __main__ as command
from instdiff.config import combinations, compose

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
MARK = re.compile(r"<!-- (runs|prints|file|needs)(?:: (.*?))? -->")
PROGRAMS = ("instdiff", "make", "dvc", "python", "torchrun")
PASSING_ON = {"launch"}  # commands whose options are those of what they start
ELSEWHERE = {
    "evaluation.md",
    "scale.md",
    "benchmarks.md",
    "full-size.md",
}  # commands are understood, and not marked yet


@dataclass(frozen=True)
class Block:
    """A block of a page, and its mark."""

    line: int
    language: str
    text: str
    mark: str | None
    about: str | None


def blocks(text: str) -> Iterator[Block]:
    """Fenced and indented blocks, each with the mark in the lines above it."""
    lines, number, mark, about = text.splitlines(), 0, None, None
    while number < len(lines):
        line, start = lines[number], number
        if match := MARK.fullmatch(line.strip()):
            mark, about = match[1], match[2]
        elif line.startswith("```"):
            number += 1
            while not lines[number].startswith("```"):
                number += 1
            yield Block(start + 1, line[3:].strip(), "\n".join(lines[start + 1 : number]), mark, about)
            mark = about = None
        elif line.startswith("    ") and (not (before := lines[start - 1].strip()) or MARK.fullmatch(before)):
            while number + 1 < len(lines) and (lines[number + 1].startswith("    ") or not lines[number + 1].strip()):
                number += 1
            body = "\n".join(block_line[4:] for block_line in lines[start : number + 1]).rstrip()
            yield Block(start + 1, "", body, mark, about)
            mark = about = None
        elif line.strip():
            mark = about = None
        number += 1


def commands(text: str) -> Iterator[list[str]]:
    """The commands of ours in a block or in a line of a page, word by word."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;|\|", line.partition(" # ")[0].partition("   #")[0]):
            try:
                words = shlex.split(re.sub(r"\[(?=[-A-Z]+[=a-z])|(?<=[\w\"])\](?=\s|$)", "", part), comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and (name := words[0].removeprefix(".venv/bin/")) in PROGRAMS and len(words) > 1:
                yield [name, *words[1:]]


def inline(text: str) -> Iterator[list[str]]:
    """The commands in the sentences of a page, but for those that are named alone."""
    for span in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
        for words in commands(" ".join(span.split())):
            is_message = "..." in words or any(word.endswith(":") for word in words)
            is_name = not any(set("-=") & set(word) for word in words[2:]) or words[-1].startswith("-S")
            if not (is_message or is_name):
                yield words


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What each command says of itself, asked once."""
    return {}


def help_of(name: str, helps: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    if name not in helps:
        with pytest.raises(SystemExit):
            command.main([*name.split(), "--help"])
        helps[name] = capsys.readouterr().out
    return helps[name]


def fault(words: list[str], helps: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Why the program would not understand the command; None where it would."""
    program, *rest = words
    if program == "instdiff":
        name = " ".join(rest[:2]) if " ".join(rest[:2]) in command.COMMANDS else rest[0]
        if rest[0].isupper() or rest[0].startswith("-"):
            return None
        if name not in command.COMMANDS:
            return f"there is no command {name}"
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        if name in PASSING_ON:
            return None
        of = " ".join(rest[:2]) if name == "bench" else name  # its options are those of what it does
        options = set(re.findall(r"--[\w-]+", help_of(of, helps, capsys)))
        return f"no such option: {used - options}" if used - options else None
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        lacking = [word for word in rest if "=" not in word and not re.search(rf"^{re.escape(word)}:", makefile, re.M)]
        lacking += [word for word in rest if "=" in word and f"$({word.partition('=')[0]})" not in makefile]
        return f"the Makefile has no {lacking}" if lacking else None
    if program == "dvc":
        try:
            with mock.patch.object(sys, "argv", ["dvc"]):  # DVC looks there for its own flags
                get_main_parser().parse_args(rest)
        except Exception as error:
            return f"dvc does not understand it: {error}"
        return None
    if "-m" not in rest:
        return None
    module, *arguments = rest[rest.index("-m") + 1 :]
    if find_spec(module) is None:
        return f"there is no module {module}"
    if module == "instdiff.config" and not arguments[0].startswith("["):
        values = yaml.safe_load(compose.composed(arguments, ROOT / "configs"))
        return next(combinations.faults(values), None)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(
    page: Path, helps: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    command_lines = [
        (block.line, words) for block in blocks(text) if block.mark != "prints" for words in commands(block.text)
    ]
    command_lines += [(0, words) for words in inline(text)]
    wrong = {f"{line}: {' '.join(words)}": why for line, words in command_lines if (why := fault(words, helps, capsys))}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_commands_runs_in_a_test_or_says_what_it_needs(page: Path) -> None:
    unmarked = [
        f"{block.line}: {block.text.splitlines()[0]}"
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.mark is None and any(commands(block.text))
    ]
    assert unmarked == [] or page.name in ELSEWHERE


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder as `make repro` leaves it: foundation and instance layers, the shipped ones where it has not run."""
    shipped, data = ROOT / "weights/miniature", tmp_path / "data"
    data.mkdir()
    has_run = (ROOT / "data/instance/layers").is_dir()
    (data / "foundation").symlink_to(ROOT / "data/foundation" if has_run else shipped)
    (data / "instance").symlink_to(ROOT / "data/instance" if has_run else shipped / "instance")
    for name in ("configs", "dvc.yaml", "params.yaml"):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    for name in ("weights", "docs", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(block: Block, folder: Path) -> str:
    """What the block prints."""
    python = block.language == "python"
    words = [sys.executable, "-c", block.text] if python else ["bash", "-euc", block.text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"line {block.line}: {block.text}\n{done.stdout}{done.stderr}"
    return done.stdout


RUNNING = [page for page in PAGES if any(block.mark == "runs" for block in blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.name)
def test_what_a_page_runs_runs_and_prints_what_it_shows(page: Path, world: Path) -> None:
    printed: str | None = None
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.mark == "file":
            (world / str(block.about)).write_text(block.text + "\n", encoding="utf-8")
        elif block.mark == "runs":
            printed = run(block, world)
        elif block.mark == "needs":
            printed = None
        elif block.mark == "prints" and printed is not None:
            shown = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", block.text))
            assert re.search(shown, printed, re.DOTALL), f"line {block.line}: {printed}"
    if page.name == "README.md":
        judged(world)


def judged(world: Path) -> None:
    """The README's picture shows what its layout says, as the detector sees it."""
    import numpy as np
    from PIL import Image

    from instdiff.layouts import files
    from instdiff.layouts.geometry import iou
    from instdiff.networks import detector

    (layout,) = files.read(world / "layout.json")
    (path,) = (world / "OUTPUT").rglob(f"{layout.key}-0.png")
    (detections,) = detector.load(ROOT / "weights/miniature/detector").detect([np.asarray(Image.open(path))])
    for instance in layout.instances:
        shape = instance.phrase.split()[-1]
        assert instance.box is not None
        overlaps = [
            iou(detection.box, instance.box)
            for detection in detections
            if detection.category == shape and detection.score >= 0.25
        ]
        assert max(overlaps, default=0) >= 0.5, f"{instance.phrase}: {detections}"
