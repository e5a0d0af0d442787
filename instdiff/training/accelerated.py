"""engine: what training steps run on, by accelerate: a CPU, a GPU, or many of them on one machine or a cluster."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from pydantic import PositiveInt
from torch import Tensor, nn

from instdiff.networks.device import resolve
from instdiff.schema import Strict
from instdiff.training.engine import Engine, Loss, Optimisation, Result, Row


class Hardware(Strict):
    """How the arithmetic is done; `precision` aside, none of it changes what is learned."""

    device: str  # auto, cpu, cuda or mps; of several GPUs each process takes the one of its number
    parallel: Literal["ddp", "fsdp"]  # "fsdp" cuts weights, gradients, moments and averages over the processes
    precision: Literal["no", "bf16", "fp16"]  # of the forward pass; weights, averages and optimiser stay in fp32
    accumulate: PositiveInt  # parts in which each process takes its share of a batch
    checkpointing: bool  # computes activations twice instead of keeping them
    compile: bool  # torch.compile
    optimiser: Literal["adamw", "adamw_8bit"]  # adamw_8bit keeps its moments in bytes; needs bitsandbytes
    betas: tuple[float, float]  # AdamW's decay of first and second moments
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...]  # where the log goes besides log.csv


class Accelerated(Engine):
    """One process of the run, as torchrun, SLURM or nobody has set it up."""

    def __init__(self, how: Hardware, records: Path) -> None:
        super().__init__()
        absent = [name for name in how.trackers if find_spec(name) is None]
        if absent:
            raise ValueError(
                f"train.hardware.trackers names {absent[0]}, which is not installed: `pip install {absent[0]}`"
            )
        on_cpu = resolve(how.device).type == "cpu"
        if how.precision == "fp16" and on_cpu:  # accelerate would take full precision
            raise ValueError("train.hardware.precision is fp16, which needs a GPU; on a CPU it is no or bf16")
        self.how = how
        self.accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision=how.precision,
            log_with=list(how.trackers) or None,
            project_dir=str(records),
        )
        self.rank, self.num_processes = self.accelerator.process_index, self.accelerator.num_processes
        self.accumulate, self.device = how.accumulate, self.accelerator.device
        self.wrapped: nn.Module = nn.Identity()
        if how.trackers:
            records.mkdir(parents=True, exist_ok=True)
            self.accelerator.init_trackers("instdiff")

    def prepare(self, objective: nn.Module) -> nn.Module:
        """The module on this process's device, its gradients averaged over all processes."""
        if self.how.compile:
            objective.compile()
        self.wrapped = self.accelerator.prepare_model(objective)
        return self.wrapped

    def optimiser(self, groups: list[dict[str, Any]], how: Optimisation) -> torch.optim.Optimizer:
        """AdamW over these groups, its moments in 8 bits if asked for."""
        make = _adamw_8bit() if self.how.optimiser == "adamw_8bit" else torch.optim.AdamW
        plain = make(groups, lr=how.learning_rate, weight_decay=how.weight_decay, betas=self.how.betas)
        prepared: torch.optim.Optimizer = self.accelerator.prepare_optimizer(plain)
        return prepared

    def backward(self, loss: Loss, number: int, *, last: bool) -> Tensor:
        """Add a batch's share to the gradients; processes exchange them with the step's last batch."""
        with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
            value = loss(number)
            self.accelerator.backward(value / self.accumulate)
        return value.detach()

    def clip(self, parameters: Iterable[nn.Parameter], most: float) -> Tensor:
        """Scale the gradients down; a step that fp16 overflows is skipped by its scaler and counts as one of norm 0."""
        norm: Tensor = self.accelerator.clip_grad_norm_(list(parameters), most)
        overflows = self.accelerator.scaler is not None and not torch.isfinite(norm)
        return torch.zeros(()) if overflows else norm

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes: not a number on all of them if it is on one."""
        if self.num_processes == 1:
            return value
        mean: Tensor = self.accelerator.reduce(value.to(self.device), "mean")
        return mean.cpu()

    def on_first_process(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, on every process; an OSError of the first is raised on all."""
        if self.num_processes == 1:
            return make()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = make()
            except OSError as error:
                outcome[1] = str(error)
        broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise OSError(outcome[1])
        result: Result = outcome[0]
        return result

    def show(self, step: int, row: Row) -> None:
        """Tell the trackers."""
        self.accelerator.log(row, step=step)

    def show_picture(self, step: int, picture_HWC: Any) -> None:
        """Tell the trackers that take pictures."""
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({"probe": picture_HWC[None]}, step=step, **_LAYOUT.get(tracker.name, {}))

    def end(self) -> None:
        """Let the trackers write what they hold."""
        self.accelerator.end_training()

    def state(self) -> dict[str, Any]:
        """The loss scaler of fp16."""
        scaler = self.accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])


_LAYOUT = {"tensorboard": {"dataformats": "NHWC"}}


def _adamw_8bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            "train.hardware.optimiser is adamw_8bit, which needs bitsandbytes and a GPU it supports: "
            "`pip install bitsandbytes`, or set it to adamw"
        ) from error
    return AdamW8bit
