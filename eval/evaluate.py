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

from rich.console import Console

from eval import detect
from eval.finders import choice
from eval.inputs import coco, coco_results, detections, ground_truth_files
from eval.inputs.ground_truth import GroundTruth
from eval.inputs.pictures import Pictures, find
from eval.scoring import features, row, sanity_checks, score_row, seeds
from eval.scoring.features import Eyes
from eval.scoring.headline import HEADLINE
from eval.scoring.row import DISTANCES, PREFERENCES, Inputs, Params
from eval.table import table
from instdiff import provenance
from instdiff.options import Parser, whole
from instdiff.schema import Strict
from instdiff.texts import read_json, read_yaml


class Protocol(Strict):
    """What the pictures were drawn from, for the record."""

    name: str
    formats: tuple[str, ...]
    mis: float


class Settings(NamedTuple):
    """The sections of params.yaml that evaluation reads."""

    score: Params
    detect: detect.Params
    protocols: dict[str, Protocol]


class Judged(NamedTuple):
    """Pictures to judge as one row, and the file of their detections (None: they are made here)."""

    row: str
    folder: Path
    detections: Path | None


def main(arguments: Sequence[str]) -> None:
    """Score one row, or one a seed, and show the table it stands in."""
    given = parser().parse_args(arguments)
    settings = read_settings(given.params, given.size)
    settings = settings._replace(detect=choice.with_options(settings.detect, given))
    refuse_unused(given)
    protocol = _protocol(given.protocol, settings)
    truth = ground_truth_files.read(given.layouts, given.images, given.size)
    real = None if given.real is None else find(given.real, truth.images, None)
    params = with_metrics(fitting(settings.score, truth), given.metrics)
    eyes = None if given.judge is None else features.look(given.judge, provenance.of_folder(given.judge), params)
    name = given.row or given.protocol or given.pictures[0].resolve().name
    several = [f"{name}{row.SEED}{folder.resolve().name}" for folder in given.pictures]
    names = several if len(several) > 1 else [name]
    if any(Path(own).name != own for own in names):
        raise ValueError(f"--row: {name!r} cannot be the name of a folder")
    if len(set(names)) < len(names):
        raise ValueError("--pictures: two folders have one name; a seed's row is named by its folder's")
    if given.detections and len(given.detections) != len(names):
        raise ValueError(f"--detections: {len(given.detections)} files for {len(names)} folders of pictures")
    files = given.detections or [None] * len(names)
    scored: dict[str, score_row.Scored] = {}
    for one in [*ends(given, names), *map(Judged, names, given.pictures, files)]:
        pictures = find(one.folder, truth.images, settings.detect.square)
        found = _found(one.row, pictures, truth, one.detections, given, settings.detect)
        inputs = row.checked(one.row, Inputs(truth, pictures, real, found))
        drawn_from = protocol if one.row in names else settings.protocols.get(one.row)
        scored[one.row] = judged(given.out, one.row, inputs, eyes, params, drawn_from)
    if len(names) > 1:
        seeds.write(given.out / f"{name}.seeds.json", {one: scored[one] for one in names}, params)
    show(given.out, names)
    if coco_results.subset(given.layouts):
        Console().print("[yellow]a subset of the benchmark: not comparable to its table[/yellow]")


def ends(given: argparse.Namespace, names: Sequence[str]) -> list[Judged]:
    """The ends of the scale whose pictures are given, and their detections or, as for the others, a detector."""
    found = []
    for end in (row.REAL, row.NONE):
        folder, file = vars(given)[end], vars(given)[f"{end}_detections"]
        if folder is not None and end not in names and (file is not None or not given.detections):
            found.append(Judged(end, folder, file))
    return found


def judged(
    out: Path, name: str, inputs: Inputs, eyes: Eyes | None, params: Params, protocol: Protocol | None
) -> score_row.Scored:
    """Score a row and write its folder; ValueError, and nothing written, when it is the real row's in disguise."""
    scored = score_row.score(name, inputs, eyes, params)
    sanity_checks.of_real_in(out, name, scored.instances)
    source = row.sources(name, inputs, None if eyes is None else eyes.digest, params)
    source["protocol"] = None if protocol is None else protocol.model_dump(mode="json")
    score_row.write(out / name, scored, source)
    return scored


