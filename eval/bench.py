"""Public benchmarks, on anybody's pictures: `instdiff bench list | layouts | questions | score | ...`.

`layouts` writes what a generator is to draw; `score` judges a folder of pictures from files of detections, masks and
answers, and needs no model for it; a finder, a marker or an answerer that the options name is run first and writes such
files. `questions` writes the questions that have no answer yet. Each result is a folder `<out>/<benchmark>/<row>` with
values.parquet (one row a value), metrics.json and provenance.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eval import detect, evaluate, finder_options, table
from eval.answerers import choice as answerers
from eval.answerers.store import Answers
from eval.benchmarks import (
    difference,
    judge_outputs,
    leaderboard,
    pictures,
    questions,
    registry,
    replies,
    run_judges,
    scoring,
)
from eval.benchmarks.benchmark import Benchmark, Reading
from eval.benchmarks.judge_outputs import JudgeOutputs
from eval.benchmarks.pictures import ExpectedPicture
from eval.inputs import detections
from instdiff.files import atomic, provenance
from instdiff.files.texts import read_json
from instdiff.layouts import files as layout_files
from instdiff.networks.finders.params import MarkerParams


def main(arguments: Sequence[str]) -> None:
    """Run the command that the first argument names."""
    args = parser().parse_args(arguments)
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {
        "list": show_all,
        "layouts": write_layouts,
        "questions": write_questions,
        "score": score,
        "compare": compare,
        "spread": show_spread,
        "page": write_page,
    }
    commands[args.command](args)


def show_all(args: argparse.Namespace) -> None:
    """Name every benchmark: what it reads, who judges it, what may be compared."""
    console = Console()
    for benchmark in registry.every():
        if args.name in (None, benchmark.name):
            console.print(f"[bold]{benchmark.name}[/bold]  {benchmark.title}; {benchmark.licence}", highlight=False)
            lines = {
                "rules from": benchmark.source,
                "files": benchmark.files,
                "pictures": benchmark.pictures,
                "its judges": benchmark.judges,
                "measures": ", ".join(measure.label for measure in benchmark.measures.values() if measure.headline),
                "missing": f"fails here; {benchmark.absent} there",
                "comparable": benchmark.comparable,
            }
            for name, text in lines.items():
                console.print(f"    {name}: {text}", highlight=False, markup=False)
    if args.name is not None:
        registry.load(args.name)


def write_layouts(args: argparse.Namespace) -> None:
    """Write a benchmark's layouts in our JSON, which `instdiff generate` draws."""
    reading = _reading(registry.load(args.name), args.files)
    layout_files.write(args.out, [case.layout() for case in reading.cases])
    instances = sum(len(case.instances) for case in reading.cases)
    print(f"{len(reading.cases)} layouts, {instances} instances written to {args.out}")
    for remark in reading.remarks:
        print(remark)


def write_questions(args: argparse.Namespace) -> None:
    """Write the questions that have no answer yet, one a line: picture, region (in fractions, or empty), question."""
    benchmark = registry.load(args.name)
    expected = pictures.find(args.pictures, _reading(benchmark, args.files).cases, benchmark)
    outputs = read_outputs(benchmark, expected, args)
    outputs.identities = pictures.identities(expected)
    pending = scoring.pending(benchmark, expected, outputs)
    paths = {picture.name: picture.path for picture in expected}
    lines = [
        {
            "file": str(paths[question.name]),
            "picture": outputs.identities[question.name],
            "region": "" if question.region is None else json.dumps(question.region),
            "question": question.text,
        }
        for question in pending
    ]
    with atomic.file(args.out) as part:
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} questions written to {args.out}")


