"""train: shards and their embeddings -> instance layers on the frozen base; or the shipped layers, as they are.

Legend: B batch, C channels, h w latent cells, L tokens, D features.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from instdiff import stage
from instdiff.data.batches import Batch, Batches, Feed
from instdiff.data.from_pictures import Encoders
from instdiff.data.from_shards import ShardSet, last
from instdiff.data.samples import Source
from instdiff.data.source import SampleParams, identity, refuse_without_instances, samples, stores
from instdiff.files import atomic, recipes
from instdiff.model.conditions import Conditions
from instdiff.model.drawing import Drawing, Sampler
from instdiff.model.noise_schedule import eps_loss, noised
from instdiff.model.unet import InstanceUNet
from instdiff.model.unifusion import UniFusion, counts_first
from instdiff.networks import base_unet as base
from instdiff.randomness import derive
from instdiff.training.accelerated import Accelerated, Hardware
from instdiff.training.engine import Optimisation, Row
from instdiff.training.fsdp import engine
from instdiff.training.initial_weights import Start, merge, start
from instdiff.training.loop import fit
from instdiff.training.probe import Models, Probe, ProbeParams
from instdiff.work import resume

LOG, PICTURES = "log.csv", "probe"


class Params(SampleParams):
    """What is trained, on what share of the conditions, how long, and on what."""

    source: Literal["train", "import"]  # "import" takes the shipped layers
    seed: int  # of first weights, order, noise and what is withheld
    scale_u: bool  # whether ScaleU is trained, too
    masked_attention: bool  # a place of the picture attends only to instances it lies in
    drawing: Sampler  # how the layers are best drawn: it goes with them, and who draws takes it from there
    min_snr: float | None  # a signal-to-noise ratio above it weighs less (Hang et al. 2023); null: all weigh alike
    start: Start
    optimisation: Optimisation
    hardware: Hardware
    probe: ProbeParams | None  # pictures drawn and judged while training runs; null: none


class Objective(nn.Module):
    """Batch -> loss: the one forward pass that is wrapped, compiled and run in the engine's precision."""

    def __init__(self, unet: InstanceUNet, params: Params, latent: tuple[int, int]) -> None:
        super().__init__()
        self.unet, self.params = unet, params
        self.grid = latent if params.masked_attention else None
        unet.unifusion.register_forward_hook(zero_gradient_for_unused)

    def forward(self, batch: Batch) -> Tensor:
        """A scalar."""
        grounding = self.unet.ground(batch.conditions, masked=self.grid, compat=self.params.compat)
        noisy_BChw = noised(batch.latents_BChw, batch.noise_BChw, batch.timesteps_B)
        predicted = self.unet(noisy_BChw, batch.timesteps_B, batch.prompts_BLD, grounding).sample
        return eps_loss(predicted.float(), batch.noise_BChw, batch.timesteps_B, self.params.min_snr)


def zero_gradient_for_unused(unifusion: nn.Module, inputs: tuple[Conditions], tokens_BTW: Tensor) -> Tensor:
    """The same tokens; where no mask is given, with a gradient of zero for the weights that only masks use.

    Processes wait for each other's gradients. A hook, since elsewhere the weights may be cut over the processes.
    """
    mask_given_BN = inputs[0].mask_given_BN
    if not isinstance(unifusion, UniFusion) or not counts_first(mask_given_BN) or mask_given_BN.any():
        return tokens_BTW
    parts = (unifusion.mask_in, unifusion.mask_trunk)
    return tokens_BTW + 0 * torch.stack([weight.sum() for part in parts for weight in part.parameters()]).sum()


def train(
    params: Params, source: Source, unet: InstanceUNet, engine: Accelerated, scratch: Path, probe: Probe | None
) -> int:
    """Fit the instance layers of `unet` that ask for gradients; its base gets none. Returns the steps made."""
    if params.hardware.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    held_out = 0 if params.probe is None else params.probe.layouts
    batches = Batches(source, params, params.seed, engine.rank, engine.num_processes, engine.accumulate, held_out)
    height, width = batches[0].latents_BChw.shape[-2:]
    objective = engine.prepare(Objective(unet, params, (int(height), int(width))))
    stop = params.optimisation.steps * engine.accumulate
    ahead = 0 if params.data.source == "pictures" else params.data.workers  # encoders stay in this process
    feed = Feed(batches, stop, ahead, engine.device, engine.watch)

    def loss(number: int) -> Tensor:
        batch = feed(number)
        torch.manual_seed(derive(params.seed, "layers", number, engine.rank))  # for drop-out, where a layer has it
        value: Tensor = objective(batch)
        return value

    def measured(step: int, model: nn.Module) -> Row:
        return gates(model) | (probe(step, unet) if probe is not None else {})

    enough = probe.enough if probe is not None else None
    return fit(
        unet, loss, params.optimisation, scratch=scratch, log=scratch / LOG, probe=measured, stop=enough, engine=engine
    )


