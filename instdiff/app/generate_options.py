"""Options of `instdiff generate` and `instdiff page`: those of the released script under their names, then ours."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instdiff.files.picture_files import opened
from instdiff.layouts.formats import FORMATS, Format
from instdiff.model.drawing import Drawing, chosen, remark
from instdiff.model.noise_schedule import NUM_TIMESTEPS
from instdiff.networks import device
from instdiff.networks.device import PRECISIONS, resolve
from instdiff.options import SEED, SHARE, Parser, checked, real, whole
from instdiff.sampling.solvers import SCHEDULERS

OF_CONFIGURATION: dict[str, tuple[Format, ...]] = {  # by the released test configurations
    "box": ("box", "point"),
    "point": ("point",),
    "scribble": FORMATS,
    "mask": ("box", "point", "outline", "mask"),
}
MAX_ROWS, MAX_ROWS_CPU = 16, 2  # in one forward pass; at full size more gain nothing on a CPU
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
Add = Callable[..., None]  # adds the option of a name, with what argparse is told of it
_BY_LAYERS = "; by default as the layers are best drawn"


def parser(prog: str = "instdiff generate", description: str | None = None) -> Parser:
    """A command line of all options, in groups."""
    options = Parser(prog=prog, description=description)
    options.add_argument("layout", type=Path, nargs="?", help="JSON file: ours, or in the form of the released demos")
    add_files(_adder(options))
    for title, add_options in (
        ("weights", add_weights),
        ("what counts, and how it is drawn", add_drawing),
        ("pictures to start from and to end with", add_pictures),
        ("cheaper, and not exact", add_shortcuts),
        ("the machine", add_machine),
    ):
        add_options(_adder(options.add_argument_group(title)))
    return options


def _adder(group: argparse._ActionsContainer) -> Add:
    """Options stand there under their names with underscores and with hyphens."""

    def add(name: str, **how: Any) -> None:
        group.add_argument(f"--{name}", *([f"--{name.replace('_', '-')}"] if "_" in name else []), dest=name, **how)

    return add


def add_files(add: Add) -> None:
    """Options of what is read and written."""
    add("input_json", type=Path, help="the same, as the released script calls it")
    add("output", type=Path, default=Path("OUTPUT"), help="folder in which a folder for this run is made")


def add_weights(add: Add) -> None:
    """Options of what is drawn with."""
    add("ckpt", type=Path, required=True, help="weights: a file, a folder of diffusers, or a foundation of ours")
    layers = "instance layers, where --ckpt has none: a folder of ours, a released file, ComfyUI's"
    add("instance", type=Path, help=layers)
    add("tokenizer", type=Path, help="folder with vocab.json and merges.txt, where --ckpt is a file")
    add("lora", type=Path, nargs="*", default=[], help="LoRA files")
    add("refiner", type=Path, help="folder of the SDXL refiner")


def add_drawing(add: Add) -> None:
    """Options of the sampler and of what it reads of a layout; most have the layers' own value."""
    add("seed", type=SEED, default=0)
    add("solver", choices=sorted(SCHEDULERS), help="dpm and unipc need 10 to 20 steps" + _BY_LAYERS)
    add("steps", type=whole(1, NUM_TIMESTEPS), help="of the solver" + _BY_LAYERS)
    add("guidance_scale", type=real(0), help="of classifier-free guidance" + _BY_LAYERS)
    add("negative_prompt", help="what guidance leads away from" + _BY_LAYERS)
    add("alpha", type=SHARE, help="share of the steps in which instances count" + _BY_LAYERS)
    add("mis", type=SHARE, help="share of the steps in which instances are drawn apart" + _BY_LAYERS)
    add("merge", choices=["mean", "regions"], help="of what was drawn apart" + _BY_LAYERS)
    masked = argparse.BooleanOptionalAction
    add("masked_attention", action=masked, help="instances see only their own place" + _BY_LAYERS)
    add("formats", nargs="*", choices=FORMATS, help="formats that count; all that are given by default")
    by_name = "formats that count, by a released configuration: box, point, scribble or mask"
    add("test_config", type=checked(configuration), help=by_name)
    add("compat", choices=["reference"], help="numbers of the released code where it differs")


def add_pictures(add: Add) -> None:
    """Options of the pictures' number and sizes, of a first picture and of the refiner."""
    add("num_images", type=whole(1), default=1, help="pictures of each layout")
    add("height", type=whole(1), help="in pixels; the model's own by default")
    add("width", type=whole(1))
    add("image", type=Path, help="picture to start from")
    share = "share of the steps that is drawn anew over --image"
    add("strength", type=real(0, 1, above=True), default=0.8, help=share)
    add("cascade_strength", type=SHARE, default=0.35, help="of the refiner, where there is one")


def add_shortcuts(add: Add) -> None:
    """Options that save work and change the picture."""
    between = "shares of the steps between which guidance counts"
    add("guidance_interval", type=SHARE, nargs=2, default=(0.0, 1.0), metavar=("FROM", "TO"), help=between)
    add("reuse", type=whole(1), default=1, help="of so many steps only the first evaluates all levels")


def add_machine(add: Add) -> None:
    """Options of device, precision, memory and compilation."""
    add("device", type=checked(usable), default="auto", help="auto (the GPU that is there), cpu, cuda, cuda:1, mps")
    add("dtype", choices=sorted(PRECISIONS), default="float32")
    at_once = "rows in one forward pass, the bound on memory: 16, or 2 on a CPU, where more gain nothing"
    add("max_rows", type=whole(1), help=at_once)
    add("offload", action="store_true", help="keep on the device only the network that runs")
    compiled = "torch.compile: of the transformer blocks, once for all, or of the whole network; minutes at the start"
    add("compile", nargs="?", const="blocks", choices=["no", "blocks", "whole"], default="no", help=compiled)
    add("channels_last", action="store_true", help="weights and maps as convolutions on tensor cores read them")
    add("tf32", action="store_true", help="float32 products with 10 bits of mantissa, on a GPU")


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


def max_rows(options: argparse.Namespace) -> int:
    """Rows of a forward pass: as stated, else as many as the device gains by."""
    by_device = MAX_ROWS_CPU if resolve(options.device).type == "cpu" else MAX_ROWS
    return max(1, options.max_rows or by_device)


def formats(options: argparse.Namespace) -> tuple[Format, ...]:
    """The formats that count."""
    if options.formats is not None:
        return tuple(options.formats)
    return FORMATS if options.test_config is None else OF_CONFIGURATION[configuration(options.test_config)]


def configuration(written: str) -> str:
    """The released configuration of this name or path; ValueError where there is none such."""
    name = Path(written).stem.removeprefix("test_")
    if name not in OF_CONFIGURATION:
        raise ValueError(f"{written!r} is no released configuration: there are {', '.join(OF_CONFIGURATION)}")
    return name
