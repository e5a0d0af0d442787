"""Training is a function of its seeds: a kill costs time and changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instdiff.fit import Optimisation, fit

HOW = Optimisation(
    steps=30,
    learning_rate=1e-2,
    weight_decay=0.1,
    warmup=3,
    cooldown=0.3,
    clip=1.0,
    ema=0.9,
    faster={"bias": 10.0},
    save_every=4,  # does not divide log_every: a resume begins in the middle of a row of the log
    log_every=5,
)


class Killed(Exception):
    pass


def trained(folder: Path, killed_at: int | None = None) -> tuple[dict[str, Tensor], str]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def loss(step: int) -> Tensor:
        if step == killed_at:
            raise Killed
        pictures = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (model(pictures) - pictures.sum(1, keepdim=True)).square().mean()

    fit(model, loss, HOW, scratch=folder / "scratch", log=folder / "log.csv")
    return dict(model.state_dict()), (folder / "log.csv").read_text()


def test_a_run_killed_three_times_ends_in_the_same_bits(tmp_path: Path) -> None:
    weights, log = trained(tmp_path / "whole")
    for step in (3, 18, 29):
        with pytest.raises(Killed):
            trained(tmp_path / "killed", killed_at=step)
    again, log_again = trained(tmp_path / "killed")
    assert log_again == log
    assert len(log.splitlines()) == 1 + HOW.steps // HOW.log_every
    for name, weight in weights.items():
        assert torch.equal(again[name], weight), name
