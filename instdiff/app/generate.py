"""instdiff generate: layouts in JSON -> pictures, the layout drawn over each, and a record of how they came about."""

import argparse
import datetime as dt
import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from instdiff.app import lora
from instdiff.app.generate_options import formats, max_rows, parsed, parser, settled
from instdiff.app.pipeline import pipeline as assembled
from instdiff.app.validate import line, readable
from instdiff.checkpoints import assemble, reading
from instdiff.files import atomic, provenance
from instdiff.files.picture_files import opened
from instdiff.files.texts import counted
from instdiff.layouts import files, from_tables, remarks
from instdiff.layouts.overlay import overlay
from instdiff.networks.device import Place, compile_network, dtype_of, kind_of, resolve
from instdiff.randomness import torch_generator
from instdiff.sampling import memory
from instdiff.sampling.few_steps import StepNoise
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.schema import Layout

SIDE = 512  # pixels of a side that is not given, as far as the layout's shape goes: the models draw squares
_PASSED_ON = (
    "negative_prompt",
    "guidance_scale",
    "guidance_interval",
    "reuse",
    "alpha",
    "mis",
    "merge",
    "height",
    "width",
    "strength",
    "cascade_strength",
    "masked_attention",
    "compat",
)


def main(arguments: Sequence[str]) -> None:
    """Draw every layout of the file; the folder appears when all is drawn."""
    options = parsed(parser(description=__doc__), arguments)
    path: Path | None = options.layout or options.input_json
    if path is None:
        raise ValueError("name a layout file")
    stated = assemble.stated(options.ckpt, options.instance)
    options, own_way = settled(options, stated.drawing)
    size = (options.height or SIDE, options.width or SIDE)
    checked = files.check(path, max_instances=stated.slots, compat=options.compat, shape=size)
    wanted = checked.drawable()
    out = target(options, path)
    refuse_too_large(options, wanted)
    pipeline = loaded(options)
    for sentence in [*own_way, *checked.remarks, *long_texts(pipeline, wanted)]:
        print(f"remark  {line(sentence)}")
    pictures = write(pipeline, wanted, options, out)
    print(f"{counted(len(pictures), 'picture')} in {out}")


def long_texts(pipeline: InstanceDiffusionPipeline, wanted: Sequence[Layout]) -> Iterator[str]:
    """Remarks on the texts of which the pipeline's text encoder reads only the beginning."""
    tokens = readable(pipeline.tokenizer)
    room = pipeline.text_encoder.config.max_position_embeddings - 2
    for layout in wanted:
        yield from (f"{layout.key}: {remark}" for remark in remarks.of_texts(layout, tokens, room))


def target(options: argparse.Namespace, path: Path) -> Path:
    """Where the run's folder goes; ValueError if something that is no earlier run of ours lies there."""
    name = f"gc{options.guidance_scale}-seed{options.seed}-alpha{options.alpha}"
    out: Path = options.output / path.stem / name
    if out.exists() and not (out / provenance.RECORD).is_file():
        raise ValueError(f"{out}: exists and is no earlier run ({provenance.RECORD} is missing); name another --output")
    return out


def refuse_too_large(options: argparse.Namespace, wanted: Sequence[Layout]) -> None:
    """ValueError where the largest of the layouts needs more memory than is free, before any weights are read."""
    sizes = reading.base_sizes(options.ckpt)
    side = sizes.unet["sample_size"] * 2 ** (len(sizes.vae["block_out_channels"]) - 1)
    instances = max((len(layout.instances) for layout in wanted), default=0) if options.mis > 0 else 0
    rows = memory.rows(
        options.num_images,
        options.num_images * instances,
        options.guidance_scale,
        max_rows(options),
    )
    size = memory.Size(options.height or side, options.width or side, *rows, bool(options.masked_attention))
    memory.refuse_too_large(sizes.unet, sizes.vae, size, resolve(options.device), dtype_of(options.dtype).itemsize)


