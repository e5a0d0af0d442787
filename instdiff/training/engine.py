"""What training steps run on: here one process."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from instdiff.networks.device import PLAIN, Place, arithmetic
from instdiff.progress import Watch
from instdiff.schema import Share, Strict

Loss = Callable[[int], Tensor]  # number of a batch -> its mean loss, a scalar
Row = dict[str, float]  # of the log
Result = TypeVar("Result")


class Optimisation(Strict):
    """How long and how fast to train."""

    steps: NonNegativeInt  # updates of the weights
    learning_rate: NonNegativeFloat  # its peak, after the warmup
    weight_decay: NonNegativeFloat  # AdamW's
    warmup: NonNegativeInt  # steps
    cooldown: float | Literal["cosine"]  # last share of the steps, over which the rate falls linearly to zero
    clip: PositiveFloat  # largest gradient norm
    ema: Share  # decay of the averaged weights
    faster: dict[str, float]  # part of a parameter's name -> factor on its rate
    save_every: PositiveInt  # steps between checkpoints
    log_every: PositiveInt  # steps between rows of the log


class Engine:
    """What steps run on: here one process, a batch a step."""

    rank, num_processes, accumulate = 0, 1, 1  # accumulate: batches whose gradients make one step

    def __init__(self, where: Place = PLAIN) -> None:
        self.watch, self.where = Watch(), where

    def optimiser(self, groups: list[dict[str, Any]], how: Optimisation) -> torch.optim.Optimizer:
        """AdamW over these groups."""
        return torch.optim.AdamW(groups, lr=how.learning_rate, weight_decay=how.weight_decay, betas=(0.9, 0.99))

    def gradients(self, loss: Loss, step: int) -> Tensor:
        """Leave the mean gradient of the step's batches in the parameters; return their mean loss."""
        total = torch.zeros(())
        for number in range(self.accumulate):
            value = self.backward(loss, step * self.accumulate + number, last=number == self.accumulate - 1)
            total = total + (value / self.accumulate).to(total.device)
        return self.mean(total)

    def backward(self, loss: Loss, number: int, *, last: bool) -> Tensor:
        """Add a batch's share to the gradients; return its loss."""
        with arithmetic(self.where):
            value = loss(number)
        (value / self.accumulate).backward()
        return value.detach()

    def clip(self, parameters: Iterable[nn.Parameter], most: float) -> Tensor:
        """Scale the gradients down to a norm of at most `most`; return what the norm was."""
        return nn.utils.clip_grad_norm_(parameters, most)

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes."""
        return value

    def on_first_process(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, on every process; an OSError of the first is raised on all."""
        return make()

    def show(self, step: int, row: Row) -> None:
        """Tell the trackers."""

    def whole(self, state: Any) -> Any:
        """The first process's state for a checkpoint, its tensors whole; every process must ask."""
        return state

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """What this process holds of a tensor that is cut over the processes as `like` is."""
        return whole

    def gather(self, model: nn.Module) -> None:
        """Make the weights of a model whole on every process."""

    def state(self) -> dict[str, Any]:
        """What of the engine a checkpoint must hold."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
