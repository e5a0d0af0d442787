"""Training is a function of its seeds: a kill costs time and changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instdiff.training.engine import Optimisation
from instdiff.training.loop import Diverged, fit, rate

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


def trained(folder: Path, killed_at: int | None = None, nan_at: int | None = None) -> tuple[dict[str, Tensor], str]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def loss(step: int) -> Tensor:
        if step == killed_at:
            raise Killed
        pictures = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        error = (model(pictures) - pictures.sum(1, keepdim=True)).square().mean()
        return error * float("nan") if step == nan_at else error

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


def test_what_is_no_number_leaves_the_last_sound_checkpoint_and_names_it(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(Diverged, match=r"loss is nan at step 18; .*checkpoint\.pt holds the last sound weights"):
        trained(tmp_path / "broken", nan_at=18)
    again = trained(tmp_path / "broken")
    assert again[1] == whole[1]
    assert all(torch.equal(again[0][name], weight) for name, weight in whole[0].items())


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_leaves_the_last_good_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    whole, save, written = trained(tmp_path / "whole"), torch.save, []

    def until_full(state: dict[str, object], path: Path) -> None:
        written.append(path)
        if len(written) == 4:
            path.write_bytes(b"half of it")
            raise fault
        save(state, path)

    monkeypatch.setattr(torch, "save", until_full)
    with pytest.raises(OSError, match=r"checkpoint\.pt: step 16 could not be written"):
        trained(tmp_path / "full")
    assert torch.load(tmp_path / "full/scratch/checkpoint.pt")["step"] == 12
    assert [path.name for path in (tmp_path / "full/scratch").iterdir()] == ["checkpoint.pt"]
    monkeypatch.setattr(torch, "save", save)
    again = trained(tmp_path / "full")
    assert again[1] == whole[1]
    assert all(torch.equal(again[0][name], weight) for name, weight in whole[0].items())


def test_the_rate_warms_up_and_follows_half_a_cosine_or_stays() -> None:
    cosine = HOW.model_copy(update={"cooldown": "cosine", "warmup": 10, "steps": 110})
    assert [rate(step, cosine) / HOW.learning_rate for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [rate(step, cosine) / HOW.learning_rate for step in (10, 60, 109)] == pytest.approx([1, 0.5, 0], abs=1e-3)
    constant = HOW.model_copy(update={"cooldown": 0.0})
    assert {rate(step, constant) for step in range(3, HOW.steps)} == {HOW.learning_rate}


def test_training_stops_when_the_log_says_it_is_enough(tmp_path: Path) -> None:
    model, steps = nn.Linear(1, 1), []

    def loss(step: int) -> Tensor:
        steps.append(step)
        return model(torch.ones(1, 1)).square().mean()

    log = tmp_path / "log.csv"
    assert fit(model, loss, HOW, scratch=tmp_path / "scratch", log=log, stop=lambda rows: len(rows) == 2) == 10
    assert steps == list(range(10))
    assert len(log.read_text().splitlines()) == 3


def test_the_times_of_a_run_are_kept_apart_from_its_log(tmp_path: Path) -> None:
    trained(tmp_path / "timed")
    rows = (tmp_path / "timed/scratch.speed.csv").read_text().splitlines()
    assert rows[0] == "step,step_seconds,data_seconds"
    assert len(rows) == 1 + HOW.steps // HOW.log_every
