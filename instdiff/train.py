"""train: shards and their embeddings -> instance layers on the frozen base.

Legend: B batch, C channels, h w latent cells, L tokens, D features.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from instdiff import atomic, embeddings, shards, stage
from instdiff.diffusion import eps_loss, noised
from instdiff.engine import Accelerated, Hardware
from instdiff.fit import Optimisation, Row, fit
from instdiff.foundation import recipe
from instdiff.foundation import unet as base
from instdiff.probe import Probe, ProbeParams
from instdiff.randomness import derive
from instdiff.samples import Batch, Batches, Feed, Memory, Recipe, Source
from instdiff.schema import Strict
from instdiff.start import Start, merge, start
from instdiff.streamed import Store, Streamed, last
from instdiff.unet import InstanceUNet
from instdiff.unifusion import UniFusionConfig

LOG, PICTURES = "log.csv", "probe"


class Data(Strict):
    """Where samples are while training runs."""

    source: Literal["memory", "shards"]
    workers: int  # processes that make batches ahead; 0 makes them between steps
    url: str | None  # of a folder that holds `shards` and `embeddings`, instead of the stage's own; needs `copies`
    copies: Path | None  # folder on a disk for what was read from the url


class Params(Recipe):
    """What is trained, on what share of the conditions, how long, and on what."""

    seed: int
    unifusion: UniFusionConfig
    scale_u: bool
    masked_attention: bool
    min_snr: float | None
    start: Start
    optimisation: Optimisation
    hardware: Hardware
    data: Data
    probe: ProbeParams | None


class Objective(nn.Module):
    """Batch -> loss: the one forward pass that is wrapped, compiled and run in the engine's precision."""

    def __init__(self, unet: InstanceUNet, params: Params, latent: tuple[int, int]) -> None:
        super().__init__()
        self.unet, self.params = unet, params
        self.grid = latent if params.masked_attention else None

    def forward(self, batch: Batch) -> Tensor:
        """A scalar."""
        grounding = self.unet.ground(batch.conditions, masked=self.grid, compat=self.params.compat)
        noisy_BChw = noised(batch.latents_BChw, batch.noise_BChw, batch.timesteps_B)
        predicted = self.unet(noisy_BChw, batch.timesteps_B, batch.prompts_BLD, grounding).sample
        loss = eps_loss(predicted.float(), batch.noise_BChw, batch.timesteps_B, self.params.min_snr)
        return loss if batch.conditions.mask_given_BN.any() else loss + self._nothing()

    def _nothing(self) -> Tensor:
        """Zero, and a gradient of zero for what only masks reach: processes wait for each other's gradients."""
        reached = (self.unet.unifusion.mask_in, self.unet.unifusion.mask_trunk)
        return 0 * torch.stack([weight.sum() for part in reached for weight in part.parameters()]).sum()


def train(
    params: Params, source: Source, unet: InstanceUNet, engine: Accelerated, scratch: Path, probe: Probe | None
) -> int:
    """Fit the instance layers of `unet` that ask for gradients; its base gets none. Returns the steps made."""
    if params.hardware.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    held_out = 0 if params.probe is None else params.probe.layouts
    batches = Batches(source, params, params.seed, engine.rank, engine.world, engine.parts, held_out)
    height, width = batches[0].latents_BChw.shape[-2:]
    objective = engine.prepare(Objective(unet, params, (int(height), int(width))))
    stop = params.optimisation.steps * engine.parts
    feed = Feed(batches, stop, params.data.workers, engine.device, engine.watch)

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
        {"scale_u": torch.cat([one.flatten() for one in scales]).tanh().abs().mean().item()} if scales else {}
    )


def run(*, shards: Path, embeddings: Path, unet: Path, instance: Path, params: Params) -> dict[str, float]:
    """Shards, embeddings, base -> instance layers; every process of a run calls this, the first one writes."""
    where = stores(shards, embeddings, params.data)
    scratch = recipe.scratch(params, fingerprint(shards, params), fingerprint(embeddings, params), recipe.digest(unet))
    engine = Accelerated(params.hardware, scratch.with_name(f"{scratch.name}.trackers"))
    torch.manual_seed(params.seed)
    model = InstanceUNet.from_base(base.load(unet), params.unifusion, scale_u=params.scale_u)
    start(model, params.start)
    probe = (
        None
        if params.probe is None
        else Probe(params.probe, last(where[0], params.probe.layouts), engine, scratch / PICTURES)
    )
    steps = train(params, samples(where, params), model, engine, scratch, probe)
    merge(model)
    weights = sum(weight.numel() for weight in model.instance_layers().values())
    metrics = {"samples": float(params.batch_size * steps), "parameters": float(weights)}
    engine.first_alone(partial(write, model, instance, scratch, params, metrics))
    engine.end()
    return metrics


def write(model: InstanceUNet, instance: Path, scratch: Path, params: Params, metrics: dict[str, float]) -> None:
    """The trained layers, the log, the probe's pictures and how it was all made; then the checkpoints may go."""
    with atomic.folder(instance) as part:
        shutil.copyfile(scratch / LOG, part / LOG)
        if (scratch / PICTURES).is_dir():
            shutil.copytree(scratch / PICTURES, part / PICTURES)
        model.save_instance_layers(part / "layers")
        recipe.record(part, params, metrics)
    recipe.clear(scratch)


def stores(shards_in: Path, embeddings_in: Path, data: Data) -> tuple[Store, Store]:
    """Where shards and embeddings are read: these folders, or the url in their place."""
    if data.url is None:
        return Store(shards_in), Store(embeddings_in)
    if data.copies is None or data.source == "memory":
        raise ValueError(
            "train.data.url needs train.data.source: shards, and a folder train.data.copies for what is read"
        )
    return Store(data.copies / "shards", f"{data.url}/shards"), Store(
        data.copies / "embeddings", f"{data.url}/embeddings"
    )


def samples(where: tuple[Store, Store], params: Params) -> Source:
    """The samples of these stores."""
    if params.data.source == "shards":
        return Streamed(*where, params.unifusion, params.compat)
    layouts = [sample.layout for sample in shards.read(where[0].folder)]
    parts = list(embeddings.read(where[1].folder))
    if [layout.key for layout in layouts] != [key for part in parts for key in part.keys]:
        raise ValueError(f"{where[0].folder}: the embeddings were made for other shards")
    return Memory(layouts, parts, embeddings.read_empty(where[1].folder), params.unifusion, params.compat)


def fingerprint(folder: Path, params: Params) -> str:
    """What a run's checkpoints belong to: the bytes of a folder, or its names and sizes where it is streamed."""
    if params.data.source == "memory":
        return recipe.digest(folder)
    return "\n".join(f"{one.relative_to(folder)} {one.stat().st_size}" for one in recipe.files(folder))


if __name__ == "__main__":
    stage.main(run)
