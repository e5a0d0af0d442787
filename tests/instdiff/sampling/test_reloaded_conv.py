"""Which rows the reloaded first convolution draws, in every case of gates and rows."""

import pytest
import torch
from torch import Tensor

from instdiff.sampling.guidance import with_reloaded_first_conv

OWN, RELOADED = 1.0, 2.0
T = torch.tensor(0)


def denoiser(value: float) -> object:
    return lambda x, timestep, gate: torch.full_like(x, value * (1 + gate))


def drawn(rows: int, gate: float, gates: list[float], split: int) -> list[float]:
    denoise = with_reloaded_first_conv(denoiser(OWN), denoiser(RELOADED), gates, split, 2)  # type: ignore[arg-type]
    noise: Tensor = denoise(torch.zeros(rows, 1, 2, 3), T, gate)  # type: ignore[arg-type]
    assert noise.shape == (rows, 1, 2, 3)
    return [float(row.unique()) for row in noise]


@pytest.mark.parametrize(
    ("rows", "gate", "gates", "split", "expected"),
    [
        (2, 0, [1, 0], 1, [RELOADED, RELOADED]),
        (4, 0, [1, 0], 1, [RELOADED] * 4),
        (2, 1, [1, 0], 1, [2 * OWN, 2 * OWN]),
        (4, 1, [1, 0], 1, [2 * OWN] * 4),  # the first gate of 0 comes after the steps apart
        (4, 1, [1, 0], 2, [2 * OWN] * 2 + [2 * RELOADED] * 2),
        (2, 1, [1, 0], 2, [2 * OWN] * 2),
        (4, 0.5, [1, 0.5, 0], 3, [1.5 * OWN] * 2 + [1.5 * RELOADED] * 2),
        (4, 1, [1, 1], 2, [2 * OWN] * 4),
    ],
)
def test_a_gate_of_nothing_among_the_steps_apart_leaves_instances_to_the_reloaded_one(
    rows: int, gate: float, gates: list[float], split: int, expected: list[float]
) -> None:
    assert drawn(rows, gate, gates, split) == expected
