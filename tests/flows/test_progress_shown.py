"""A stage's progress is shown at most every two seconds, and its end always."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows.results import progress

UNITS = 40


@pytest.fixture
def state_seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was made and updated, and the clock."""
    state: dict[str, Any] = {"now": 100.0, "made": [], "updated": [], "words": [], "log": []}
    logger = SimpleNamespace(info=state["log"].append)
    monkeypatch.setattr(progress, "get_run_logger", lambda: logger)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: state["now"]))

    def create(share: float, **how: str) -> str:
        state["made"].append((share, how))
        return "artifact"

    monkeypatch.setattr(progress, "create_progress_artifact", create)

    def update(artifact: str, share: float, *, description: str) -> None:
        assert artifact == "artifact"
        state["updated"].append(share)
        state["words"].append(description)

    monkeypatch.setattr(progress, "update_progress_artifact", update)
    return state


def test_updates_are_two_seconds_apart_and_the_last_always_comes(state_seen: dict[str, Any]) -> None:
    show = progress.Progress("score@box 1")
    for step, now in ((1, 100.0), (2, 101.0), (3, 101.99), (4, 102.0), (5, 103.9), (UNITS, 103.95)):
        state_seen["now"] = now
        show({"done": step, "total": UNITS, "unit": "pictures"})
    ((share, how),) = state_seen["made"]
    assert share == 100 / UNITS
    assert how["key"] == "progress-score-box-1"
    assert state_seen["updated"] == [400 / UNITS, 100.0]
    assert state_seen["log"][0] == f"score@box 1: 1 of {UNITS} pictures"
    assert state_seen["log"][1] == f"score@box 1: 4 of {UNITS} pictures, 1.5 pictures/s, 0:00:24 left"
    assert state_seen["log"][-1] == f"score@box 1: {UNITS} of {UNITS} pictures, 9.87 pictures/s, 0:00:00 left"
    assert state_seen["words"] == state_seen["log"][1:] and how["description"] == state_seen["log"][0]


def test_of_nothing_to_do_there_is_no_share(state_seen: dict[str, Any]) -> None:
    progress.Progress("a")({"done": 0, "total": 0, "unit": "pictures"})
    assert state_seen["made"][0][0] == 0
    progress.Progress("b")({"done": 1, "total": 1, "unit": "pictures"})
    assert state_seen["made"][1][0] == 100