def score(args: argparse.Namespace) -> None:
    """Score a folder of pictures, write the result and show its table."""
    benchmark = registry.load(args.name)
    name = args.row or args.pictures.resolve().name
    if Path(name).name != name:
        raise ValueError(f"--row: {name!r} cannot be the name of a folder")
    reading = _reading(benchmark, args.files)
    expected = pictures.find(args.pictures, reading.cases, benchmark)
    run_finder_and_marker(benchmark, name, expected, args)
    outputs = read_outputs(benchmark, expected, args)
    answerer = answerers.load(args)
    if answerer is not None:
        args.answers = args.answers or Path("answers")
        outputs.identities = pictures.identities(expected)
        run_judges.ask(benchmark, expected, outputs, answerer, Answers(args.answers), args.batch_size)
        outputs.sources["answers"] = {"judge": answerer.judge, "settings": answerer.settings}
    lacking = sorted(benchmark.needs - outputs.kinds)
    if lacking:
        raise ValueError(
            f"{benchmark.name} needs {' and '.join(lacking)}: give {' and '.join(f'--{x}' for x in lacking)}"
        )
    scored = scoring.score(benchmark, expected, outputs, args.resamples, args.seed)
    chosen = scoring.REFERENCE if args.compat == "reference" else scoring.OURS
    source = sources(benchmark, reading, expected, outputs, args) | {
        "counted": chosen,
        "unreadable_answers": scored.faults,
    }
    scoring.write(args.out / benchmark.name / name, benchmark, scored, chosen, source)
    show(benchmark, name, scored, expected, reading, chosen)


def run_finder_and_marker(
    benchmark: Benchmark, name: str, expected: Sequence[ExpectedPicture], args: argparse.Namespace
) -> None:
    """Run the finder and the marker that the options name; `args.detections` and `args.masks` become their files.

    A finder searches for the texts of each picture's own instances, unless an equal run has written its file already.
    A marker segments the given boxes.
    """
    folder = args.out / "kept"
    if args.finder is not None:
        params = finder_options.with_options(evaluate.read_settings(args.params, None).detect, without_marker(args))
        params = params.model_copy(update={"marker": None, "phrases": args.phrases or "own"})
        present, texts = pictures.whole(expected), run_judges.texts(expected)
        path = folder / f"{benchmark.name}-{name}.json"
        made_by = detect.made_by(present, texts, params.digest(args.detector), params)
        if not (path.is_file() and read_json(path).get("provenance") == made_by):
            detect.detected(path, present, texts, args.detector, params)
        args.detections = path
    if args.marker not in (None, "none"):
        if args.marker_weights is None:
            raise ValueError("--marker: needs --marker-weights, the file or folder of its weights")
        marker = MarkerParams(backend=args.marker, weights=args.marker_weights, max_boxes=finder_options.MAX_BOXES)
        args.masks = folder / f"{benchmark.name}-{name}.parquet"
        from instdiff.networks.finders import marked

        run_judges.mark(args.masks, marked.load(marker), expected)


def without_marker(args: argparse.Namespace) -> argparse.Namespace:
    """The options without those of a marker, which fills given boxes here and no detections."""
    return argparse.Namespace(**vars(args) | {"marker": None, "marker_weights": None})


def read_outputs(benchmark: Benchmark, expected: Sequence[ExpectedPicture], args: argparse.Namespace) -> JudgeOutputs:
    """The detections, masks and answers in the files; ValueError when they are of other pictures."""
    outputs = JudgeOutputs(boxes_in=args.boxes_in)
    outputs.questions, outputs.sources["questions"] = questions.read(benchmark, args.questions)
    outputs.sources["boxes_in"] = args.boxes_in
    if args.detections is not None:
        present = pictures.whole(expected)
        detected = detections.read(args.detections, present.sizes)
        stated = detected.provenance.get("pictures")
        if stated is not None and stated != present.digest:
            raise ValueError(f"{args.detections}: the detections were made on other pictures than these")
        outputs.detections = judge_outputs.of_detections(detected, expected)
        outputs.sources["detections"] = {"file": detected.digest, "by": dict(detected.provenance)}
    if args.masks is not None:
        outputs.masks = judge_outputs.read_masks(args.masks, expected)
        outputs.sources["masks"] = provenance.of_file(args.masks)
    if args.answers is not None and args.answerer is None and args.answerer_address is None:
        outputs.answers = judge_outputs.read_answers(args.answers, args.answered_by)
        outputs.identities = pictures.identities(expected)
        outputs.sources["answers"] = {"judge": outputs.answers.judge, "settings": outputs.answers.settings}
    if args.judge is not None:
        from instdiff.networks import clip

        outputs.judge = clip.load(args.judge)
        outputs.sources["judge"] = provenance.of_folder(args.judge)
    return outputs


