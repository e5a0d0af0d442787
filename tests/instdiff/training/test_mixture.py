"""A training on several sets by weight, killed at any step."""

import signal
from pathlib import Path

import train_world as world

from instdiff.data.source import Weighted

WEIGHTS = "layers/instance_layers.safetensors"


def test_a_run_on_two_sets_that_is_killed_ends_in_the_same_bits(tmp_path: Path) -> None:
    world.made(tmp_path)
    mixture = {"often": Weighted(url=str(tmp_path), weight=3.0), "seldom": Weighted(url=str(tmp_path), weight=1.0)}
    params = world.changed(data={"source": "shards", "mixture": mixture})
    assert world.run(tmp_path, tmp_path / "alone", params=params) == [0]
    for step in (1, 4):
        assert world.run(tmp_path, tmp_path / "killed", params=params, killed_at=step) == [-signal.SIGKILL]
    assert world.run(tmp_path, tmp_path / "killed", params=params) == [0]
    assert (tmp_path / "killed" / WEIGHTS).read_bytes() == (tmp_path / "alone" / WEIGHTS).read_bytes()
    other = world.changed(
        data={"source": "shards", "mixture": dict(reversed(mixture.items())) | {"seldom": mixture["often"]}}
    )
    assert world.run(tmp_path, tmp_path / "other", params=other) == [0]
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (tmp_path / "alone" / WEIGHTS).read_bytes()
