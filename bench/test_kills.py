"""Two hundred kills: every data stage, at random moments, ends in the bytes of a run that was left alone."""

import random
import time
from pathlib import Path

import kills

KILLS = 23  # of each stage


def test_two_hundred_kills(tmp_path: Path) -> None:
    """Print what each stage outlived."""
    root, draw = kills.world(tmp_path / "world"), random.Random(0)
    print()
    total = 0
    for name in kills.RUNS:
        began = time.perf_counter()
        seen = kills.outlived(name, root, tmp_path / name, KILLS, draw)
        total += seen.kills
        print(
            f"{name}: {seen.kills} kills, {seen.early} starts over before theirs, {seen.files} files equal, "
            f"{time.perf_counter() - began:.0f} s"
        )
    print(f"{total} kills, no row lost, no byte other")
