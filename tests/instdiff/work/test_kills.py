"""Every data stage, killed or out of disk at some moment, ends in the bytes of a run that was left alone."""

import random
from pathlib import Path

import kills
import pytest
from data_world import contents

from instdiff.files import atomic

each_stage = pytest.mark.parametrize("name", kills.RUNS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kills.world(tmp_path_factory.mktemp("world"))


@each_stage
def test_kills_at_random_moments_lose_no_row_and_change_no_byte(name: str, world: Path, tmp_path: Path) -> None:
    seen = kills.outlived(name, world, tmp_path, 3, random.Random(name))
    assert seen.kills == 3
    assert seen.files > 0


@each_stage
def test_a_full_disk_leaves_no_output_and_the_run_after_it_ends_in_the_same_bytes(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills.RUNS[name](world, tmp_path / "whole")
    for count in (0, 1, 7):
        to = tmp_path / str(count)
        monkeypatch.setattr(atomic, "_sync", kills.full_after(count))
        try:
            kills.RUNS[name](world, to)
        except OSError as error:
            assert error.errno == 28
        else:
            assert count > 0  # few files: it was over before the disk was full
        monkeypatch.undo()
        kills.RUNS[name](world, to)
        assert contents(to) == contents(tmp_path / "whole")
