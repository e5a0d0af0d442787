"""`instdiff import-weights`: published weights -> folders that the foundation stages copy (`source: import`).

Written are those of `<out>/clip/text`, `vae`, `unet`, `clip/judge`, `detector` and `instance` (its `layers`) that were
asked for, each with a recipe that names the files it came from and their SHA-256. Nothing in a file is executed, and a
file published under a known name must be that file.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import CLIPModel

from instdiff.checkpoints import assemble, open_clip, reading
from instdiff.checkpoints.reading import Checkpoint
from instdiff.checkpoints.sizes import Sizes
from instdiff.files import atomic, provenance, recipes
from instdiff.networks import clip, detector, loading, weight_files
from instdiff.options import Parser, whole
from instdiff.schema import Strict

DETECTION = {"min_score": 0.001, "nms_iou": 0.7}  # as ultralytics validates on COCO
INCEPTION = "inception.pth"  # where the evaluation looks for it
OPEN_CLIP = {"image_mean": clip.HALF, "image_std": clip.HALF, "do_center_crop": True}  # laion2b_s32b_b82k's


class Source(Strict):
    """Where a folder's weights come from: SHA-256 by the name of each file read."""

    files: dict[str, str]


def main(arguments: Sequence[str], sizes: Sizes | None = None) -> None:
    """Bring in what was named; nothing is written unless every file is there and is what its name says."""
    args = parser().parse_args(arguments)
    paths = {name: vars(args)[name] for name in ("base", "tokenizer", "instance", "judge", "inception", "detector")}
    named = {name: path for name, path in paths.items() if path is not None}
    if not named.keys() - {"tokenizer"}:
        raise ValueError("nothing to bring in: name --base, --judge, --detector")
    if args.inception is not None and args.judge is None:
        raise ValueError("--inception goes into the judge's folder: name --judge, too")
    if lacking := [f"--{name} {path}" for name, path in named.items() if not path.exists()]:
        raise ValueError(f"not there: {', '.join(lacking)}")
    sources = {name: Source(files=provenance.checked(path)) for name, path in named.items()}
    if "base" in named:
        stable_diffusion(args.base, args.tokenizer, args.instance, args.out, sizes or Sizes(), sources)
    if "judge" in named:
        with atomic.folder(args.out / "clip" / "judge") as part:
            judge(args.judge, args.tokenizer, part)
            if args.inception is not None:
                shutil.copy(args.inception, part / INCEPTION)
            _record(part, [sources[name] for name in ("judge", "tokenizer", "inception") if name in sources])
    if "detector" in named:
        with atomic.folder(args.out / "detector") as part:
            detector.imported(args.detector, part, {"image_size": args.image_size, **DETECTION})
            _record(part, [sources["detector"]])
    print(f"written to {args.out}: set `shipped: {args.out}` and the sources of clip, vae, unet, detector to import")


def stable_diffusion(
    path: Path, tokenizer: Path | None, instance: Path | None, out: Path, sizes: Sizes, sources: Mapping[str, Source]
) -> None:
    """Text encoder, autoencoder and base UNet of a file or a folder of diffusers, and the instance layers there are."""
    base = plain(path)
    layers = reading.read(instance) if instance is not None else base
    came = [sources[name] for name in ("base", "tokenizer", "instance") if name in sources]
    with atomic.folder(out / "instance") as part:  # without any, a place to train them for
        # Before the others: what cannot be assembled leaves nothing, and one assembly is held at once.
        if layers.layers:
            again = replace(base, unet=dict(base.unet), vae=dict(base.vae), text_encoder=dict(base.text_encoder))
            unet = assemble.build(again, layers, tokenizer, file_sizes=sizes).unet
            unet.save_instance_layers(part / "layers")
            del unet
        _record(part, came)
    networks = assemble.build(base, None, tokenizer, file_sizes=sizes)
    for name, network in {"vae": networks.vae, "unet": networks.unet, "clip/text": networks.text_encoder}.items():
        with atomic.folder(out / name) as part:
            network.save_pretrained(part)
            if network is networks.text_encoder:
                networks.tokenizer.save_pretrained(part)
            _record(part, came)


def plain(path: Path) -> Checkpoint:
    """The base of a file or a folder; ValueError where the stages that train and draw could not use it."""
    base = assemble.complete(reading.read(path))
    if path.is_dir() and base.layers:
        raise ValueError(f"{path / 'unet'}: has instance layers; bring in a plain base, and name them by --instance")
    if base.prediction != "epsilon":
        raise ValueError(
            f"{path}: its prediction_type is {base.prediction!r}; training takes epsilon alone (`instdiff generate` "
            "takes both)"
        )
    return base


def judge(path: Path, tokenizer: Path | None, out: Path) -> None:
    """A CLIP of transformers' form, or a file of OpenCLIP's with a folder of words, into a folder."""
    if path.is_file():
        if tokenizer is None:
            raise ValueError(
                f"{path}: weights hold no words: name a folder with vocab.json and merges.txt (--tokenizer)"
            )
        words = clip.tokenizer(tokenizer)
        open_clip.model(weight_files.read(path), words, str(path)).save_pretrained(out)
        (out / clip.PREPARATION_FILE).write_text(json.dumps(OPEN_CLIP, indent=2) + "\n")
    else:
        words = clip.tokenizer(path)
        loading.from_folder(CLIPModel, path).save_pretrained(out)
        if (path / clip.PREPARATION_FILE).is_file():
            shutil.copy(path / clip.PREPARATION_FILE, out)
    words.save_pretrained(out)
    clip.load(out)


def parser() -> Parser:
    """The command line."""
    options = Parser(prog="instdiff import-weights", description=main.__doc__)
    add = options.add_argument
    add("--out", type=Path, required=True, help="the folder to write: `shipped` of the run")
    add("--base", type=Path, help="a Stable Diffusion 1.5 or released InstanceDiffusion file, or a folder of diffusers")
    add("--tokenizer", type=Path, help="a folder with vocab.json and merges.txt, where --base or --judge is a file")
    add("--instance", type=Path, help="instance layers: a released file, a folder of ours, ComfyUI's three files")
    add("--judge", type=Path, help="a CLIP: a folder of transformers, or OpenCLIP's file")
    add("--inception", type=Path, help="FID's Inception as pytorch-fid reads it; goes beside --judge")
    add("--detector", type=Path, help="a YOLO segmentation file of ultralytics', such as yolov8m-seg.pt")
    add("--image-size", type=whole(1), default=640, help="pixels a side that the detector scales pictures to")
    return options


def _record(folder: Path, sources: Sequence[Source]) -> None:
    files = {name: digest for source in sources for name, digest in source.files.items()}
    recipes.record(folder, Source(files=files), {})
