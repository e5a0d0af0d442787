"""A stage's progress is shown at most every two seconds, and its end always."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows.results import progress

UNITS = 40


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was made and updated, and the clock."""
    state: dict[str, Any] = {"now": 100.0, "made": [], "updated": [], "log": []}
    logger = SimpleNamespace(info=state["log"].append)
    monkeypatch.setattr(progress, "get_run_logger", lambda: logger)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: state["now"]))

    def create(share: float, **how: str) -> str:
        state["made"].append((share, how))
        return "artifact"

    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "update_progress_artifact", lambda one, share, **how: state["updated"].append(share))
    return state


def test_updates_are_two_seconds_apart_and_the_last_always_comes(shown: dict[str, Any]) -> None:
    show = progress.Progress("score@box 1")
    for step, now in ((1, 100.0), (2, 101.0), (3, 101.99), (4, 102.0), (5, 103.9), (UNITS, 103.95)):
        shown["now"] = now
        show({"done": step, "total": UNITS, "unit": "pictures"})
    ((share, how),) = shown["made"]
    assert share == 100 / UNITS
    assert how["key"] == "progress-score-box-1"
    assert shown["updated"] == [400 / UNITS, 100.0]
    assert shown["log"][0] == f"score@box 1: 1 of {UNITS} pictures"
    assert shown["log"][-1].startswith(f"score@box 1: {UNITS} of {UNITS} pictures")


def test_of_nothing_to_do_there_is_no_share(shown: dict[str, Any]) -> None:
    progress.Progress("a")({"done": 0, "total": 0, "unit": "pictures"})
    assert shown["made"][0][0] == 0
