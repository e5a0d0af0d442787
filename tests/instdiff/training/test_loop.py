"""Training is a function of its seeds: a kill costs time and changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from instdiff.training.engine import Engine, Loss, Optimisation
from instdiff.training.loop import Diverged, Training, advance, fit, rate

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


def changed(**values: object) -> Optimisation:
    return Optimisation.model_validate(HOW.model_dump() | values)


def one_step(folder: Path, how: Optimisation, steps: int = 1) -> tuple[nn.Linear, Training]:
    """After some steps from weights of one, down a slope of 3 for the weight and 4 for the bias."""
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    training = Training(model, how, Engine(), folder / "checkpoint.pt")
    for step in range(steps):
        advance(training, lambda _: 3 * model.weight.sum() + 4 * model.bias.sum(), how, step)
    return model, training


@pytest.mark.parametrize("ema", [0.0, 0.1, 2 / 11, 0.25, 0.999])
def test_the_average_decays_as_it_is_told_or_as_fast_as_its_age_lets_it(tmp_path: Path, ema: float) -> None:
    model, expected = nn.Linear(1, 1), None
    how = changed(ema=ema)
    training = Training(model, how, Engine(), tmp_path / "checkpoint.pt")
    for step in range(12):
        advance(training, lambda step: (model.weight - step).square().sum(), how, step)
        decay = 0.0 if expected is None else min(ema, (1 + step) / (10 + step))
        before = torch.zeros(1) if expected is None else expected
        expected = decay * before + (1 - decay) * model.weight.detach()
        average = next(iter(training.averaged.module.parameters())).detach()
        assert torch.allclose(average, expected)
        if ema == 0:
            assert torch.equal(average, model.weight.detach())


def test_with_no_averaging_the_model_ends_with_the_weights_of_the_last_step(tmp_path: Path) -> None:
    model, last = nn.Linear(2, 1), []

    def loss(step: int) -> Tensor:
        last.append(model.weight.detach().clone())
        return (model(torch.ones(1, 2)) - step).square().mean()

    fit(model, loss, changed(ema=0.0, steps=10), scratch=tmp_path / "scratch", log=tmp_path / "log.csv")
    saved = torch.load(tmp_path / "scratch/checkpoint.pt")  # of step 8
    assert torch.equal(saved["averaged"]["module.0"], saved["trained"]["0"])
    assert not torch.equal(model.weight, last[-1])  # which the last step moved


@pytest.mark.parametrize(("learning_rate", "weight_decay"), [(0.01, 0.0), (0.02, 0.0), (0.01, 0.5)])
def test_a_step_is_as_long_as_the_rate_and_decays_as_told(
    tmp_path: Path, learning_rate: float, weight_decay: float
) -> None:
    how = changed(learning_rate=learning_rate, weight_decay=weight_decay, warmup=1, cooldown=0.0, faster={"bias": 10})
    model, _ = one_step(tmp_path, how)
    assert model.weight.item() == pytest.approx(1 - learning_rate * weight_decay - learning_rate, abs=1e-5)
    assert model.bias.item() == pytest.approx(1 - 10 * learning_rate * weight_decay - 10 * learning_rate, abs=1e-5)


@pytest.mark.parametrize(("clip", "norm"), [(1.0, 1.0), (4.9, 4.9), (5.0, 5.0), (5.1, 5.0), (100.0, 5.0)])
def test_only_a_gradient_above_the_bound_is_cut_to_it(tmp_path: Path, clip: float, norm: float) -> None:
    model, _ = one_step(tmp_path, changed(clip=clip))
    gradient = torch.cat([model.weight.grad.flatten(), model.bias.grad.flatten()])
    assert gradient.norm().item() == pytest.approx(norm, abs=1e-4)
    assert (gradient / gradient.norm()).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),  # of ten steps, as shares of the peak
    [
        (0, 0.0, [1] * 10),
        (1, 0.0, [1] * 10),
        (4, 0.0, [0.25, 0.5, 0.75] + [1] * 7),
        (0, 0.5, [1] * 6 + [0.8, 0.6, 0.4, 0.2]),
        (4, 0.2, [0.25, 0.5, 0.75] + [1] * 6 + [0.5]),
        (2, 1.0, [0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0, "cosine", [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]),
        (2, "cosine", [0.5, 1, *((1 + math.cos(math.pi * step / 8)) / 2 for step in range(8))]),
        (10, "cosine", [step / 10 for step in range(1, 11)]),
    ],
)
def test_the_rate_of_every_step_is_the_schedules(warmup: int, cooldown: float | str, expected: list[float]) -> None:
    how = changed(steps=10, warmup=warmup, cooldown=cooldown, learning_rate=2.0)
    assert [rate(step, how) / 2 for step in range(10)] == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "log_every", "save_every"), [(6, 2, 3), (7, 3, 7), (5, 6, 6), (6, 1, 4)])
def test_rows_and_checkpoints_come_as_often_as_told_and_a_row_holds_the_mean_of_its_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, log_every: int, save_every: int
) -> None:
    saved: list[int] = []
    save = Training.save
    monkeypatch.setattr(Training, "save", lambda training: (saved.append(training.step), save(training)))
    model, how = nn.Linear(1, 1), changed(steps=steps, log_every=log_every, save_every=save_every)

    def loss(step: int) -> Tensor:
        return 0 * model.weight.sum() + 0 * model.bias.sum() + step**2

    log = tmp_path / "log.csv"
    assert fit(model, loss, how, scratch=tmp_path / "scratch", log=log) == steps
    assert saved == [step for step in range(1, steps + 1) if step % save_every == 0]
    rows = [line.split(",") for line in log.read_text().splitlines()]
    assert rows[0] == ["step", "loss", "lr"]
    ends = [step for step in range(1, steps + 1) if step % log_every == 0]
    assert [int(row[0]) for row in rows[1:]] == ends
    means = [sum(step**2 for step in range(end - log_every, end)) / log_every for end in ends]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(means)
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([rate(end - 1, how) for end in ends])


def test_a_probe_sees_the_averages_and_when_it_fails_the_weights_are_back(tmp_path: Path) -> None:
    model, seen = nn.Linear(1, 1), []
    how = changed(ema=0.999, steps=12, save_every=100)

    def loss(step: int) -> Tensor:
        return (model.weight - step).square().sum()

    before: list[float] = []

    def probe(step: int, shown: nn.Module) -> dict[str, float]:
        seen.append((step, shown.weight.item()))
        raise Killed

    def noting(step: int) -> Tensor:
        value = loss(step)
        before.append(model.weight.item())
        return value

    with pytest.raises(Killed):
        fit(model, noting, how, scratch=tmp_path / "scratch", log=tmp_path / "log.csv", probe=probe)
    assert [step for step, _ in seen] == [how.log_every]
    assert model.weight.item() > max(before)  # where the fifth step led
    assert seen[0][1] < model.weight.item()  # the average lags behind
    assert not (tmp_path / "log.csv").exists()


def test_gradients_of_a_step_in_parts_are_the_mean_of_its_batches() -> None:
    model, engine, numbers = nn.Linear(1, 1, bias=False), Engine(), []
    engine.accumulate = 3

    def loss(number: int) -> Tensor:
        numbers.append(number)
        return model.weight.sum() * number

    mean = engine.gradients(loss, 2)
    assert numbers == [6, 7, 8]
    assert model.weight.grad.item() == pytest.approx(7)
    assert mean.item() == pytest.approx(7 * model.weight.item())


def test_a_weight_that_a_step_does_not_use_stays_as_it_is(tmp_path: Path) -> None:
    """Neither what it learned before nor the decay moves it on."""
    model, how = nn.Linear(1, 1), changed(weight_decay=0.5, warmup=1, cooldown=0.0)
    training = Training(model, how, Engine(), tmp_path / "checkpoint.pt")
    seen = []
    for step in range(3):
        advance(training, lambda step: model.weight.sum() + (model.bias.sum() if step == 0 else 0), how, step)
        seen.append((model.weight.item(), model.bias.item()))
    assert seen[0][0] > seen[1][0] > seen[2][0]
    assert seen[0][1] == seen[1][1] == seen[2][1] != 0


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_last_part_of_a_step_and_no_other_is_told_that_it_is_the_last(accumulate: int) -> None:
    told: list[tuple[int, bool]] = []

    class Told(Engine):
        def backward(self, loss: Loss, number: int, *, last: bool) -> Tensor:
            told.append((number, last))
            return super().backward(loss, number, last=last)

    engine, weight = Told(), nn.Parameter(torch.ones(()))
    engine.accumulate = accumulate
    for step in (0, 4):
        engine.gradients(lambda _: weight.sum(), step)
    first, second = range(accumulate), range(4 * accumulate, 5 * accumulate)
    assert told == [(number, number == own[-1]) for own in (first, second) for number in own]
