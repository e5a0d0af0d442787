"""A stage's `@@progress` lines as an artifact and in the log."""

import re
import time
from datetime import timedelta
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

SECONDS_BETWEEN_UPDATES = 2.0


class Progress:
    """A stage's own report of its progress."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.artifact: Any = None
        self.last_update = 0.0
        self.first: tuple[float, int] | None = None  # when the first report came, and how many units were done

    def __call__(self, event: dict[str, Any]) -> None:
        """Show how far it is, how fast, and for how long yet: at most every two seconds, and always the last."""
        now = time.monotonic()
        self.first = self.first or (now, event["done"])
        if now - self.last_update < SECONDS_BETWEEN_UPDATES and event["done"] < event["total"]:
            return
        self.last_update = now
        words = f"{self.stage}: {described(event, now - self.first[0], event['done'] - self.first[1])}"
        share = 100.0 * event["done"] / max(1, event["total"])
        get_run_logger().info(words)
        if self.artifact is None:
            key = "progress-" + re.sub("[^a-z0-9]+", "-", self.stage.lower())
            self.artifact = create_progress_artifact(share, key=key, description=words)
        else:
            update_progress_artifact(self.artifact, share, description=words)


def described(event: dict[str, Any], seconds: float, units: int) -> str:
    """The event in words: how far, how fast, going by so many units in so many seconds, how long yet, and its note."""
    words = [f"{event['done']} of {event['total']} {event['unit']}"]
    if units > 0 and seconds > 0:
        left = (event["total"] - event["done"]) * seconds / units
        words += [f"{units / seconds:.3g} {event['unit']}/s", f"{timedelta(seconds=round(left))} left"]
    return ", ".join([*words, *filter(None, [event.get("note")])])
