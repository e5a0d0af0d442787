"""generate: val layouts + weights -> pictures, for one row of the table (a protocol).

Finished batches stay in runs/ until the stage is complete: a kill costs the batch in flight, and the pictures are the
same as without it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from instdiff import atomic, provenance, stage, tables
from instdiff.formats import Format
from instdiff.layouts import from_tables
from instdiff.model.unet import InstanceUNet
from instdiff.networks import base_unet as base
from instdiff.networks import clip, vae
from instdiff.progress import track
from instdiff.randomness import torch_generator
from instdiff.sampling.pipeline import InstanceDiffusionPipeline, MaskedAttention, Merge
from instdiff.sampling.solvers import scheduler
from instdiff.schema import Compat, Layout, Strict
from instdiff.tables import ANNOTATED, IMAGES
from instdiff.work import resume


class Row(Strict):
    """Which formats of each instance one row of the table uses, and for how many steps instances are drawn alone."""

    formats: tuple[Format, ...]  # of an instance that are used; the others are withheld
    mis: float  # share of the steps in which instances are drawn alone (the multi-instance sampler); 0: none


class Params(Strict):
    """How pictures are drawn, the same for every row but for what the row sets."""

    seed: int  # of the noise: with a layout's key, the same in every row
    rows: dict[str, Row]  # of the table: what each is drawn from
    solver: Literal["plms", "dpm", "unipc"]  # PLMS, DPM-Solver++ or UniPC
    steps: int  # of the solver
    guidance: float  # scale of classifier-free guidance; 1 is none
    negative_prompt: str  # what guidance leads away from
    alpha: float  # share of the steps, from the noisiest on, in which instances count
    scale_u: bool  # whether ScaleU takes part
    merge: Merge  # of instances drawn alone: the mean, or each instance in its own place
    masked_attention: MaskedAttention  # as in train, or masked at the level of the most tokens alone
    compat: Compat | None  # "reference" gives the numbers of the released code where it differs
    batch_size: int  # pictures drawn at once
    max_rows: int  # in one forward pass


def load(*, text: Path, vae_folder: Path, unet: Path, instance: Path, params: Params) -> InstanceDiffusionPipeline:
    """The pipeline of these folders."""
    model = InstanceUNet.from_base_and_layers(base.load(unet), instance / "layers").requires_grad_(False).eval()
    if not params.scale_u:
        model.disable_scale_u()
    words = clip.load_text(text)
    return InstanceDiffusionPipeline(
        vae.load(vae_folder), words.model, words.tokenizer, model, scheduler(params.solver)
    )


def draw(pipeline: InstanceDiffusionPipeline, batch: Sequence[Layout], row: Row, params: Params) -> list[Image.Image]:
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
    """Val layouts, foundation, instance layers -> pictures of one row."""
    wanted = from_tables.from_tables(tables.read(images, IMAGES), tables.read(annotated, ANNOTATED))
    pipeline = load(text=text, vae_folder=vae, unet=unet, instance=instance, params=params)
    shown = [first(layout, pipeline.unet.unifusion.config.max_instances) for layout in wanted]
    inputs = {"images": provenance.of_file(images), "annotated": provenance.of_file(annotated)}
    folders = {"text": text, "vae": vae, "unet": unet, "instance": instance}
    weights = {name: provenance.of_folder(folder) for name, folder in folders.items()}
    finished = resume.folder(resume.digest(__name__, params, row, *inputs.values(), *weights.values()))
    finished.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(wanted), params.batch_size)
    for start in track(starts, len(starts), "batch"):
        batch = shown[start : start + params.batch_size]
        if not all((finished / f"{layout.key}.png").is_file() for layout in batch):
            for layout, picture in zip(batch, draw(pipeline, batch, params.rows[row], params), strict=True):
                picture.save(finished / f".{layout.key}.png")  # under its own name only when it is whole
                (finished / f".{layout.key}.png").rename(finished / f"{layout.key}.png")
    with atomic.folder(generated) as part:
        for layout in shown:
            shutil.copyfile(finished / f"{layout.key}.png", part / f"{layout.key}.png")
        pictures = [provenance.picture_line(part, f"{layout.key}.png", layout.key) for layout in shown]
        provenance.write(
            part, pictures, row=row, asked=inputs, weights=weights, settings=params.model_dump(mode="json")
        )
    resume.clear(finished)
    expected, drawn = (sum(len(layout.instances) for layout in layouts) for layouts in (wanted, shown))
    return {"pictures": len(wanted), "instances": drawn, "instances_beyond_slots": expected - drawn}


if __name__ == "__main__":
    stage.main(run)
