"""`instdiff` as a person types it."""

import os
import subprocess
import sys
from pathlib import Path

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
