"""One training loop: AdamW, warm-up and cool-down, EMA of what is trained, and a resume that leaves no trace.

Step number s is a function of the weights, the optimiser's state and s alone: whoever asks for a batch derives it from
(seed, s). So a run killed anywhere and started again ends in the same bits as one that was never interrupted.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from instdiff import atomic
from instdiff.progress import track
from instdiff.schema import Strict

Loss = Callable[[int], Tensor]  # step -> scalar
Probe = Callable[[int, nn.Module], dict[str, float]]  # step, averaged weights -> columns of the log
Weights = tuple[Tensor, ...] | list[Tensor]
COLUMNS = ("step", "loss", "lr")


class Optimisation(Strict):
    """How long and how fast to train."""

    steps: int
    learning_rate: float
    weight_decay: float
    warmup: int  # steps
    cooldown: float  # last share of the steps, over which the rate falls linearly to zero
    clip: float  # largest gradient norm
    ema: float  # decay of the averaged weights
    faster: dict[str, float]  # part of a parameter's name -> factor on its rate
    save_every: int  # steps between checkpoints
    log_every: int


class Diverged(RuntimeError):
    """The loss is no longer a number; the last checkpoint is sound."""


def rate(step: int, how: Optimisation) -> float:
    """Learning rate at a step: linear warm-up, constant, linear cool-down."""
    cooling = max(1.0, how.cooldown * how.steps)
    return how.learning_rate * min(1.0, (step + 1) / max(1, how.warmup), (how.steps - step) / cooling)


def factor(name: str, how: Optimisation) -> float:
    """How much faster than the rest a parameter learns."""
    return next((times for part, times in how.faster.items() if part in name), 1.0)


def fit(
    model: nn.Module, loss: Loss, how: Optimisation, *, scratch: Path, log: Path, probe: Probe | None = None
) -> None:
    """Train the parameters of `model` that ask for gradients; leave it holding their average.

    Checkpoints live in `scratch` until `log` (CSV: step, loss, lr, whatever the probe measures) is written.
    """
    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    trained = nn.ParameterList(named.values())
    groups = [{"params": [weight], "factor": factor(name, how)} for name, weight in named.items()]
    optimiser = torch.optim.AdamW(groups, lr=how.learning_rate, weight_decay=how.weight_decay, betas=(0.9, 0.99))
    averaged = AveragedModel(trained, multi_avg_fn=_averaging(how.ema))
    checkpoint = scratch / "checkpoint.pt"
    rows: list[dict[str, float]] = []
    start, total = 0, torch.zeros(())  # total: the losses since the last row
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        trained.load_state_dict(state["trained"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        rows, start, total = state["rows"], state["step"], state.get("total", total)
    for step in track(range(start, how.steps), how.steps - start, "step"):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, how) * group["factor"]
        value = loss(step)
        if not torch.isfinite(value):
            raise Diverged(f"loss is {value.item()} at step {step}; {checkpoint} holds the last sound weights")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(trained, how.clip)
        optimiser.step()
        averaged.update_parameters(trained)
        total += value.detach()
        if (step + 1) % how.log_every == 0:
            rows.append({"step": step + 1, "loss": total.item() / how.log_every, "lr": rate(step, how)})
            if probe is not None:
                with swapped(trained, averaged.module.parameters()):
                    rows[-1] |= probe(step + 1, model)
            total = torch.zeros(())
        if (step + 1) % how.save_every == 0:
            state = {"trained": trained.state_dict(), "averaged": averaged.state_dict()}
            state |= {"optimiser": optimiser.state_dict(), "rows": rows, "step": step + 1, "total": total}
            with atomic.file(checkpoint) as part:
                torch.save(state, part)
    swap(trained, averaged.module.parameters())
    _write_log(log, rows)


def _averaging(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """EMA whose decay grows from nothing to `decay`, so that the first weights are soon forgotten."""

    def average(kept: Weights, weights: Weights, num_averaged: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
        torch._foreach_lerp_(list(kept), list(weights), share)

    return average


class swapped:
    """While entered, parameters hold other values."""

    def __init__(self, parameters: Iterable[nn.Parameter], values: Iterable[nn.Parameter]) -> None:
        self.parameters, self.values = list(parameters), list(values)

    def __enter__(self) -> None:
        swap(self.parameters, self.values)

    def __exit__(self, *_: object) -> None:
        swap(self.parameters, self.values)


def swap(parameters: Iterable[nn.Parameter], values: Iterable[nn.Parameter]) -> None:
    """Exchange the values of two lists of parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data, value.data = value.data, parameter.data


def _write_log(path: Path, rows: list[dict[str, float]]) -> None:
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    with atomic.file(path) as part, part.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(rows)
