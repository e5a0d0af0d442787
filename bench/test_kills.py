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
    total = additions = 0
    for name in kills.RUNS:
        began = time.perf_counter()
        seen = kills.outlived(name, root, tmp_path / name, KILLS, draw)
        total, additions = total + seen.kills, additions + seen.additions
        print(
            f"{name}: {seen.kills} kills, {seen.additions} of them of additions, {seen.early} starts over before "
            f"theirs, {seen.files} files equal, {time.perf_counter() - began:.0f} s"
        )
    print(f"{total} kills, {additions} of them of additions, no row lost, no byte other")