def sources(
    benchmark: Benchmark,
    reading: Reading,
    expected: Sequence[ExpectedPicture],
    outputs: JudgeOutputs,
    args: argparse.Namespace,
) -> dict[str, object]:
    """What the numbers come from."""
    missing = [picture.name for picture in expected if picture.path is None]
    files = sorted(file for path in args.files for file in ([path] if path.is_file() else provenance.files(path)))
    return {
        "benchmark": benchmark.name,
        "rules": benchmark.source,
        "comparable": benchmark.comparable,
        "files": {path.name: provenance.of_file(path) for path in files},
        "remarks": list(reading.remarks),
        "pictures": pictures.digest(expected),
        "num_cases": len(reading.cases),
        "num_pictures": len(expected),
        "cases": [picture.place for picture in expected],
        "missing": missing,
        "drawn_by": provenance.read(args.pictures),
        "judged_by": {name: value for name, value in outputs.sources.items() if name != "questions"},
        "questions": outputs.sources["questions"],
        "settings": {"resamples": args.resamples, "seed": args.seed},
        "versions": provenance.versions(),
    }


def show(
    benchmark: Benchmark,
    name: str,
    scored: scoring.BenchmarkScores,
    expected: Sequence[ExpectedPicture],
    reading: Reading,
    chosen: str,
) -> None:
    """Print the table: the chosen way of counting, and the other where it gives other numbers."""
    console = Console()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for way in sorted((scoring.OURS, scoring.REFERENCE), key=lambda way: way != chosen):
        numbers = {
            measure_name: scored.metrics[way][measure_name]._asdict()
            for measure_name, measure in benchmark.measures.items()
            if measure.headline and measure_name in scored.metrics[way]
        }
        if numbers and numbers not in rows.values():
            rows[f"{name}, {way}"] = numbers
    console.print(table.table(rows))
    missing = sum(picture.path is None for picture in expected)
    if missing:
        console.print(
            f"[yellow]{missing} of {len(expected)} pictures are missing: they fail here; the benchmark itself"
            f" {'leaves them out' if benchmark.absent == 'left out' else 'stops'}[/yellow]"
        )
    if scored.faults:
        console.print(
            f"[yellow]{scored.faults} answers say neither yes nor no, or name nothing: they count as no[/yellow]"
        )
    for remark in (*reading.remarks, f"comparable {benchmark.comparable}"):
        console.print(remark, highlight=False, markup=False)


def compare(args: argparse.Namespace) -> None:
    """What changed from one result to another of the same benchmark, with paired intervals."""
    a, b = difference.read(args.a), difference.read(args.b)
    differing = difference.checked(a, b)
    comparison = Table(title=str(a.source["benchmark"]), box=None, padding=(0, 1))
    for column in ("measure", "A", "B", "B - A", "95% of B - A", ""):
        comparison.add_column(column, justify="left" if column == "measure" else "right", no_wrap=True)
    for metric in difference.of_metrics(a, b, args.resamples, args.seed):
        interval = f"{metric.low:+.3f} to {metric.high:+.3f}"
        cells = [f"{metric.a:.3f}", f"{metric.b:.3f}", f"{metric.value:+.3f}", interval]
        comparison.add_row(metric.name, *cells, "differs" if metric.certain else "")
    Console().print(comparison)
    if differing:
        print(f"not the same on both sides, and numbers may differ for it: {', '.join(differing)}")


def show_spread(args: argparse.Namespace) -> None:
    """How far the numbers of the same pictures lie apart when a judge is asked again with another seed."""
    results = [difference.read(folder) for folder in args.results]
    measures = difference.spread(results)
    shown = Table(title=f"{results[0].source['benchmark']}, judged {len(results)} times", box=None, padding=(0, 1))
    for column in ("measure", "mean", "sd", "lowest", "highest"):
        shown.add_column(column, justify="left" if column == "measure" else "right", no_wrap=True)
    for name, *numbers in measures:
        shown.add_row(name, *(f"{number:.4f}" for number in numbers))
    Console().print(shown)


