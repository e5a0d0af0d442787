"""Judge any model's pictures: `instdiff evaluate --pictures DIR --layouts FILE`.

The same code as the score stage, on what anybody has: layouts (JSON), COCO's annotations, or our tables; pictures of
our own runs or of another model, matched by name; detections of a file, or made here by a detector. Each result is a
folder `<out>/<row>` with instances.parquet, metrics.json and provenance.json; rows of one <out> make a table. The ends
of its scale, the real pictures and those drawn from prompts alone, are scored beside every result they are given for.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console

from eval import detect, finder_options
from eval.inputs import coco, coco_results, detections, ground_truth_files
from eval.inputs.ground_truth import GroundTruth
from eval.inputs.pictures import Pictures, find
from eval.scoring import features, row, sanity_checks, score_row, seeds
from eval.scoring.features import Judges
from eval.scoring.headline import HEADLINE
from eval.scoring.row import DISTANCES, PREFERENCES, Inputs, Params
from eval.table import table
from instdiff.files import provenance
from instdiff.files.texts import read_json
from instdiff.options import Parser, whole
from instdiff.schema import Strict


class ConditionsUsed(Strict):
    """Which conditions the pictures were drawn from: a row of params.yaml, recorded beside the result."""

    name: str
    formats: tuple[str, ...]
    mis: float


class EvaluationSettings(NamedTuple):
    """The sections of params.yaml that evaluation reads."""

    score: Params
    detect: detect.Params
    protocols: dict[str, ConditionsUsed]


class RowToJudge(NamedTuple):
    """Pictures to judge as one row, and the file of their detections (None: they are made here)."""

    row: str
    folder: Path
    detections: Path | None


def main(arguments: Sequence[str]) -> None:
    """Score one row, or one a seed, and show the table it stands in."""
    args = parser().parse_args(arguments)
    settings = read_settings(args.params, args.size)
    settings = settings._replace(detect=finder_options.with_options(settings.detect, args))
    refuse_unused(args)
    protocol = _protocol(args.protocol, settings)
    truth = ground_truth_files.read(args.layouts, args.images, args.size)
    real = None if args.real is None else find(args.real, truth.images, None)
    params = with_metrics(fitting(settings.score, truth), args.metrics)
    judges = None if args.judge is None else features.load_judges(args.judge, provenance.of_folder(args.judge), params)
    name = args.row or args.protocol or args.pictures[0].resolve().name
    several = [f"{name}{row.SEED}{folder.resolve().name}" for folder in args.pictures]
    names = several if len(several) > 1 else [name]
    if any(Path(own).name != own for own in names):
        raise ValueError(f"--row: {name!r} cannot be the name of a folder")
    if len(set(names)) < len(names):
        raise ValueError("--pictures: two folders have one name; a seed's row is named by its folder's")
    if args.detections and len(args.detections) != len(names):
        raise ValueError(f"--detections: {len(args.detections)} files for {len(names)} folders of pictures")
    files = args.detections or [None] * len(names)
    scored: dict[str, score_row.RowScores] = {}
    for target in [*ends(args, names), *map(RowToJudge, names, args.pictures, files)]:
        pictures = find(target.folder, truth.images, settings.detect.square)
        detected = _detections_of(target.row, pictures, truth, target.detections, args, settings.detect)
        inputs = row.checked(target.row, Inputs(truth, pictures, real, detected))
        drawn_from = protocol if target.row in names else settings.protocols.get(target.row)
        scored[target.row] = judged(args.out, target.row, inputs, judges, params, drawn_from)
    if len(names) > 1:
        seeds.write(args.out / f"{name}.seeds.json", {seed_name: scored[seed_name] for seed_name in names}, params)
    show(args.out, names)
    if coco_results.subset(args.layouts):
        Console().print("[yellow]a subset of the benchmark: not comparable to its table[/yellow]")


def ends(args: argparse.Namespace, names: Sequence[str]) -> list[RowToJudge]:
    """The rows `real` and `none`, where the options give their pictures, and detections or a detector for them."""
    targets = []
    for end in (row.REAL, row.NONE):
        folder, file = vars(args)[end], vars(args)[f"{end}_detections"]
        if folder is not None and end not in names and (file is not None or not args.detections):
            targets.append(RowToJudge(end, folder, file))
    return targets


def judged(
    out: Path, name: str, inputs: Inputs, judges: Judges | None, params: Params, protocol: ConditionsUsed | None
) -> score_row.RowScores:
    """Score a row and write its folder; ValueError, and nothing written, when it is the real row's in disguise."""
    scored = score_row.score(name, inputs, judges, params)
    sanity_checks.refuse_disguised_real_row(out, name, scored.instances)
    source = row.sources(name, inputs, None if judges is None else judges.digest, params)
    source["protocol"] = None if protocol is None else protocol.model_dump(mode="json")
    score_row.write(out / name, scored, source)
    return scored


def show(out: Path, names: Sequence[str]) -> None:
    """Print the table of all rows in the folder that compare with these, and its warnings."""
    rows = [path.parent.name for path in sorted(out.glob("*/provenance.json"))]
    sources: dict[str, dict[str, Any]] = {row_name: read_json(out / row_name / "provenance.json") for row_name in rows}
    compare = [row_name for row_name in rows if not sanity_checks.differences(sources[row_name], sources[names[0]])]
    ordered = sorted(compare, key=lambda row_name: (row_name != row.REAL, row_name != row.NONE, row_name))
    metrics = {row_name: read_json(out / row_name / "metrics.json") for row_name in ordered}
    headline = {
        row_name: {name: values[name] for name in HEADLINE if name in values} for row_name, values in metrics.items()
    }
    console = Console()
    console.print(table(headline))
    for sentence in sanity_checks.warnings(sources, names[0]):
        console.print(f"[yellow]{sentence}[/yellow]")
    for sentence in sources[names[0]].get("remarks", ()):
        console.print(f"[yellow]{sentence}[/yellow]")
    if sources[names[0]]["detected_by"].get("pictures") is None:
        console.print("[yellow]the detections do not say on which pictures they were made[/yellow]")
    console.print(f"written to {', '.join(str(out / name) for name in names)}")


