"""generate: val layouts + weights -> pictures, for one row of the table (a protocol).

Batches are filled across layouts by their rows, and decided before anybody is chosen to draw them: whoever does, here
or on a cluster, draws the same pictures. Finished batches stay in runs/ until the stage is complete: a kill costs the
batches in flight.
"""

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from instdiff import stage
from instdiff.files import atomic, picture_files, provenance, tables
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.table_rows import TableRow
from instdiff.model.drawing import AS_RELEASED, Drawing, MaskedAttention, Merge, SolverName, chosen, remark
from instdiff.model.unet import CONFIG_FILE, InstanceUNet, layers_config
from instdiff.networks import base_unet as base
from instdiff.networks import clip, vae
from instdiff.networks.device import Place, kind_of, place
from instdiff.progress import track
from instdiff.randomness import torch_generator
from instdiff.sampling import by_command, multi_instance
from instdiff.sampling.few_steps import StepNoise
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import scheduler
from instdiff.schema import Compat, Layout, Share, Strict
from instdiff.work import parts, resume
from instdiff.work.parts import Answer, Work

PICTURES = pa.schema({"key": pa.string(), "device": pa.string()})  # drawn on which kind of device


class Params(Strict):
    """How pictures are drawn, the same for every row but for what the row sets."""

    seed: int  # of the noise: with a layout's key, the same in every row
    rows: dict[str, TableRow]
    solver: SolverName | None  # null, here and below: as the layers are best drawn
    steps: PositiveInt | None  # of the solver
    guidance: float | None  # scale of classifier-free guidance; 1 is none
    negative_prompt: str | None  # what guidance leads away from
    alpha: Share | None  # share of the steps, from the noisiest on, in which instances count
    scale_u: bool  # whether ScaleU takes part
    merge: Merge | None  # of instances drawn alone: the mean, or each instance in its own place
    masked_attention: MaskedAttention | None  # as in training, or masked at the level of the most tokens alone
    compat: Compat | None  # "reference" gives the numbers of the released code where it differs
    batch_size: PositiveInt  # pictures drawn at once, at most
    batch_rows: PositiveInt  # rows held at once, at most: pictures, and instances that are drawn apart
    max_rows: PositiveInt  # in one forward pass; a batch of more goes through in several
    guidance_interval: tuple[Share, Share]  # shares of the steps between which guidance counts
    reuse: PositiveInt  # of so many steps only the first evaluates the deep levels of the network
    device: Place
    work: Work


class Weights(NamedTuple):
    """The folders of the networks that draw."""

    text: Path
    vae: Path
    unet: Path
    instance: Path


def load(*, text: Path, vae_folder: Path, unet: Path, instance: Path, params: Params) -> InstanceDiffusionPipeline:
    """The pipeline of these folders."""
    where = params.device.settled()
    model = InstanceUNet.from_base_and_layers(base.load(unet, where), instance / "layers").requires_grad_(False).eval()
    if not params.scale_u:
        model.disable_scale_u()
    words = clip.load_text(text, where)
    steps = scheduler(params.solver or model.drawing.solver)
    pipeline = InstanceDiffusionPipeline(
        vae.load(vae_folder, where), words.model, words.tokenizer, place(model, where), steps
    )
    pipeline.padded = where.compile != "no"
    return pipeline


def draw(
    pipeline: InstanceDiffusionPipeline, batch: Sequence[Layout], row: TableRow, params: Params
) -> list[Image.Image]:
    """One picture a layout; the noise of a picture depends on the seed and its key alone."""
    shape = (pipeline.unet.config.in_channels, *[pipeline.unet.config.sample_size] * 2)
    noise = [torch.randn(shape, generator=torch_generator(params.seed, "noise", layout.key)) for layout in batch]
    images: list[Image.Image] = pipeline(
        batch,
        negative_prompt=params.negative_prompt,
        num_inference_steps=params.steps,
        guidance_scale=params.guidance,
        guidance_interval=params.guidance_interval,
        reuse=params.reuse,
        alpha=params.alpha,
        mis=row.mis,
        merge=params.merge,
        formats=row.formats,
        masked_attention=params.masked_attention,
        compat=params.compat,
        latents=torch.stack(noise),
        step_noise=step_noise(batch, params.seed, shape) if params.solver == "lcm" else None,
        max_rows=params.max_rows,
    ).images
    return images


