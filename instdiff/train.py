"""train: shards and their embeddings -> instance layers on the frozen base; or the shipped layers, as they are.

Legend: B batch, C channels, h w latent cells, L tokens, D features.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from instdiff import atomic, embeddings, provenance, recipes, shards, stage
from instdiff.conditions import Compat, Conditions
from instdiff.diffusion import eps_loss, noised
from instdiff.encoded import Encoded, Encoders
from instdiff.engine import Accelerated, Hardware
from instdiff.fit import Optimisation, Row, fit
from instdiff.networks import base_unet as base
from instdiff.probe import Probe, ProbeParams
from instdiff.randomness import derive
from instdiff.samples import Batch, Batches, Feed, Memory, Recipe, Source
from instdiff.schema import Strict
from instdiff.sharded import engine
from instdiff.start import Start, merge, start
from instdiff.streamed import Store, Streamed, last
from instdiff.unet import InstanceUNet
from instdiff.unifusion import UniFusion, UniFusionConfig
from instdiff.work import resume

LOG, PICTURES = "log.csv", "probe"


class Data(Strict):
    """Where samples are while training runs."""

    source: Literal["memory", "shards", "pictures"]  # "pictures" needs no embeddings: it encodes in every step
    workers: int  # processes that make batches ahead; 0 makes them between steps; for "pictures" threads that read
    encoders: Encoders  # of source "pictures"
    url: str | None  # of a folder that holds `shards` and `embeddings`, instead of the stage's own; needs `copies`
    copies: Path | None  # folder on a disk for what was read from the url
    copies_limit: int | None  # bytes that copies may take; the least used make room for others


class Params(Recipe):
    """What is trained, on what share of the conditions, how long, and on what."""

    source: Literal["train", "import"]  # "import" takes the shipped layers
    seed: int  # of first weights, order, noise and what is withheld
    unifusion: UniFusionConfig
    scale_u: bool  # whether ScaleU is trained, too
    masked_attention: bool  # a place of the picture attends only to instances it lies in
    min_snr: float | None  # a signal-to-noise ratio above it weighs less (Hang et al. 2023); null: all weigh alike
    start: Start
    optimisation: Optimisation
    hardware: Hardware
    data: Data
    probe: ProbeParams | None  # pictures drawn and judged while training runs; null: none


class Objective(nn.Module):
    """Batch -> loss: the one forward pass that is wrapped, compiled and run in the engine's precision."""

    def __init__(self, unet: InstanceUNet, params: Params, latent: tuple[int, int]) -> None:
        super().__init__()
        self.unet, self.params = unet, params
        self.grid = latent if params.masked_attention else None
        unet.unifusion.register_forward_hook(reached)

    def forward(self, batch: Batch) -> Tensor:
        """A scalar."""
        grounding = self.unet.ground(batch.conditions, masked=self.grid, compat=self.params.compat)
        noisy_BChw = noised(batch.latents_BChw, batch.noise_BChw, batch.timesteps_B)
        predicted = self.unet(noisy_BChw, batch.timesteps_B, batch.prompts_BLD, grounding).sample
        return eps_loss(predicted.float(), batch.noise_BChw, batch.timesteps_B, self.params.min_snr)


def reached(unifusion: nn.Module, given: tuple[Conditions], tokens_BTW: Tensor) -> Tensor:
    """The same tokens; where no mask is given, with a gradient of zero for what only masks reach.

    Processes wait for each other's gradients. A hook, since elsewhere the weights may be cut over the processes.
    """
    if not isinstance(unifusion, UniFusion) or given[0].mask_given_BN.any():
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
    batches = Batches(source, params, params.seed, engine.rank, engine.world, engine.parts, held_out)
    height, width = batches[0].latents_BChw.shape[-2:]
    objective = engine.prepare(Objective(unet, params, (int(height), int(width))))
    stop = params.optimisation.steps * engine.parts
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
        {"scale_u": torch.cat([one.flatten() for one in scales]).tanh().abs().mean().item()} if scales else {}
    )


