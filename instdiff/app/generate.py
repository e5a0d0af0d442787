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
from instdiff.app.pipeline import pipeline as assembled
from instdiff.app.validate import line, readable
from instdiff.checkpoints import assemble, reading
from instdiff.files import atomic, provenance
from instdiff.files.picture_files import opened
from instdiff.files.texts import counted
from instdiff.layouts import files, from_tables, remarks
from instdiff.layouts.formats import FORMATS, Format
from instdiff.layouts.overlay import overlay
from instdiff.model.drawing import Drawing, chosen, remark
from instdiff.model.noise_schedule import NUM_TIMESTEPS
from instdiff.networks import device
from instdiff.networks.device import PRECISIONS, Place, compile_network, dtype_of, resolve
from instdiff.options import SEED, SHARE, Parser, checked, real, whole
from instdiff.randomness import torch_generator
from instdiff.sampling import memory
from instdiff.sampling.few_steps import StepNoise
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.sampling.solvers import SCHEDULERS
from instdiff.schema import Layout

KEPT: dict[str, tuple[Format, ...]] = {  # by the released test configurations
    "box": ("box", "point"),
    "point": ("point",),
    "scribble": FORMATS,
    "mask": ("box", "point", "outline", "mask"),
}
SIDE = 512  # pixels of a side that is not given, as far as the layout's shape goes: the models draw squares
MAX_ROWS, MAX_ROWS_CPU = 16, 2  # in one forward pass; at full size more gain nothing on a CPU
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

_DRAWING = {  # how layers are drawn -> its option
    "solver": "solver",
    "steps": "steps",
    "guidance": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "alpha": "alpha",
    "mis": "mis",
    "merge": "merge",
    "masked_attention": "masked_attention",
}
_BY_LAYERS = "; by default as the layers are best drawn"


def main(arguments: Sequence[str]) -> None:
    """Draw every layout of the file; the folder appears when all is drawn."""
    options = parsed(parser(), arguments)
    path: Path | None = options.layout or options.input_json
    if path is None:
        raise ValueError("name a layout file")
    stated = assemble.stated(options.ckpt, options.instance)
    options, own_way = settled(options, stated.drawing)
    drawn = (options.height or SIDE, options.width or SIDE)
    checked = files.check(path, max_instances=stated.slots, compat=options.compat, drawn=drawn)
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


def parser(prog: str = "instdiff generate", description: str | None = __doc__) -> Parser:
    """Options: those of the released script under their names, then ours."""
    made = Parser(prog=prog, description=description)

    def add(name: str, **how: Any) -> None:
        made.add_argument(f"--{name}", *([f"--{name.replace('_', '-')}"] if "_" in name else []), dest=name, **how)

    made.add_argument("layout", type=Path, nargs="?", help="JSON file: ours, or in the form of the released demos")
    add("input_json", type=Path, help="the same, as the released script calls it")
    add("ckpt", type=Path, required=True, help="weights: a file, a folder of diffusers, or a foundation of ours")
    add(
        "instance",
        type=Path,
        help="instance layers, where --ckpt has none: a folder of ours, a released file, ComfyUI's",
    )
    add("tokenizer", type=Path, help="folder with vocab.json and merges.txt, where --ckpt is a file")
    add("output", type=Path, default=Path("OUTPUT"), help="folder in which a folder for this run is made")
    add("num_images", type=whole(1), default=1, help="pictures of each layout")
    add("guidance_scale", type=real(0), help="of classifier-free guidance" + _BY_LAYERS)
    add("negative_prompt", help="what guidance leads away from" + _BY_LAYERS)
    add("seed", type=SEED, default=0)
    add("alpha", type=SHARE, help="share of the steps in which instances count" + _BY_LAYERS)
    add("mis", type=SHARE, help="share of the steps in which instances are drawn apart" + _BY_LAYERS)
    add("merge", choices=["mean", "regions"], help="of what was drawn apart" + _BY_LAYERS)
    add("cascade_strength", type=SHARE, default=0.35, help="of the refiner, where there is one")
    add("refiner", type=Path, help="folder of the SDXL refiner")
    add(
        "test_config",
        type=checked(configuration),
        help="formats that count, by a released configuration: box, point, scribble or mask",
    )
    add("formats", nargs="*", choices=FORMATS, help="formats that count; all that are given by default")
    add("steps", type=whole(1, NUM_TIMESTEPS), help="of the solver" + _BY_LAYERS)
    add("solver", choices=sorted(SCHEDULERS), help="dpm and unipc need 10 to 20 steps" + _BY_LAYERS)
    add("height", type=whole(1), help="in pixels; the model's own by default")
    add("width", type=whole(1))
    add("image", type=Path, help="picture to start from")
    add(
        "strength",
        type=real(0, 1, above=True),
        default=0.8,
        help="share of the steps that is drawn anew over --image",
    )
    add("lora", type=Path, nargs="*", default=[], help="LoRA files")
    masked = argparse.BooleanOptionalAction
    add("masked_attention", action=masked, help="instances see only their own place" + _BY_LAYERS)
    add("compat", choices=["reference"], help="numbers of the released code where it differs")
    add(
        "max_rows",
        type=whole(1),
        help="rows in one forward pass, the bound on memory: 16, or 2 on a CPU, where more gain nothing",
    )
    add("dtype", choices=sorted(PRECISIONS), default="float32")
    add("device", type=checked(usable), default="auto", help="auto (the GPU that is there), cpu, cuda, cuda:1, mps")
    add("offload", action="store_true", help="keep on the device only the network that runs")
    add(
        "compile",
        nargs="?",
        const="blocks",
        choices=["no", "blocks", "whole"],
        default="no",
        help="torch.compile: of the transformer blocks, once for all, or of the whole network; minutes at the start",
    )
    add("channels_last", action="store_true", help="weights and maps as convolutions on tensor cores read them")
    add("tf32", action="store_true", help="float32 products with 10 bits of mantissa, on a GPU")
    add(
        "guidance_interval",
        type=SHARE,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("FROM", "TO"),
        help="shares of the steps between which guidance counts; not exact",
    )
    add("reuse", type=whole(1), default=1, help="of so many steps only the first evaluates all levels; not exact")
    return made