def step_noise(batch: Sequence[Layout], seed: int, shape: tuple[int, ...]) -> StepNoise:
    """The noise of each step of each layout, which depends on the seed, its key and the step alone."""

    def noise(step: int) -> Tensor:
        generators = [torch_generator(seed, "noise", layout.key, step) for layout in batch]
        return torch.stack([torch.randn(shape, generator=each) for each in generators])

    return noise


def settled(params: Params, own: Drawing) -> Params:
    """The values with those of the layers where they are null; one remark on those that differ from the layers'."""
    names = sorted(Drawing.model_fields.keys() & Params.model_fields.keys())  # `mis` is the row's
    taken = chosen(own, {name: getattr(params, name) for name in names})
    if (sentence := remark(own, taken)) is not None:
        print(f"generate: {sentence}")
    return params.model_copy(update={name: getattr(taken, name) for name in names})


def first(layout: Layout, slots: int) -> Layout:
    """The layout with no more instances than the model has slots for, the first as in the released evaluation."""
    return layout.model_copy(update={"instances": layout.instances[:slots]})


@dataclass(frozen=True)
class BatchDrawing:
    """Draws the pictures of a batch; a process loads the networks when it draws its first."""

    digest: str  # of all that decides the pictures
    weights: Weights = field(compare=False)
    row: TableRow = field(compare=False)
    params: Params = field(compare=False)

    def __call__(self, batch: Sequence[Layout]) -> Iterator[Answer]:
        """The file of each picture."""
        pipeline = networks(self)
        device = kind_of(pipeline.device)
        for layout, picture in zip(batch, draw(pipeline, batch, self.row, self.params), strict=True):
            stream = io.BytesIO()
            picture.save(stream, "png")
            row = {"key": layout.key, "device": device}
            yield Answer(layout.key, [row], [], ((f"{layout.key}.png", stream.getvalue()),))


@lru_cache(maxsize=1)
def networks(drawing: BatchDrawing) -> InstanceDiffusionPipeline:
    """The pipeline of a drawing, kept for the batches that follow."""
    own = drawing.weights
    return load(text=own.text, vae_folder=own.vae, unet=own.unet, instance=own.instance, params=drawing.params)


def batches(layouts: Sequence[Layout], row: TableRow, params: Params) -> list[list[Layout]]:
    """The layouts in their order, each batch as full as `batch_size` pictures and `batch_rows` rows allow."""
    assert params.steps is not None  # settled
    is_apart = bool(row.formats) and multi_instance.num_separate_steps(params.steps, row.mis) > 0
    cut: list[list[Layout]] = []
    rows = 0
    for layout in layouts:
        own = 1 + (len(layout.instances) if is_apart else 0)
        if not cut or len(cut[-1]) == params.batch_size or rows + own > params.batch_rows:
            cut.append([])
            rows = 0
        cut[-1].append(layout)
        rows += own
    return cut