def fitting(params: Params, truth: GroundTruth) -> Params:
    """The values without the words of attributes that no instance of this ground truth states."""
    columns = {"colour": "colour", "texture": "texture", "shape": "category"}
    words = {
        attribute: choices
        for attribute, choices in params.words.items()
        if truth.instances[columns[attribute]].notna().any()
        and (attribute != "shape" or set(truth.instances["category"]) <= set(choices))
    }
    return params.model_copy(update={"words": words})


def refuse_unused(args: argparse.Namespace) -> None:
    """ValueError for options that would change nothing."""
    if args.detections and finder_options.is_given(args):
        raise ValueError("--detections and --finder or --marker: the detections are either read or made")
    if args.metrics and args.judge is None:
        raise ValueError("--metrics: their networks lie in the judge's folder, so give --judge, too")
    distances = [name for name in args.metrics if name in DISTANCES]
    if distances and args.real is None:
        raise ValueError(f"--metrics {distances[0]}: is a distance to the real pictures, so give --real, too")


def with_metrics(params: Params, names: Sequence[str]) -> Params:
    """The values with further metrics by networks in the judge's folder."""
    beside = dict.fromkeys([*params.sets.beside, *(name for name in DISTANCES if name in names)])
    liked = dict.fromkeys([*params.preferences, *(name for name in PREFERENCES if name in names)])
    sets = params.sets.model_copy(update={"beside": tuple(beside)})
    return params.model_copy(update={"sets": sets, "preferences": tuple(liked)})


def read_settings(path: Path, size: int | None) -> EvaluationSettings:
    """The values of params.yaml; the side of the pictures may be given anew."""
    try:
        sections = yaml.safe_load(path.read_text(encoding="utf-8"))
        own = {"square": size} if size is not None else {}
        rows = {
            name: ConditionsUsed(name=name, formats=row["formats"], mis=row["mis"])
            for name, row in sections["rows"].items()
        }
        return EvaluationSettings(
            Params.model_validate(sections["score"] | own), detect.Params.model_validate(sections["detect"] | own), rows
        )
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a compiled params.yaml ({error})") from error


def _protocol(name: str | None, settings: EvaluationSettings) -> ConditionsUsed | None:
    if name is not None and name not in settings.protocols:
        raise ValueError(f"--protocol: there is no {name!r}; rows has {', '.join(settings.protocols)}")
    return None if name is None else settings.protocols[name]


def _detections_of(
    name: str,
    pictures: Pictures,
    truth: GroundTruth,
    file: Path | None,
    args: argparse.Namespace,
    params: detect.Params,
) -> detections.Detections:
    """The detections of a file, or those made here: anew unless pictures, finder and settings are the very same."""
    if file is not None:
        classes, image_ids = (
            coco_results.of_coco(coco.read_instances(args.layouts))
            if coco_results.has_ids(args.layouts)
            else (None, {})
        )
        return coco_results.read(file, pictures, classes, image_ids)
    if params.finder == "yolo" and not args.detector.is_dir():
        raise ValueError(f"{args.detector}: no detector there; give --detector, or a file with --detections")
    path = args.out / "detections" / f"{name}.json"
    source = detect.made_by(pictures, truth.instances, params.digest(args.detector), params)
    if not (path.is_file() and source == read_json(path).get("provenance")):
        detect.detected(path, pictures, truth.instances, args.detector, params)
    return detections.read(path, pictures.sizes)


def parser() -> Parser:
    """The command line."""
    options = Parser(prog="instdiff evaluate", description=main.__doc__)
    add = options.add_argument
    add("--pictures", type=Path, nargs="+", required=True, help="the folder to judge; several: one a seed")
    add("--layouts", type=Path, required=True, help="layouts or COCO annotations (JSON), or the annotated table")
    add("--images", type=Path, help="the table of images that goes with an annotated table")
    add("--detections", type=Path, nargs="+", help="detections of each folder: ours, or COCO's list of results")
    add("--judge", type=Path, help="a CLIP's folder; without it no attributes, CLIP scores, FID or KID")
    add(
        "--metrics",
        nargs="+",
        choices=(*DISTANCES, *PREFERENCES),
        default=(),
        help="further ones, by the judge's folder",
    )
    add("--real", type=Path, help="the real pictures, scored beside; nothing equal to them is judged in another row")
    add("--none", type=Path, help="pictures drawn from the prompts alone, scored beside")
    add("--real-detections", type=Path, help="detections of the real pictures, where --detections gives the others'")
    add("--none-detections", type=Path, help="the same of the pictures from prompts alone")
    add("--protocol", help="what the pictures were drawn from, a name in rows")
    add("--row", help="name of the result; by default the protocol's or the folder's")
    add("--size", type=whole(1), help="pixels a side of the pictures, where it is not the layouts'")
    add("--params", type=Path, default=Path("params.yaml"), help="the values: words, thresholds, FID's recipe")
    add("--out", type=Path, default=Path("scores"), help="where the rows of the table lie")
    finder_options.add_options(options)
    return options