def gates(unet: nn.Module) -> Row:
    """How far the gates have opened: the mean of |tanh(alpha)|, and of |tanh| over ScaleU's factors."""
    alphas = [weight.detach() for name, weight in unet.named_parameters() if "alpha_" in name]
    scales = [weight.detach() for name, weight in unet.named_parameters() if ".scale_u." in name]
    opened = {"gate": torch.stack(alphas).tanh().abs().mean().item()}
    return opened | (
        {"scale_u": torch.cat([scale.flatten() for scale in scales]).tanh().abs().mean().item()} if scales else {}
    )


def run(
    *,
    shipped: Path,
    shards: Path,
    embeddings: Path,
    text: Path,
    vae: Path,
    unet: Path,
    detector: Path,
    judge: Path,
    instance: Path,
    params: Params,
) -> dict[str, float]:
    """Shards, embeddings, base -> instance layers; every process of a run calls this, the first one writes.

    Encoders are read where `data.source` is pictures, and with the detector and the judge where there is a probe.
    """
    if params.source == "import":
        if not (shipped / "layers").is_dir():
            raise ValueError(f"{shipped}: no instance layers here; train them with train.source: train")
        return recipes.copy(shipped, instance)
    where = stores(shards, embeddings, params.data)
    refuse_without_instances(where)
    encoders = Encoders(text, vae)
    models = Models(text, vae, detector, judge)
    inputs = [*identity(where, encoders, params.data), unet]
    inputs += [] if params.start.weights is None else [params.start.weights]
    inputs += [] if params.probe is None else [*models, *params.probe.other_weights(models)]
    scratch = resume.folder(resume.digest(__name__, params, *inputs))
    processes = engine(params.hardware, scratch.with_name(f"{scratch.name}.trackers"))
    torch.manual_seed(params.seed)
    drawing = Drawing(**params.drawing.model_dump(), masked_attention=params.masked_attention)
    model = InstanceUNet.from_base(base.load(unet), params.unifusion, scale_u=params.scale_u, drawing=drawing)
    start(model, params.start)
    probe = probe_of(params, models, where, processes, scratch / PICTURES)
    steps = train(params, samples(where, encoders, params, processes.device), model, processes, scratch, probe)
    processes.gather(model)
    merge(model)
    weights = sum(weight.numel() for weight in model.instance_layers().values())
    metrics = {"samples": float(params.batch_size * steps), "parameters": float(weights)}
    processes.on_first_process(partial(write, model, instance, scratch, params, metrics))
    processes.end()
    return metrics


def probe_of(
    params: Params, models: Models, where: Sequence[ShardSet], engine: Accelerated, pictures: Path
) -> Probe | None:
    """The probe that params ask for, drawing as the layers are trained."""
    if params.probe is None:
        return None
    layouts = last(where, params.probe.layouts)
    masked, compat = params.masked_attention, params.compat
    return Probe(params.probe, models, layouts, engine, pictures, masked_attention=masked, compat=compat)


def write(model: InstanceUNet, instance: Path, scratch: Path, params: Params, metrics: dict[str, float]) -> None:
    """The trained layers, the log, the probe's pictures and how it was all made; then the checkpoints may go."""
    with atomic.folder(instance) as part:
        shutil.copyfile(scratch / LOG, part / LOG)
        if (scratch / PICTURES).is_dir():
            shutil.copytree(scratch / PICTURES, part / PICTURES)
        model.save_instance_layers(part / "layers")
        began = params.start.weights
        recipes.record(part, params, metrics, before=None if began is None else began.parent)
    resume.clear(scratch)


if __name__ == "__main__":
    stage.main(run)