def run(
    *,
    pictures: Path,
    images: Path,
    annotated: Path,
    text: Path,
    vae: Path,
    unet: Path,
    instance: Path,
    generated: Path,
    row: str,
    params: Params,
) -> dict[str, float]:
    """Val layouts, foundation, layers -> pictures of one row; or the real pictures, as they are or reconstructed."""
    table = tables.read(images, IMAGES)
    if params.rows[row].pictures == "real":
        return copy(pictures, list(table["file"]), generated)
    if params.rows[row].pictures == "reconstructed":
        return reconstruct(
            pictures, dict(zip(table["key"], table["file"], strict=True)), vae, unet, generated, row, params.device
        )
    all_layouts = from_tables.from_tables(table, tables.read(annotated, ANNOTATED))
    inputs = {"images": provenance.of_path(images), "annotated": provenance.of_path(annotated)}
    if params.rows[row].pictures == "command":
        digest = resume.digest(__name__, params.rows[row], row, str(params.seed), *inputs.values())
        origin = {"row": row, "asked": inputs, "settings": params.rows[row].model_dump(mode="json")}
        return by_command.draw(all_layouts, params.rows[row], params.seed, digest, generated, origin)
    stated = layers_config(instance / "layers" / CONFIG_FILE)
    layouts = [first(layout, stated.unifusion_config.max_instances) for layout in all_layouts]
    weights = Weights(text, vae, unet, instance)
    digests = {name: provenance.of_folder(folder) for name, folder in weights._asdict().items()}
    own = settled(params, stated.drawing or AS_RELEASED)
    own = own.model_copy(update={"rows": {row: params.rows[row]}})  # other rows decide nothing here
    digest = resume.digest(__name__, own, row, *inputs.values(), *digests.values())
    batch_parts = parts.cut_into(
        batches(layouts, own.rows[row], own),
        BatchDrawing(digest, weights, own.rows[row], own),
        resume.folder(digest),
        PICTURES,
        own.work,
    )
    parts.make_all(batch_parts, own.work)
    with atomic.folder(generated) as part:
        for batch in batch_parts:
            for file in batch.files.iterdir():
                atomic.link(file, part / file.name)
        lines = [provenance.picture_line(part, f"{layout.key}.png", layout.key) for layout in layouts]
        settings = own.model_dump(mode="json", exclude={"work"})
        devices = sorted({name for batch in batch_parts for name in batch.rows()["device"].to_pylist()})
        provenance.write(part, lines, row=row, asked=inputs, weights=digests, settings=settings, devices=devices)
    resume.clear(resume.folder(digest))
    before, after = (sum(len(layout.instances) for layout in each) for each in (all_layouts, layouts))
    return {"pictures": len(layouts), "instances": after, "instances_beyond_slots": before - after}


def copy(pictures: Path, names: Sequence[str], generated: Path) -> dict[str, float]:
    """The real pictures as a row of the table."""
    with atomic.folder(generated) as part:
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pictures / name, part / name)
    return {"pictures": len(names)}


def reconstruct(
    pictures: Path, files: Mapping[str, str], vae_folder: Path, unet: Path, generated: Path, row: str, where: Place
) -> dict[str, float]:
    """The real pictures, resized as they are drawn, through the autoencoder and back: the mean of their latents."""
    autoencoder = vae.load(vae_folder, where.settled())
    cells = json.loads((unet / "config.json").read_text())["sample_size"]
    side = cells * 2 ** (len(autoencoder.config.block_out_channels) - 1)
    with atomic.folder(generated) as part, torch.inference_mode():
        for key, name in track(files.items(), len(files), "picture"):
            picture = picture_files.opened(pictures / name).resize((side, side), Image.Resampling.LANCZOS)
            latents_1Chw = autoencoder.encode(
                vae.pixels(np.array(picture)[None]).to(autoencoder.device, autoencoder.dtype)
            ).latent_dist.mode()
            Image.fromarray(vae.pictures(autoencoder.decode(latents_1Chw).sample)[0]).save(part / f"{key}.png")
        lines = [provenance.picture_line(part, f"{key}.png", key) for key in files]
        real = {key: provenance.of_file(pictures / name) for key, name in files.items()}
        provenance.write(part, lines, row=row, asked=real, weights={"vae": provenance.of_folder(vae_folder)})
    return {"pictures": len(files)}


if __name__ == "__main__":
    stage.main(run)