def loaded(options: argparse.Namespace) -> InstanceDiffusionPipeline:
    """The pipeline on its device, as the options want it; a device that is not there is an error before any reading."""
    where = Place(
        name=options.device,
        precision=options.dtype,
        tf32=options.tf32,
        compile=options.compile,
        channels_last=options.channels_last,
    ).settled()
    options.device = where.name
    pipeline = assembled(
        options.ckpt,
        instance=options.instance,
        tokenizer=options.tokenizer,
        solver=options.solver,
        dtype=where.dtype,
    )
    for number, file in enumerate(options.lora):
        lora.add(pipeline, file, f"lora{number}")
    if options.offload:
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.to(where.device)
    if where.channels_last:
        pipeline.unet.to(memory_format=torch.channels_last)
    compile_network(pipeline.unet, where)
    pipeline.padded = where.compile != "no"
    return pipeline


def write(
    pipeline: InstanceDiffusionPipeline,
    wanted: Sequence[Layout],
    options: argparse.Namespace,
    out: Path,
    after_step: Callable[[], object] | None = None,
) -> list[dict[str, str]]:
    """Draw every layout into a folder that appears when all is drawn; what each of its pictures' files holds."""
    with atomic.folder(out) as part:
        pictures = [written for layout in wanted for written in draw(pipeline, layout, options, part, after_step)]
        provenance.write(
            part,
            pictures,
            layouts=[from_tables.to_json(layout) for layout in wanted],
            loras=pipeline.lora_fits,
            device=kind_of(pipeline.device),
            **record(options),
        )
    return pictures


def draw(
    pipeline: InstanceDiffusionPipeline,
    layout: Layout,
    options: argparse.Namespace,
    folder: Path,
    after_step: Callable[[], object] | None = None,
) -> Iterator[dict[str, str]]:
    """Write the pictures of a layout and what was drawn over them; yield what each file holds."""
    images = pipeline(
        layout,
        num_images_per_prompt=options.num_images,
        num_inference_steps=options.steps,
        formats=formats(options),
        generator=torch.Generator().manual_seed(options.seed),
        step_noise=_step_noise(pipeline, layout, options) if options.solver == "lcm" else None,
        image=None if options.image is None else opened(options.image),
        refiner=None if options.refiner is None else _refiner(options),
        max_rows=max_rows(options),
        after_step=after_step,
        **{name: getattr(options, name) for name in _PASSED_ON},
    ).images
    for number, image in enumerate(images):
        name = f"{layout.key}-{number}"
        image.save(folder / f"{name}.png")
        overlay(image, layout).save(folder / f"{name}-layout.png")
        yield provenance.picture_line(folder, f"{name}.png", layout.key)


def _step_noise(pipeline: InstanceDiffusionPipeline, layout: Layout, options: argparse.Namespace) -> StepNoise:
    """The noise of each step of a few-step solver: by the seed, the layout's key, the picture's number and the step."""
    shape = (options.num_images, *pipeline.latent_shape(options.height, options.width))

    def noise(step: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch_generator(options.seed, "noise", layout.key, step))

    return noise


def record(options: argparse.Namespace) -> dict[str, Any]:
    """All that the pictures depend on: options, weights and start picture by their digest."""
    weights = {name: path for name in ("ckpt", "instance", "refiner") if (path := getattr(options, name)) is not None}
    weights |= {f"lora{number}": path for number, path in enumerate(options.lora)}
    begun = {} if options.image is None else {"path": str(options.image), "sha256": provenance.of_file(options.image)}
    return {
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in _plain(options).items()},
        "weights": {name: {"path": str(path), "sha256": _digest(path)} for name, path in weights.items()},
        "image": begun,
        "machine": platform.machine(),
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name: [str(item) for item in value] if isinstance(value, list) else value
        for name, value in vars(options).items()
    }


@functools.cache  # weights are those that were loaded, and gigabytes
def _digest(path: Path) -> str:
    return provenance.of_folder(path) if path.is_dir() else provenance.of_file(path)


def _refiner(options: argparse.Namespace) -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    refiner = StableDiffusionXLImg2ImgPipeline.from_pretrained(
        options.refiner, torch_dtype=dtype_of(options.dtype), local_files_only=True
    )
    return refiner.to(options.device)
