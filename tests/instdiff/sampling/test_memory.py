"""Laws of the estimate of memory: it grows with what is drawn, and too much is refused with both numbers."""

from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("size", "bytes_per_number", "expected"),
    [  # 16 x 16 places, of which the second level has a quarter a side: masks of 256**2 and 64**2 pairs
        (SMALL, 4, 256**2 * 2 + 64**2 * 2 + 256**2 * 6 * 2 + 256 * 64 * 2 * 24 * 4),
        (SMALL._replace(masked=False), 4, 256 * 64 * 2 * 24 * 4),
        (SMALL, 2, 256**2 * 2 + 64**2 * 2 + 256**2 * 6 * 2 + 256 * 64 * 2 * 24 * 2),
        (SMALL._replace(alone=3), 4, 256**2 * 4 + 64**2 * 4 + 256**2 * 6 * 2 + 256 * 64 * 2 * 24 * 4),
        (SMALL._replace(rows=1, masked=False), 4, 64 * 64 * 16 * 8 * 4),  # the decoder needs more
        (SMALL._replace(width=32, rows=1, masked=False), 4, 32 * 64 * 16 * 8 * 4),
    ],
)
def test_what_is_needed_is_masks_and_features_of_the_finest_level_or_the_decoders_pictures(
    size: Size, bytes_per_number: int, expected: int
) -> None:
    assert memory.needed(UNET, VAE, size, bytes_per_number) == expected


@pytest.mark.parametrize(
    ("limit", "taken", "free"),
    [(None, "0", 1000), ("max\n", "0", 1000), ("900\n", "200\n", 700), ("1300", "200", 1000)],
)
def test_what_is_free_on_a_cpu_is_what_the_machine_has_and_the_container_leaves(
    limit: str | None, taken: str, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000, free=10))
    for name, content in (("_LIMIT", limit), ("_TAKEN", taken)):
        monkeypatch.setattr(memory, name, tmp_path / name)
        if content is not None:
            (tmp_path / name).write_text(content)
    assert memory.available(torch.device("cpu")) == free


def test_what_is_free_on_a_gpu_is_what_nobody_holds_and_what_torch_holds_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"is_available": lambda: True, "memory_reserved": lambda _: 50, "memory_allocated": lambda _: 20}
    for name, value in (held | {"mem_get_info": lambda _: (100, 1000)}).items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert memory.available(torch.device("cuda")) == 130


@pytest.mark.parametrize(
    ("rows", "masked", "helps"),
    [
        (1, False, "a smaller height and width"),
        (2, False, "a smaller height and width, or max_rows below 2"),
        (1, True, "a smaller height and width, or no masked_attention, where the layers were trained without"),
    ],
)
def test_what_is_advised_is_what_would_help(
    rows: int, masked: bool, helps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda _: 0)
    with pytest.raises(ValueError, match=f"are free: take {helps}$"):
        memory.refuse_too_large(UNET, VAE, SMALL._replace(rows=rows, masked=masked), torch.device("cpu"))
