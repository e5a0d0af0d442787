"""`instdiff coco`: COCO's benchmark of instance control, from its stock files.

Written are annotations.json (COCO's format: all instances, what `instdiff evaluate --layouts` reads), layouts.json, and
the tables images.parquet and annotated.parquet that the stage `generate` reads (the first 30 instances of a picture,
which the reference conditions on).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from eval.benchmarks import coco_control
from eval.benchmarks.coco_control import ControlPicture, Request
from eval.inputs import coco
from instdiff.files import atomic, provenance, tables
from instdiff.files.picture_files import opened
from instdiff.files.texts import read_json
from instdiff.layouts import files as layout_files
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.options import SEED, Parser, checked, whole
from instdiff.progress import track

SIZE = 512
STOCK_BYTES = {"instances_val2017.json": 19_987_840, "captions_val2017.json": 3_872_473}
Record = dict[str, Any]


def write(
    out: Path, pictures: Sequence[ControlPicture], instances: coco.Instances, info: Record, request: Request
) -> dict[str, int]:
    """Write the four files, all or none."""
    content: Record = {
        "info": info,
        "images": [picture.image for picture in pictures],
        "annotations": [annotation for picture in pictures for annotation in picture.annotations],
        "categories": [category.model_dump() for category in instances.categories],
    }
    names = {category.id: category.name for category in instances.categories}
    images, annotated = [], []
    for picture in track(pictures, len(pictures), "pictures"):
        image, own = coco_control.rows(picture, names, request.seed, request.compat)
        images.append(image)
        annotated += own
    with atomic.folder(out) as to:
        (to / "annotations.json").write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")
        tables.write(to / "images.parquet", images, IMAGES)
        tables.write(to / "annotated.parquet", annotated, ANNOTATED)
        written = tables.read(to / "images.parquet", IMAGES), tables.read(to / "annotated.parquet", ANNOTATED)
        layout_files.write(to / "layouts.json", from_tables.from_tables(*written))
    return {"pictures": len(images), "instances": len(content["annotations"]), "conditioned": len(annotated)}


def unchanged(out: Path, sources: Mapping[str, str]) -> None:
    """ValueError when a benchmark lies there that was built from other files."""
    there = out / "annotations.json"
    if there.is_file():
        info = read_json(there).get("info", {})
        differing = [name for name, digest in sources.items() if info.get("sources", {}).get(name, digest) != digest]
        if differing:
            raise ValueError(f"{out}: was built from another {' and another '.join(differing)}: name another --out")


def warped(folder: Path, pictures: Sequence[ControlPicture], out: Path) -> None:
    """The real pictures at the benchmark's size, not keeping their shape, as the ground truth is: PNG, bicubic."""
    with atomic.folder(out) as to:
        for picture in track(pictures, len(pictures), "pictures"):
            image = opened(folder / picture.image["file_name"], picture.size)
            side = (picture.image["width"], picture.image["height"])
            image.resize(side, Pillow.Resampling.BICUBIC).save(to / f"{Path(picture.image['file_name']).stem}.png")


def main(arguments: Sequence[str]) -> None:
    """Build COCO's benchmark of instance control from its stock files."""
    args = parser().parse_args(arguments)
    job, num_jobs = args.job
    request = Request(args.size, tuple(args.attributes), args.compat, args.seed, args.subset, (job, num_jobs))
    instances = coco.read_instances(args.instances)
    captions = None if args.captions is None else coco.read_captions(args.captions)
    try:
        pictures = coco_control.built(instances, captions, request)
    except ValueError as error:
        raise ValueError(f"{args.captions or args.instances}: {error}") from error
    if not pictures:
        raise ValueError(f"--job {job}/{num_jobs}: no picture falls to this job")
    files = [path for path in (args.instances, args.captions) if path is not None]
    changed = [path.name for path in files if path.stat().st_size != STOCK_BYTES.get(path.name, path.stat().st_size)]
    sources = {path.name: provenance.of_file(path) for path in files}
    unchanged(args.out, sources)
    info = {"sources": sources, "request": request._asdict(), "comparable": args.subset is None and not changed}
    counts = write(args.out, pictures, instances, info, request)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"written to {args.out}")
    for name in changed:
        print(f"{name} is not COCO's own, which has {STOCK_BYTES[name]:,} bytes: not comparable to the table")
    print(f"annotations.json: sha256 {provenance.of_file(args.out / 'annotations.json')}")
    if args.pictures is not None:
        warped(args.pictures, pictures, args.out.with_name(f"{args.out.name}-real"))


def parser() -> Parser:
    """The command line."""
    options = Parser(prog="instdiff coco", description=main.__doc__)
    add = options.add_argument
    add("--instances", type=Path, required=True, help="the stock instances_val2017.json")
    add("--captions", type=Path, help="the stock captions_val2017.json; without it prompts are phrases alone")
    add("--out", type=Path, required=True, help="the folder to write; the real pictures go beside it, to <out>-real")
    add("--pictures", type=Path, help="the stock val2017 folder, to be warped to the benchmark's size")
    add("--size", type=whole(1), default=SIZE, help="pixels a side")
    add(
        "--attributes",
        nargs="*",
        choices=tuple(coco_control.WORDS),
        default=[],
        help="put into every phrase, by annotation id",
    )
    add(
        "--compat",
        choices=("ours", "reference"),
        default="ours",
        help="reference: its prompts and its fault with only masks",
    )
    add("--seed", type=SEED, default=0, help="of scribbles, outlines and subsets")
    add("--subset", type=whole(1), help="that many pictures, stratified: not comparable to the table")
    add("--job", type=checked(_job), default=(0, 1), metavar="I/N", help="the pictures of job I (from 0) of N")
    return options


def _job(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and int(number) < int(of)):
        raise ValueError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(number), int(of)
