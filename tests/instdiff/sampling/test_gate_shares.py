"""Gates of the steps: whole ones for a share, falling ones for another, none for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instdiff.sampling.guidance import gates
from instdiff.sampling.multi_instance import num_separate_steps


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_there_is_a_gate_a_step_and_gates_never_rise(num_steps: int, on: float, share: float) -> None:
    fading = (1 - on) * share
    values = gates(num_steps, on, fading)
    assert len(values) == num_steps
    assert values == sorted(values, reverse=True)
    assert values.count(1.0) == int(on * num_steps)
    assert all(0 <= gate <= 1 for gate in values)


def test_fading_gates_fall_in_equal_steps_to_nothing() -> None:
    assert gates(8, 0.5, 0.5) == [1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert gates(4, 0, 1) == [0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize(("on", "fading"), [(1, 0), (0, 1), (0, 0), (0.7, 0.3), (0.9, 0.1), (0.1, 0.9)])
def test_shares_may_fill_all_steps(on: float, fading: float) -> None:
    assert len(gates(10, on, fading)) == 10


@pytest.mark.parametrize(("on", "fading"), [(-0.01, 0), (1.01, 0), (0.5, 0.51), (0.5, -0.01), (0, 1.01)])
def test_other_shares_are_refused(on: float, fading: float) -> None:
    with pytest.raises(ValueError, match="shares of steps .* must lie in 0..1"):
        gates(10, on, fading)


@pytest.mark.parametrize(("share", "steps"), [(0, 0), (0.099, 0), (0.1, 1), (0.36, 3), (0.99, 9), (1, 10)])
def test_the_share_apart_is_rounded_down(share: float, steps: int) -> None:
    assert num_separate_steps(10, share) == steps


@pytest.mark.parametrize("share", [-0.001, 1.001])
def test_a_share_apart_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="must lie in 0..1"):
        num_separate_steps(10, share)
