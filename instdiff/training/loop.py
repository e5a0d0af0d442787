"""One training loop: AdamW, warm-up and cool-down, EMA of what is trained, and bit-exact resume.

Step number s is a function of the weights, the optimiser's state and s alone: whoever asks for a batch derives it from
(seed, s). So a run killed anywhere and started again ends in the same bits as one that was never interrupted, in the
middle of an epoch too, and there is no generator and no place in the data to store.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from instdiff.files import atomic
from instdiff.progress import track
from instdiff.training.engine import Engine, Loss, Optimisation, Row

Probe = Callable[[int, nn.Module], Row]  # step, averaged weights -> columns of the log, the same on every process
Stop = Callable[[Sequence[Row]], bool]  # the log so far -> is that enough?
Weights = tuple[Tensor, ...] | list[Tensor]
COLUMNS = ("step", "loss", "lr")


class Diverged(RuntimeError):
    """The loss or its gradient is no longer a number; the last checkpoint is sound."""


class Training:
    """Everything that a checkpoint holds: trained and averaged weights, optimiser, log, and how far it is."""

    def __init__(self, model: nn.Module, how: Optimisation, engine: Engine, checkpoint: Path) -> None:
        named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        groups = [{"params": [weight], "factor": factor(name, how)} for name, weight in named.items()]
        self.trained = nn.ParameterList(named.values())
        self.optimiser = engine.optimiser(groups, how)
        self.averaged = AveragedModel(self.trained, multi_avg_fn=_averaging(how.ema))
        self.engine, self.checkpoint = engine, checkpoint
        self.rows: list[Row] = []
        self.step, self.total = 0, torch.zeros(())  # steps done; their losses since the last row
        if checkpoint.exists():
            self._load(torch.load(checkpoint, weights_only=True, map_location="cpu"))

    def save(self) -> None:
        """Replace the checkpoint; OSError on every process if there is no room, and then the last one still loads."""
        state: dict[str, Any] = {"trained": self.trained.state_dict(), "averaged": self.averaged.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "engine": self.engine.state()}
        state |= {"rows": self.rows, "step": self.step, "total": self.total}
        self.engine.on_first_process(partial(self._write, self.engine.whole(state)))

    def averages(self) -> "holding":
        """While entered, the model holds the averaged weights."""
        return holding(self.trained, self.averaged.module.parameters())

    def _write(self, state: dict[str, Any]) -> None:
        try:
            with atomic.file(self.checkpoint) as part:
                torch.save(state, part)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
            raise OSError(
                f"{self.checkpoint}: step {self.step} could not be written ({error}); what it held before is untouched"
            ) from error

    def _load(self, state: dict[str, Any]) -> None:
        for module, name in ((self.trained, "trained"), (self.averaged, "averaged")):
            module.load_state_dict(self._parts(state[name], module.state_dict()))
        moments = state["optimiser"]["state"]  # by the number of the parameter
        parts = {
            number: self._parts(tensors, dict.fromkeys(tensors, self.trained[number]))
            for number, tensors in moments.items()
        }
        self.optimiser.load_state_dict({**state["optimiser"], "state": parts})
        self.engine.load_state(state.get("engine", {}))
        self.rows, self.step, self.total = state["rows"], state["step"], state.get("total", self.total)

    def _parts(self, tensors: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.engine.part(tensor, like[name]) for name, tensor in tensors.items()}


def local(weight: Tensor) -> Tensor:
    """What this process holds of a weight: all of it, unless weights are cut over the processes."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def rate(step: int, how: Optimisation) -> float:
    """Learning rate at a step: linear warm-up, then constant with a linear cool-down, or half a cosine."""
    warming = min(1.0, (step + 1) / max(1, how.warmup))
    if how.cooldown == "cosine":
        done = max(0, step - how.warmup) / max(1, how.steps - how.warmup)
        return how.learning_rate * warming * (1 + math.cos(math.pi * done)) / 2
    cooling = max(1.0, how.cooldown * how.steps)
    return how.learning_rate * min(warming, (how.steps - step) / cooling)


