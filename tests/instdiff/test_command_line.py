"""`instdiff` as a person types it."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instdiff import __main__ as command

LONG = """
from instdiff import __main__ as command

command.COMMANDS["talk"] = ("talker", "say much")
command.main(["talk"])
"""


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "talker.py").write_text("def main(arguments):\n    for n in range(100_000):\n        print(n)\n")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    running = subprocess.Popen(
        [sys.executable, "-c", LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == b"0\n"
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, None, ""),
        (ValueError("steps: none"), 2, "instdiff talk much: steps: none\n"),
        (OSError("no room"), 2, "instdiff talk much: no room\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_fault_is_a_sentence_and_exit_code_two_and_an_interruption_is_none(
    error: BaseException | None,
    code: int | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments: list[list[str]] = []

    def talks(rest: list[str]) -> None:
        arguments.append(rest)
        if error is not None:
            raise error

    monkeypatch.setitem(command.COMMANDS, "talk much", ("talker", "say much"))
    monkeypatch.setitem(sys.modules, "talker", SimpleNamespace(main=talks))
    ends: Any = nullcontext() if code is None else pytest.raises(SystemExit)
    with ends as ended:
        command.main(["talk", "much", "--of", "it"])
    assert (ended.value.code if ended is not None else None) == code
    assert capsys.readouterr().err == said
    assert arguments == [["--of", "it"]]


@pytest.mark.parametrize(("words", "code"), [([], None), (["-h"], None), (["--help"], None), (["nothing"], 1)])
def test_who_names_no_command_is_told_of_all(
    words: list[str], code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ""
    try:
        command.main(words)
    except SystemExit as ended:
        assert code == 1
        told = str(ended.code)
        assert told.startswith("instdiff: there is no command 'nothing'\n")
    told += capsys.readouterr().out
    assert all(f"  {name}" in told and what in told for name, (_, what) in command.COMMANDS.items())
