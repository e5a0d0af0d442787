"""How long steps take and wait, and the progress that a runner reads."""

import json

import pytest

from instdiff import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_lap_is_divided_by_its_steps_and_begins_anew(clock: list[float]) -> None:
    watch = progress.Watch()
    for lap in (1, 2):
        watch.start()
        assert watch.waited == 0
        clock[0] += 8 * lap
        watch.waited += 2
        watch.lap({"step": 4 * lap, "loss": 0.5, "lr": 0.001}, 4)
    assert watch.rows == [
        {"step": 4, "step_seconds": 2.0, "data_seconds": 0.5},
        {"step": 8, "step_seconds": 4.0, "data_seconds": 0.5},
    ]
    assert watch.note() == "loss 0.5000, rate 1.0e-03, 4.00 s a step, 12% for data"


def lines(total: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setenv("INSTDIFF_PROGRESS", "1")
    assert list(progress.track(range(total), total, "things")) == list(range(total))
    messages = [line.removeprefix(progress.TAG) for line in capsys.readouterr().out.splitlines()]
    return [json.loads(line)["done"] for line in messages]


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (0, []),
        (1, [1]),
        (3, [1, 2, 3]),
        (99, list(range(1, 100))),
        (101, [*range(2, 101, 2), 101]),
        (100, list(range(2, 101, 2))),
    ],
)
def test_a_runner_is_told_at_most_about_fifty_times_and_of_the_last(
    total: int, expected: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(total, capsys, monkeypatch) == expected


def test_what_there_is_to_say_goes_with_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTDIFF_PROGRESS", "1")
    list(progress.track("ab", 2, "letters", lambda: "well"))
    first = json.loads(capsys.readouterr().out.splitlines()[0].removeprefix(progress.TAG))
    assert first == {"done": 1, "total": 2, "unit": "letters", "note": "well"}


def test_without_a_runner_and_a_terminal_nothing_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INSTDIFF_PROGRESS", raising=False)
    assert list(progress.track("ab", 2, "letters")) == ["a", "b"]
    assert capsys.readouterr().out == ""