def settled(options: argparse.Namespace, own: Drawing) -> tuple[argparse.Namespace, list[str]]:
    """The options, as the layers are best drawn where they say nothing; and a remark on those that differ."""
    by_hand = {name: getattr(options, option) for name, option in _DRAWING.items()}
    taken = chosen(own, by_hand)
    values = {option: getattr(taken, name) for name, option in _DRAWING.items()}
    sentence = remark(own, taken)
    return argparse.Namespace(**{**vars(options), **values}), [] if sentence is None else [sentence]


def usable(name: str) -> str:
    """The name of a device that this machine has; ValueError where it has none such."""
    device.resolve(name)
    return name


def parsed(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """The options: each right by itself, none excluded by another, the start picture readable."""
    options = parser.parse_args(arguments)
    if options.offload and device.resolve(options.device).type == "cpu":
        parser.error("--offload: networks wait in memory for a GPU to run on, and there is none, or --device is cpu")
    if options.image is not None:
        opened(options.image)
    return options


def target(options: argparse.Namespace, path: Path) -> Path:
    """Where the run's folder goes; ValueError if something that is no earlier run of ours lies there."""
    name = f"gc{options.guidance_scale}-seed{options.seed}-alpha{options.alpha}"
    out: Path = options.output / path.stem / name
    if out.exists() and not (out / provenance.RECORD).is_file():
        raise ValueError(f"{out}: exists and is no earlier run ({provenance.RECORD} is missing); name another --output")
    return out


def max_rows(options: argparse.Namespace) -> int:
    """Rows of a forward pass: as stated, else as many as the device gains by."""
    by_device = MAX_ROWS_CPU if resolve(options.device).type == "cpu" else MAX_ROWS
    return max(1, options.max_rows or by_device)


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


def formats(options: argparse.Namespace) -> tuple[Format, ...]:
    """The formats that count."""
    if options.formats is not None:
        return tuple(options.formats)
    return FORMATS if options.test_config is None else KEPT[configuration(options.test_config)]


def configuration(written: str) -> str:
    """The released configuration of this name or path; ValueError where there is none such."""
    name = Path(written).stem.removeprefix("test_")
    if name not in KEPT:
        raise ValueError(f"{written!r} is no released configuration: there are {', '.join(KEPT)}")
    return name


def record(options: argparse.Namespace) -> dict[str, Any]:
    """All that the pictures depend on: options, weights and start picture by their digest, device."""
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
        name: [str(one) for one in value] if isinstance(value, list) else value for name, value in vars(options).items()
    }


@functools.cache  # weights are those that were loaded, and gigabytes
def _digest(path: Path) -> str:
    return provenance.of_folder(path) if path.is_dir() else provenance.of_file(path)


def _refiner(options: argparse.Namespace) -> Any:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    refiner = StableDiffusionXLImg2ImgPipeline.from_pretrained(options.refiner, torch_dtype=dtype_of(options.dtype))
    return refiner.to(options.device)
