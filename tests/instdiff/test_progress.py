"""What a person sees of a long stage."""

import io
import json
import re
import time

import pytest

from instdiff.progress import TAG, rate, track


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


@pytest.mark.parametrize(("total", "counts"), [(1, [1]), (7, list(range(1, 8))), (101, [*range(2, 102, 2), 101])])
def test_a_runner_is_told_of_every_fiftieth_and_of_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], total: int, counts: list[int]
) -> None:
    monkeypatch.setenv("INSTDIFF_PROGRESS", "1")
    assert list(track(range(total), total, "pictures", lambda: "well")) == list(range(total))
    lines = [json.loads(line.removeprefix(TAG)) for line in capsys.readouterr().out.splitlines()]
    assert [line.pop("done") for line in lines] == counts
    assert all(line == {"total": total, "unit": "pictures", "note": "well"} for line in lines)


@pytest.mark.parametrize(
    ("speed", "shown"),
    [
        (None, ""),
        (0.0, ""),
        (2.0, "2 pictures/s"),
        (1.0, "1 pictures/s"),
        (0.25, "4 s each"),
        (1234.5, "1.23e+03 pictures/s"),
    ],
)
def test_a_rate_is_units_a_second_or_seconds_a_unit_where_it_takes_longer(speed: float | None, shown: str) -> None:
    assert rate(speed, "pictures") == shown