def run(
    *, shipped: Path, shards: Path, embeddings: Path, unet: Path, instance: Path, params: Params
) -> dict[str, float]:
    """Shards, embeddings, base -> instance layers; every process of a run calls this, the first one writes."""
    if params.source == "import":
        if not (shipped / "layers").is_dir():
            raise ValueError(f"{shipped}: no instance layers here; train them with train.source: train")
        return recipes.copy(shipped, instance)
    where = stores(shards, embeddings, params.data)
    inputs = (fingerprint(shards, params.data), encoding(embeddings, params.data), unet)
    scratch = resume.folder(resume.digest(__name__, params, *inputs))
    processes = engine(params.hardware, scratch.with_name(f"{scratch.name}.trackers"))
    torch.manual_seed(params.seed)
    model = InstanceUNet.from_base(base.load(unet), params.unifusion, scale_u=params.scale_u)
    start(model, params.start)
    probe = None if params.probe is None else watching(params, params.probe, where[0], processes, scratch / PICTURES)
    steps = train(params, samples(where, params, processes.device), model, processes, scratch, probe)
    processes.gather(model)
    merge(model)
    weights = sum(weight.numel() for weight in model.instance_layers().values())
    metrics = {"samples": float(params.batch_size * steps), "parameters": float(weights)}
    processes.first_alone(partial(write, model, instance, scratch, params, metrics))
    processes.end()
    return metrics


def watching(params: Params, how: ProbeParams, shards: Store, engine: Accelerated, pictures: Path) -> Probe:
    """The probe, drawing as the layers are trained."""
    layouts = last(shards, how.layouts)
    masked, compat = params.masked_attention, params.compat
    return Probe(how, layouts, engine, pictures, masked_attention=masked, compat=compat)


def write(model: InstanceUNet, instance: Path, scratch: Path, params: Params, metrics: dict[str, float]) -> None:
    """The trained layers, the log, the probe's pictures and how it was all made; then the checkpoints may go."""
    with atomic.folder(instance) as part:
        shutil.copyfile(scratch / LOG, part / LOG)
        if (scratch / PICTURES).is_dir():
            shutil.copytree(scratch / PICTURES, part / PICTURES)
        model.save_instance_layers(part / "layers")
        recipes.record(part, params, metrics)
    resume.clear(scratch)


def stores(shards_in: Path, embeddings_in: Path, data: Data) -> tuple[Store, Store]:
    """Where shards and embeddings are read: these folders, or the url in their place."""
    if data.url is None:
        return Store(shards_in), Store(embeddings_in)
    if data.copies is None or data.source == "memory":
        raise ValueError(
            "train.data.url needs train.data.source shards or pictures, and a folder train.data.copies for what is read"
        )
    names = ("shards", "embeddings")
    first, second = (Store(data.copies / name, f"{data.url}/{name}", data.copies_limit) for name in names)
    return first, second


def samples(where: tuple[Store, Store], params: Params, device: torch.device) -> Source:
    """The samples of these stores; ValueError where embeddings were made for other shards or by other rules."""
    data, sizes, compat = params.data, params.unifusion, params.compat
    if data.source == "pictures":
        return Encoded(where[0], data.encoders, params.prompts, sizes, compat, device, data.workers)
    found = Streamed(*where, sizes, compat) if data.source == "shards" else in_memory(where, sizes, compat)
    made, asked = found.empty.rule, params.prompts.rule
    if made != asked:
        raise ValueError(
            f"{where[1].url or where[1].folder}: prompts were embedded by the rule {made or 'never listed'}, "
            f"and train.prompts is {asked or 'never listed'}: run `embed` again"
        )
    return found


def in_memory(where: tuple[Store, Store], sizes: UniFusionConfig, compat: Compat | None) -> Memory:
    """Every sample of these folders."""
    layouts = [sample.layout for sample in shards.read(where[0].folder)]
    parts = list(embeddings.read(where[1].folder))
    if [layout.key for layout in layouts] != [key for part in parts for key in part.keys]:
        raise ValueError(f"{where[0].folder}: the embeddings were made for other shards")
    return Memory(layouts, parts, embeddings.read_empty(where[1].folder), sizes, compat)


def fingerprint(folder: Path, data: Data) -> str:
    """What a run's checkpoints belong to: the bytes of a folder, or its names and sizes where it is streamed."""
    if data.source == "memory":
        return provenance.of_folder(folder)
    return "\n".join(f"{one.relative_to(folder)} {one.stat().st_size}" for one in provenance.files(folder))


def encoding(embeddings: Path, data: Data) -> str:
    """The same of what the base reads: the embeddings, or the encoders that make them."""
    if data.source == "pictures":
        return provenance.of_folder(data.encoders.text) + provenance.of_folder(data.encoders.vae)
    return fingerprint(embeddings, data)


if __name__ == "__main__":
    stage.main(run)