def show(out: Path, names: Sequence[str]) -> None:
    """Print the table of all rows in the folder that compare with these, and what is to be said of it."""
    rows = [path.parent.name for path in sorted(out.glob("*/provenance.json"))]
    sources: dict[str, dict[str, Any]] = {one: read_json(out / one / "provenance.json") for one in rows}
    compare = [one for one in rows if not sanity_checks.differences(sources[one], sources[names[0]])]
    ordered = sorted(compare, key=lambda one: (one != row.REAL, one != row.NONE, one))
    metrics = {one: read_json(out / one / "metrics.json") for one in ordered}
    shown = {one: {name: values[name] for name in HEADLINE if name in values} for one, values in metrics.items()}
    console = Console()
    console.print(table(shown))
    for sentence in sanity_checks.of_rows(sources, names[0]):
        console.print(f"[yellow]{sentence}[/yellow]")
    for sentence in sources[names[0]].get("remarks", ()):
        console.print(f"[yellow]{sentence}[/yellow]")
    if sources[names[0]]["detected_by"].get("pictures") is None:
        console.print("[yellow]the detections do not say on which pictures they were made[/yellow]")
    console.print(f"written to {', '.join(str(out / name) for name in names)}")


def fitting(params: Params, truth: GroundTruth) -> Params:
    """The values without the words of attributes that this ground truth has no question for."""
    columns = {"colour": "colour", "texture": "texture", "shape": "category"}
    words = {
        attribute: known
        for attribute, known in params.words.items()
        if truth.instances[columns[attribute]].notna().any()
        and (attribute != "shape" or set(truth.instances["category"]) <= set(known))
    }
    return params.model_copy(update={"words": words})


def refuse_unused(given: argparse.Namespace) -> None:
    """ValueError for options that would change nothing."""
    if given.detections and choice.is_given(given):
        raise ValueError("--detections and --finder or --marker: the detections are either read or made")
    if given.metrics and given.judge is None:
        raise ValueError("--metrics: their networks lie in the judge's folder, so give --judge, too")
    distances = [name for name in given.metrics if name in DISTANCES]
    if distances and given.real is None:
        raise ValueError(f"--metrics {distances[0]}: is a distance to the real pictures, so give --real, too")


def with_metrics(params: Params, names: Sequence[str]) -> Params:
    """The values with further metrics by networks in the judge's folder."""
    beside = dict.fromkeys([*params.sets.beside, *(name for name in DISTANCES if name in names)])
    liked = dict.fromkeys([*params.preferences, *(name for name in PREFERENCES if name in names)])
    sets = params.sets.model_copy(update={"beside": tuple(beside)})
    return params.model_copy(update={"sets": sets, "preferences": tuple(liked)})


def read_settings(path: Path, size: int | None) -> Settings:
    """The values of params.yaml; the side of the pictures may be given anew."""
    try:
        sections = read_yaml(path)
        own = {"square": size} if size is not None else {}
        rows = {
            name: Protocol(name=name, formats=row["formats"], mis=row["mis"]) for name, row in sections["rows"].items()
        }
        return Settings(
            Params.model_validate(sections["score"] | own), detect.Params.model_validate(sections["detect"] | own), rows
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a compiled params.yaml ({error})") from error


def _protocol(name: str | None, settings: Settings) -> Protocol | None:
    if name is not None and name not in settings.protocols:
        raise ValueError(f"--protocol: there is no {name!r}; rows has {', '.join(settings.protocols)}")
    return None if name is None else settings.protocols[name]


def _found(
    name: str,
    pictures: Pictures,
    truth: GroundTruth,
    file: Path | None,
    given: argparse.Namespace,
    params: detect.Params,
) -> detections.Detections:
    """The detections of a file, or those made here: anew unless pictures, finder and settings are the very same."""
    if file is not None:
        classes, image_ids = (
            coco_results.of_coco(coco.read_instances(given.layouts))
            if coco_results.has_ids(given.layouts)
            else (None, {})
        )
        return coco_results.read(file, pictures, classes, image_ids)
    if params.finder == "yolo" and not given.detector.is_dir():
        raise ValueError(f"{given.detector}: no detector there; give --detector, or a file with --detections")
    path = given.out / "detections" / f"{name}.json"
    source = detect.made_by(pictures, truth.instances, params.digest(given.detector), params)
    if not (path.is_file() and source == read_json(path).get("provenance")):
        detect.detected(path, pictures, truth.instances, given.detector, params)
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
    choice.add_options(options)
    return options
