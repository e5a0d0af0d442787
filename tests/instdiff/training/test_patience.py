"""When a probe has seen enough: the best share in place is older than so many probes."""

from types import SimpleNamespace

import pytest

from instdiff.training.probe import Probe


def enough(shares: list[float | None], patience: int | None) -> bool:
    probe = Probe.__new__(Probe)
    probe.params = SimpleNamespace(patience=patience)  # type: ignore[assignment]
    return probe.enough([{"step": 1.0} if share is None else {"in_place": share} for share in shares])


@pytest.mark.parametrize(
    ("shares", "patience", "expected"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.45], 2, True),
        ([0.5, 0.4, 0.51], 2, False),
        ([0.1, 0.9, 0.2, 0.3], 2, True),
        ([0.5, None, 0.4, None, 0.45], 2, True),
        ([0.5, None, None], 1, False),
        ([0.9, 0.1, 0.1, 0.1], None, False),
    ],
)
def test_training_ends_when_the_last_probes_have_not_been_better(
    shares: list[float | None], patience: int | None, expected: bool
) -> None:
    assert enough(shares, patience) == expected
