"""Laws of the estimate of memory: it grows with what is drawn, and too much is refused with both numbers."""

import pytest
import torch

from instdiff.sampling import memory
from instdiff.sampling.memory import Size

UNET, VAE = {"block_out_channels": [64, 128]}, {"block_out_channels": [16, 32, 64]}
SMALL = Size(height=64, width=64, rows=2, alone=1, masked=True)


def needed(size: Size) -> int:
    return memory.needed(UNET, VAE, size)


def test_more_places_rows_and_masks_need_more() -> None:
    large = SMALL._replace(height=512, width=512)
    assert (
        needed(SMALL) < needed(large._replace(masked=False)) < needed(large) < needed(large._replace(rows=4, alone=2))
    )


def test_masks_grow_with_the_square_of_the_places() -> None:
    sides = [needed(SMALL._replace(height=side, width=side)) for side in (512, 1024)]
    assert 14 < sides[1] / sides[0] < 17


def test_what_was_killed_at_23_gb_is_seen_to_need_more_than_that_machine_had() -> None:
    rows, alone = memory.rows(1, 2, guidance=7.5, max_rows=16)
    assert needed(Size(512, 768, rows, alone, masked=True)) > 18e9


@pytest.mark.parametrize(("guidance", "rows"), [(1, (3, 3)), (3, (6, 3)), (3.5, (6, 3))])
def test_rows_are_pictures_and_instances_with_and_without_guidance(guidance: float, rows: tuple[int, int]) -> None:
    assert memory.rows(1, 2, guidance, max_rows=16) == rows
    assert memory.rows(1, 2, guidance, max_rows=2) == (2, 3)


def test_too_much_is_refused_with_both_numbers_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    need = needed(SMALL)
    monkeypatch.setattr(memory, "available", lambda device: need)
    memory.refuse_too_large(UNET, VAE, SMALL, torch.device("cpu"))
    monkeypatch.setattr(memory, "available", lambda device: need - 1)
    with pytest.raises(ValueError, match=r"^64 x 64 needs about .* GB for 2 rows at once, and .* GB are free: take a"):
        memory.refuse_too_large(UNET, VAE, SMALL, torch.device("cpu"))


def test_a_device_of_which_nobody_knows_refuses_nothing() -> None:
    assert memory.available(torch.device("meta")) is None
    memory.refuse_too_large(UNET, VAE, SMALL._replace(height=2**16, width=2**16), torch.device("meta"))
