"""What a person sees of a long stage."""

import io
import re
import time

import pytest

from instdiff.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_says_how_many_how_fast_and_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.delenv("INSTDIFF_PROGRESS", raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    for name, value in {"COLUMNS": "120", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    for _ in track(range(12), 40, "pictures"):
        time.sleep(0.02)
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"12/40 +[0-9.]+ (pictures/s|s each) +0:0\d:\d\d", seen)