def write_page(args: argparse.Namespace) -> None:
    """Write the leaderboard: every result below a folder, and published numbers beside them."""
    page = leaderboard.render(registry.every(), leaderboard.results(args.results))
    with atomic.file(args.html) as part:
        part.write_text(page, encoding="utf-8")
    print(f"written to {args.html}")


def _reading(benchmark: Benchmark, files: Sequence[Path]) -> Reading:
    missing = [path for path in files if not path.exists()]
    if missing:
        raise ValueError(f"{missing[0]}: no such file")
    return benchmark.read(files)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="instdiff bench", description=__doc__.split("\n", maxsplit=1)[0])
    commands = options.add_subparsers(dest="command", required=True)
    every = commands.add_parser("list", help="every benchmark: files, judges, measures, what compares")
    every.add_argument("name", nargs="?", help="this one alone")
    layouts = commands.add_parser("layouts", help="a benchmark's layouts, for any generator")
    _files(layouts)
    layouts.add_argument("--out", type=Path, required=True, help="the file to write, in our JSON")
    questions_command = commands.add_parser("questions", help="the questions about pictures that have no answer yet")
    _files(questions_command)
    _judges(questions_command)
    questions_command.add_argument("--out", type=Path, required=True, help="the file to write, a question a line")
    scores = commands.add_parser("score", help="judge a folder of pictures")
    _files(scores)
    _judges(scores)
    finder_options.add_options(scores)
    scores.add_argument("--params", type=Path, default=Path("params.yaml"), help="the values: finders, thresholds")
    scores.add_argument("--batch-size", type=int, default=8, help="questions that an answerer sees at once")
    scores.add_argument("--row", help="name of the result; by default the folder's")
    scores.add_argument("--compat", choices=["reference"], help="count as the benchmark itself does, faults and all")
    scores.add_argument("--out", type=Path, default=Path("scores/bench"), help="where results lie")
    _draws(scores)
    differences = commands.add_parser("compare", help="two results of one benchmark, with paired intervals")
    differences.add_argument("a", type=Path, help="the folder of a result")
    differences.add_argument("b", type=Path, help="another, to hold against it")
    _draws(differences)
    repeats = commands.add_parser("spread", help="how far results of the same pictures lie apart: the judge's noise")
    repeats.add_argument("results", type=Path, nargs="+", help="folders of results, each by another --decoding-seed")
    page = commands.add_parser("page", help="the leaderboard as one HTML file")
    page.add_argument("--results", type=Path, default=Path("scores/bench"), help="where results lie")
    page.add_argument("--html", type=Path, default=Path("leaderboard.html"), help="the file to write")
    return options


def _files(options: argparse.ArgumentParser) -> None:
    options.add_argument("name", help="of the benchmark; `instdiff bench list` names all")
    options.add_argument("files", type=Path, nargs="+", help="the benchmark's own files")


def _judges(options: argparse.ArgumentParser) -> None:
    add = options.add_argument
    add("--pictures", type=Path, required=True, help="the folder to judge")
    add("--detections", type=Path, help="detections of the texts of each picture")
    add("--masks", type=Path, help="the mask in each given box: key, index, height, width, mask")
    add("--answered-by", help="whose answers, where several are kept")
    add("--questions", type=Path, help="the benchmark's own wording (JSON); without it ours, which does not compare")
    answerers.add_options(options)
    options.set_defaults(answers=None)
    add("--judge", type=Path, help="a CLIP's folder, for CLIP scores and GenEval's colours")
    add("--boxes-in", choices=replies.UNITS, default=replies.UNITS[0], help="the unit of an answerer's boxes")


def _draws(options: argparse.ArgumentParser) -> None:
    options.add_argument("--resamples", type=int, default=1000, help="bootstrap draws")
    options.add_argument("--seed", type=int, default=0, help="of the draws")