def factor(name: str, how: Optimisation) -> float:
    """How much faster than the rest a parameter learns."""
    return next((times for part, times in how.faster.items() if part in name), 1.0)


def fit(
    model: nn.Module,
    loss: Loss,
    how: Optimisation,
    *,
    scratch: Path,
    log: Path,
    probe: Probe | None = None,
    stop: Stop | None = None,
    engine: Engine | None = None,
) -> int:
    """Train the parameters of `model` that ask for gradients; leave it holding their average; return the steps made.

    Checkpoints live in `scratch` until `log` (CSV: step, loss, lr, whatever the probe measures) is written; the seconds
    a step took, and waited for data, go to `<scratch>.speed.csv`.

    Raises:
        Diverged: loss or gradient is not a number, on any process.
        OSError: the first process could not write a checkpoint.
    """
    engine = engine or Engine()
    training = Training(model, how, engine, scratch / "checkpoint.pt")
    watch, speed = engine.watch, scratch.with_name(f"{scratch.name}.speed.csv")
    remaining = range(training.step, how.steps)
    watch.start()
    for step in track(remaining, len(remaining), "step", watch.note) if engine.rank == 0 else remaining:
        if stop is not None and stop(training.rows):
            break
        advance(training, loss, how, step)
        if (step + 1) % how.log_every == 0:
            row = {"step": step + 1, "loss": training.total.item() / how.log_every, "lr": rate(step, how)}
            training.total = torch.zeros(())
            watch.lap(row, how.log_every)
            if probe is not None:
                with training.averages():
                    row |= probe(step + 1, model)
            training.rows.append(row)
            engine.on_first_process(partial(write_rows, speed, watch.rows))
            engine.show(step + 1, row | watch.rows[-1])
            watch.start()
        if (step + 1) % how.save_every == 0:
            training.save()
    exchange(training.trained, training.averaged.module.parameters())
    engine.on_first_process(partial(write_rows, log, training.rows, COLUMNS))
    return training.step


def advance(training: Training, loss: Loss, how: Optimisation, step: int) -> None:
    """One step: gradients, their norm cut, the optimiser's move, the average."""
    for group in training.optimiser.param_groups:
        group["lr"] = rate(step, how) * group["factor"]
    training.optimiser.zero_grad(set_to_none=True)
    value = training.engine.gradients(loss, step)
    norm = training.engine.clip(training.trained, how.clip)
    for name, number in (("loss", value), ("gradient's norm", norm)):
        if not torch.isfinite(number):
            raise Diverged(
                f"{name} is {number.item()} at step {step}; {training.checkpoint} holds the last sound weights"
            )
    training.optimiser.step()
    training.averaged.update_parameters(training.trained)
    training.total, training.step = training.total + value, step + 1


def _averaging(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """EMA whose decay grows from nothing to `decay`, so that the first weights are soon forgotten."""

    def average(averages: Weights, weights: Weights, num_averaged: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        torch._foreach_lerp_([local(weight) for weight in averages], [local(weight) for weight in weights], share)

    return average


class holding:
    """A context in which parameters hold other values."""

    def __init__(self, parameters: Iterable[nn.Parameter], values: Iterable[nn.Parameter]) -> None:
        self.parameters, self.values = list(parameters), list(values)

    def __enter__(self) -> None:
        exchange(self.parameters, self.values)

    def __exit__(self, *_: object) -> None:
        exchange(self.parameters, self.values)


@torch.no_grad()
def exchange(parameters: Iterable[nn.Parameter], values: Iterable[nn.Parameter]) -> None:
    """Exchange the values of two lists of parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        here, there = local(parameter), local(value)
        held = here.clone()
        here.copy_(there)
        there.copy_(held)


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """A CSV of these columns and whatever else the rows hold."""
    every = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    with atomic.file(path) as part, part.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, every)
        writer.writeheader()
        writer.writerows(rows)
