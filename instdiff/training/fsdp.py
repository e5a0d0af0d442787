"""sharded: every weight, gradient, moment and average cut into one part a process (fully sharded data parallel).

accelerate sets up processes and precision; the cutting is torch's `fully_shard`, called here: the switch that
accelerate has for it does nothing on CPUs, and cannot be told of gates, which have no dimension to cut.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusion
from instdiff.training.accelerated import Accelerated, Hardware
from instdiff.training.engine import Loss
from instdiff.training.loop import local

UNITS = (BasicTransformerBlock, ResnetBlock2D, UniFusion, InstanceUNet)  # gathered while they run, each by itself


def engine(how: Hardware, records: Path) -> Accelerated:
    """What `how` asks for; one process has nothing to cut."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Sharded(how, records) if how.parallel == "fsdp" and several else Accelerated(how, records)


class Sharded(Accelerated):
    """One of several processes; vectors and numbers are whole in each, they weigh nothing."""

    def __init__(self, how: Hardware, records: Path) -> None:
        if how.precision == "fp16" or how.optimiser == "adamw_8bit" or how.compile:
            raise ValueError(
                "train.hardware.parallel is fsdp, which goes with precision no or bf16, optimiser adamw, compile false"
            )
        super().__init__(how, records)
        self.whole_everywhere: list[nn.Parameter] = []

    def prepare(self, objective: nn.Module) -> nn.Module:
        """The module on this process's device, its matrices cut."""
        self.wrapped = self.accelerator.prepare_model(objective, evaluation_mode=True)  # device and precision
        vectors = [weight for weight in objective.parameters() if weight.ndim < 2]
        mesh = init_device_mesh(self.device.type, (self.num_processes,))
        for module in reversed(list(self.wrapped.modules())):  # inner ones first
            if isinstance(module, UNITS) or module is self.wrapped:
                fully_shard(module, mesh=mesh, ignored_params=set(vectors))
        self.whole_everywhere = [weight for weight in vectors if weight.requires_grad]
        return self.wrapped

    def backward(self, loss: Loss, number: int, *, last: bool) -> Tensor:
        """Add a batch's share to the gradients, which are averaged over the processes and cut."""
        value = loss(number)
        self.accelerator.backward(value / self.accumulate)
        if last:
            self._average()
        return value.detach()

    def clip(self, parameters: Iterable[nn.Parameter], most: float) -> Tensor:
        """Scale the gradients down to a norm of at most `most` over all parts; return what the norm was."""
        weights = [weight for weight in parameters if weight.grad is not None]
        squares = {
            kind: torch.stack(
                [torch.zeros((), device=self.device)]
                + [_gradient(weight).square().sum() for weight in weights if isinstance(weight, DTensor) == kind]
            ).sum()
            for kind in (True, False)
        }
        norm: Tensor = (self.accelerator.reduce(squares[True], "sum") + squares[False]).sqrt()
        for weight in weights:
            _gradient(weight).mul_((most / (norm + 1e-6)).clamp(max=1.0))
        return norm.cpu()

    def whole(self, state: Any) -> Any:
        """On the first process the same with whole tensors, on the CPU; every process must ask."""
        if isinstance(state, DTensor):
            full = state.full_tensor()
            return full.cpu() if self.rank == 0 else None
        if isinstance(state, dict):
            return {name: self.whole(value) for name, value in state.items()}
        return state

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """What this process holds of a tensor that is cut as `like` is."""
        if not isinstance(like, DTensor) or whole.shape != like.shape:
            return whole
        return distribute_tensor(whole.to(self.device), like.device_mesh, like.placements, src_data_rank=None)

    def gather(self, model: nn.Module) -> None:
        """Make the weights of a model whole on every process."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.unshard()

    def _average(self) -> None:
        """The gradients of what is not cut."""
        gradients = [weight.grad for weight in self.whole_everywhere if weight.grad is not None]
        if gradients:
            flat: Tensor = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
            for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))


def _gradient(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return local(weight.grad)
