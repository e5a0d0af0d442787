"""A stage's `@@progress` lines as an artifact and in the log."""

import re
import time
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

SECONDS_BETWEEN_UPDATES = 2.0


class Progress:
    """A stage's own report of its progress."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.artifact: Any = None
        self.told = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show `done` of `total` units, at most every two seconds and always the last."""
        done, total, unit = event["done"], event["total"], event["unit"]
        now = time.monotonic()
        if now - self.told < SECONDS_BETWEEN_UPDATES and done < total:
            return
        self.told = now
        share, words = 100.0 * done / max(1, total), f"{self.stage}: {done} of {total} {unit}"
        get_run_logger().info(words)
        if self.artifact is None:
            key = "progress-" + re.sub("[^a-z0-9]+", "-", self.stage.lower())
            self.artifact = create_progress_artifact(
                share, key=key, description=f"{self.stage}: {done} of {total} {unit}"
            )
        else:
            update_progress_artifact(self.artifact, share, description=words)
