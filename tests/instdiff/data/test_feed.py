"""Batches come in order, from this process or ahead of it, and what is waited for them is counted."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from instdiff.data import batches as module
from instdiff.data.batches import Feed
from instdiff.progress import Watch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Numbered:
    """In place of a batch: its number, and where it is."""

    number: int
    where: str = "prepared"

    def to(self, device: torch.device) -> "Numbered":
        return Numbered(self.number, device.type)


class Source:
    def __getitem__(self, number: int) -> Numbered:
        return Numbered(number)


def feed(workers: int, watch: Any = None) -> Feed:
    watch = watch or Watch()
    return Feed(Source(), 10, workers, CPU, watch)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_any_batch_is_given_by_its_number_on_the_device(workers: int) -> None:
    batches = feed(workers)
    for number in (0, 1, 2, 7, 8, 3, 4, 9):  # on, forward, back
        assert batches(number) == Numbered(number, "cpu")


def test_batches_that_follow_each_other_are_prepared_by_the_same_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def loader(self: Feed, start: int) -> list[Numbered]:
        started.append(start)
        return [Numbered(number) for number in range(start, self.stop)]

    monkeypatch.setattr(Feed, "_loader", loader)
    batches = feed(2)
    assert [batches(number).number for number in (3, 4, 5, 6, 2, 3)] == [3, 4, 5, 6, 2, 3]  # type: ignore[attr-defined]
    assert started == [3, 2]


def test_the_time_waited_adds_up_over_a_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr(module, "perf_counter", lambda: next(clock))
    watch = SimpleNamespace(waited=0.5)
    batches = feed(0, watch)
    batches(0)
    batches(1)
    assert watch.waited == 5.5
