"""metrics.json of this run beside that of the last one."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Metric = Mapping[str, Any]  # value, n, low, high, and which way is better
Metrics = Mapping[str, Mapping[str, Metric]]  # row of the table -> metric


def read(path: Path) -> Metrics:
    """What the tree holds, or else the last commit, or nothing."""
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        command = ["git", "show", f"HEAD:./{path}"]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    metrics: Metrics = json.loads(text or "{}")
    return metrics


class Change(NamedTuple):
    """A metric of a row that is no longer what it was."""

    row: str
    metric: str
    before: Metric
    after: Metric

    @property
    def fell(self) -> bool:
        """It is worse, and by more than the interval of the last run allows."""
        return self._beyond("low" if self.after.get("better") == "higher" else "high")

    @property
    def rose(self) -> bool:
        """It is better by as much."""
        return self._beyond("high" if self.after.get("better") == "higher" else "low")

    def _beyond(self, end: Literal["low", "high"]) -> bool:
        """Past that end of the last run's interval; never where the file does not say which way is better."""
        if "better" not in self.after:
            return False
        past = self.before["low"] - self.after["value"] if end == "low" else self.after["value"] - self.before["high"]
        return bool(past > 0)

    def __str__(self) -> str:
        before, after = self.before, self.after
        interval = f"{before['low']:.3f} to {before['high']:.3f}"
        return f"{self.row} {self.metric}: {before['value']:.3f} ({interval}) -> {after['value']:.3f}"


def changes(before: Metrics, after: Metrics) -> list[Change]:
    """What both runs measured and one value differs, in the order of the table."""
    return [
        Change(row, name, before[row][name], metric)
        for row, metrics in after.items()
        for name, metric in metrics.items()
        if name in before.get(row, {}) and before[row][name]["value"] != metric["value"]
    ]


def table(metrics: Metrics) -> list[dict[str, str]]:
    """One record a metric, which is narrower than one a row: each value with half of its 95% interval."""
    names = dict.fromkeys(name for own in metrics.values() for name in own)
    return [
        {"metric": name} | {row: _short(own[name]) if name in own else "" for row, own in metrics.items()}
        for name in names
    ]


def _short(metric: Metric) -> str:
    return f"{metric['value']:.3f}±{(metric['high'] - metric['low']) / 2:.3f}"


def markdown(changed: list[Change]) -> str:
    """The changes as a table, those beyond the interval marked."""
    if not changed:
        return "No metric changed since the last run."
    lines = ["| row | metric | last run | its 95% interval | now | |", "| --- | --- | ---: | --- | ---: | --- |"]
    for change in changed:
        before, mark = change.before, "**fell**" if change.fell else "rose" if change.rose else ""
        interval = f"{before['low']:.3f} to {before['high']:.3f}"
        cells = (change.row, change.metric, f"{before['value']:.3f}", interval, f"{change.after['value']:.3f}", mark)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
