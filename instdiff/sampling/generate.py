"""generate: val layouts + weights -> pictures, for one row of the table (a protocol).

Finished batches stay in runs/ until the stage is complete: a kill costs the batch in flight, and the pictures are the
same as without it.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import PositiveInt

from instdiff import atomic, picture_files, provenance, stage, tables
from instdiff.layouts import from_tables
from instdiff.model.unet import InstanceUNet
from instdiff.networks import base_unet as base
from instdiff.networks import clip, vae
from instdiff.progress import track
from instdiff.randomness import torch_generator
from instdiff.sampling.pipeline import InstanceDiffusionPipeline, MaskedAttention, Merge
from instdiff.sampling.solvers import scheduler
from instdiff.schema import Compat, Layout, Share, Strict
from instdiff.table_rows import TableRow
from instdiff.tables import ANNOTATED, IMAGES
from instdiff.work import resume


class Params(Strict):
    """How pictures are drawn, the same for every row but for what the row sets."""

    seed: int  # of the noise: with a layout's key, the same in every row
    rows: dict[str, TableRow]
    solver: Literal["plms", "dpm", "unipc"]  # PLMS, DPM-Solver++ or UniPC
    steps: PositiveInt  # of the solver
    guidance: float  # scale of classifier-free guidance; 1 is none
    negative_prompt: str  # what guidance leads away from
    alpha: Share  # share of the steps, from the noisiest on, in which instances count
    scale_u: bool  # whether ScaleU takes part
    merge: Merge  # of instances drawn alone: the mean, or each instance in its own place
    masked_attention: MaskedAttention  # as in train, or masked at the level of the most tokens alone
    compat: Compat | None  # "reference" gives the numbers of the released code where it differs
    batch_size: PositiveInt  # pictures drawn at once
    max_rows: PositiveInt  # in one forward pass


def load(*, text: Path, vae_folder: Path, unet: Path, instance: Path, params: Params) -> InstanceDiffusionPipeline:
    """The pipeline of these folders."""
    model = InstanceUNet.from_base_and_layers(base.load(unet), instance / "layers").requires_grad_(False).eval()
    if not params.scale_u:
        model.disable_scale_u()
    words = clip.load_text(text)
    return InstanceDiffusionPipeline(
        vae.load(vae_folder), words.model, words.tokenizer, model, scheduler(params.solver)
    )


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
        alpha=params.alpha,
        mis=row.mis,
        merge=params.merge,
        formats=row.formats,
        masked_attention=params.masked_attention,
        compat=params.compat,
        latents=torch.stack(noise),
        max_rows=params.max_rows,
    ).images
    return images


def first(layout: Layout, slots: int) -> Layout:
    """The layout with no more instances than the model has slots for, the first as in the released evaluation."""
    return layout.model_copy(update={"instances": layout.instances[:slots]})


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
        return reconstruct(pictures, dict(zip(table["key"], table["file"], strict=True)), vae, unet, generated, row)
    all_layouts = from_tables.from_tables(table, tables.read(annotated, ANNOTATED))
    pipeline = load(text=text, vae_folder=vae, unet=unet, instance=instance, params=params)
    layouts = [first(layout, pipeline.unet.unifusion.config.max_instances) for layout in all_layouts]
    inputs = {"images": provenance.of_path(images), "annotated": provenance.of_path(annotated)}
    folders = {"text": text, "vae": vae, "unet": unet, "instance": instance}
    weights = {name: provenance.of_folder(folder) for name, folder in folders.items()}
    own = params.model_copy(update={"rows": {row: params.rows[row]}})  # other rows decide nothing here
    scratch = resume.folder(resume.digest(__name__, own, row, *inputs.values(), *weights.values()))
    draw_missing(pipeline, layouts, own.rows[row], own, scratch)
    with atomic.folder(generated) as part:
        for layout in layouts:
            shutil.copyfile(scratch / f"{layout.key}.png", part / f"{layout.key}.png")
        lines = [provenance.picture_line(part, f"{layout.key}.png", layout.key) for layout in layouts]
        provenance.write(part, lines, row=row, asked=inputs, weights=weights, settings=own.model_dump(mode="json"))
    resume.clear(scratch)
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
    pictures: Path, files: Mapping[str, str], vae_folder: Path, unet: Path, generated: Path, row: str
) -> dict[str, float]:
    """The real pictures, resized as they are drawn, through the autoencoder and back: the mean of their latents."""
    autoencoder = vae.load(vae_folder)
    cells = json.loads((unet / "config.json").read_text())["sample_size"]
    side = cells * 2 ** (len(autoencoder.config.block_out_channels) - 1)
    with atomic.folder(generated) as part, torch.inference_mode():
        for key, name in track(files.items(), len(files), "picture"):
            picture = picture_files.opened(pictures / name).resize((side, side), Image.Resampling.LANCZOS)
            latents_1Chw = autoencoder.encode(vae.pixels(np.asarray(picture)[None])).latent_dist.mode()
            Image.fromarray(vae.pictures(autoencoder.decode(latents_1Chw).sample)[0]).save(part / f"{key}.png")
        lines = [provenance.picture_line(part, f"{key}.png", key) for key in files]
        real = {key: provenance.of_file(pictures / name) for key, name in files.items()}
        provenance.write(part, lines, row=row, asked=real, weights={"vae": provenance.of_folder(vae_folder)})
    return {"pictures": len(files)}


def draw_missing(
    pipeline: InstanceDiffusionPipeline, layouts: Sequence[Layout], row: TableRow, params: Params, scratch: Path
) -> None:
    """Draw every batch of which a picture is missing in `scratch`; a picture has its name there once it is whole."""
    scratch.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(layouts), params.batch_size)
    for start in track(starts, len(starts), "batch"):
        batch = layouts[start : start + params.batch_size]
        if not all((scratch / f"{layout.key}.png").is_file() for layout in batch):
            for layout, picture in zip(batch, draw(pipeline, batch, row, params), strict=True):
                picture.save(scratch / f".{layout.key}.png")
                (scratch / f".{layout.key}.png").rename(scratch / f"{layout.key}.png")


if __name__ == "__main__":
    stage.main(run)
