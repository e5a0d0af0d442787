"""Public benchmarks, on anybody's pictures: `instdiff bench list | layouts | questions | score | compare | page`.

`layouts` writes what a generator is to draw; `score` judges a folder of pictures from files of detections, masks and
answers, and needs no model for it; what a finder, a marker or an answerer says first is kept as such files. `questions`
writes what an answerer must still be asked. Each result is a folder `<out>/<benchmark>/<row>` with values.parquet (one
row a value), metrics.json and provenance.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eval import detect, evaluate, table
from eval.answerers import choice as answerers
from eval.answerers.store import Answers
from eval.benchmarks import difference, evidence, leaderboard, looking, pictures, questions, registry, replies, scoring
from eval.benchmarks.evidence import Evidence
from eval.benchmarks.pictures import Shown
from eval.benchmarks.shape import Benchmark, Reading
from eval.finders import choice as finders
from eval.finders.params import MarkerParams
from eval.inputs import detections
from instdiff.files import atomic, provenance
from instdiff.files.texts import read_json
from instdiff.layouts import files as layout_files


def main(arguments: Sequence[str]) -> None:
    """Run what is named first."""
    given = parser().parse_args(arguments)
    commands: Mapping[str, Callable[[argparse.Namespace], None]] = {
        "list": show_all,
        "layouts": write_layouts,
        "questions": write_questions,
        "score": score,
        "compare": compare,
        "page": write_page,
    }
    commands[given.command](given)


def show_all(given: argparse.Namespace) -> None:
    """Name every benchmark: what it reads, who judges it, what may be compared."""
    console = Console()
    for one in registry.every():
        if given.name in (None, one.name):
            console.print(f"[bold]{one.name}[/bold]  {one.title}; {one.licence}", highlight=False)
            lines = {
                "rules from": one.source,
                "files": one.files,
                "pictures": one.pictures,
                "its judges": one.judges,
                "measures": ", ".join(measure.label for measure in one.measures.values() if measure.headline),
                "missing": f"fails here; {one.absent} there",
                "comparable": one.comparable,
            }
            for name, text in lines.items():
                console.print(f"    {name}: {text}", highlight=False, markup=False)
    if given.name is not None:
        registry.load(given.name)


def write_layouts(given: argparse.Namespace) -> None:
    """Write a benchmark's layouts in our JSON, which `instdiff generate` draws."""
    reading = _reading(registry.load(given.name), given.files)
    layout_files.write(given.out, [case.layout() for case in reading.cases])
    instances = sum(len(case.instances) for case in reading.cases)
    print(f"{len(reading.cases)} layouts, {instances} instances written to {given.out}")
    for remark in reading.remarks:
        print(remark)


def write_questions(given: argparse.Namespace) -> None:
    """Write what an answerer must still be asked: picture, region in fractions or null, question."""
    benchmark = registry.load(given.name)
    shown = pictures.find(given.pictures, _reading(benchmark, given.files).cases, benchmark)
    known = gathered(benchmark, shown, given)
    known.identities = pictures.identities(shown)
    pending = scoring.pending(benchmark, shown, known)
    paths = {one.name: one.path for one in shown}
    lines = [
        {
            "file": str(paths[one.name]),
            "picture": known.identities[one.name],
            "region": "" if one.region is None else json.dumps(one.region),
            "question": one.question,
        }
        for one in pending
    ]
    with atomic.file(given.out) as part:
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} questions written to {given.out}")


def score(given: argparse.Namespace) -> None:
    """Score a folder of pictures, write the result and show its table."""
    benchmark = registry.load(given.name)
    name = given.row or given.pictures.resolve().name
    if Path(name).name != name:
        raise ValueError(f"--row: {name!r} cannot be the name of a folder")
    reading = _reading(benchmark, given.files)
    shown = pictures.find(given.pictures, reading.cases, benchmark)
    look(benchmark, name, shown, given)
    known = gathered(benchmark, shown, given)
    answerer = answerers.load(given)
    if answerer is not None:
        given.answers = given.answers or Path("answers")
        known.identities = pictures.identities(shown)
        looking.ask(benchmark, shown, known, answerer, Answers(given.answers), given.batch_size)
        known.sources["answers"] = {"judge": answerer.judge, "settings": answerer.settings}
    lacking = sorted(benchmark.needs - known.kinds)
    if lacking:
        raise ValueError(
            f"{benchmark.name} needs {' and '.join(lacking)}: give {' and '.join(f'--{x}' for x in lacking)}"
        )
    scored = scoring.score(benchmark, shown, known, given.resamples, given.seed)
    chosen = scoring.REFERENCE if given.compat == "reference" else scoring.OURS
    source = sources(benchmark, reading, shown, known, given) | {"counted": chosen, "unreadable_answers": scored.faults}
    scoring.write(given.out / benchmark.name / name, benchmark, scored, chosen, source)
    show(benchmark, name, scored, shown, reading, chosen)


def look(benchmark: Benchmark, name: str, shown: Sequence[Shown], given: argparse.Namespace) -> None:
    """Let the finder and the marker that are named look, unless the very same ones have; their files take the options'.

    A finder looks for the texts of each picture's own instances. A marker fills the given boxes.
    """
    kept = given.out / "kept"
    if given.finder is not None:
        params = finders.with_options(evaluate.read_settings(given.params, None).detect, without_marker(given))
        params = params.model_copy(update={"marker": None, "phrases": given.phrases or "own"})
        there, texts = pictures.whole(shown), looking.texts(shown)
        path = kept / f"{benchmark.name}-{name}.json"
        made_by = detect.made_by(there, texts, params.digest(given.detector), params)
        if not (path.is_file() and read_json(path).get("provenance") == made_by):
            detect.detected(path, there, texts, given.detector, params)
        given.detections = path
    if given.marker not in (None, "none"):
        if given.marker_weights is None:
            raise ValueError("--marker: needs --marker-weights, the file or folder of its weights")
        marker = MarkerParams(backend=given.marker, weights=given.marker_weights, max_boxes=finders.MAX_BOXES)
        given.masks = kept / f"{benchmark.name}-{name}.parquet"
        from eval.finders import marked

        looking.mark(given.masks, marked.load(marker), shown)


def without_marker(given: argparse.Namespace) -> argparse.Namespace:
    """The options without those of a marker, which fills given boxes here and no detections."""
    return argparse.Namespace(**vars(given) | {"marker": None, "marker_weights": None})


def gathered(benchmark: Benchmark, shown: Sequence[Shown], given: argparse.Namespace) -> Evidence:
    """What the files say of the pictures; ValueError when it is of other pictures."""
    known = Evidence(boxes_in=given.boxes_in)
    known.questions, known.sources["questions"] = questions.read(benchmark, given.questions)
    known.sources["boxes_in"] = given.boxes_in
    if given.detections is not None:
        there = pictures.whole(shown)
        found = detections.read(given.detections, there.sizes)
        stated = found.provenance.get("pictures")
        if stated is not None and stated != there.digest:
            raise ValueError(f"{given.detections}: the detections were made on other pictures than these")
        known.found = evidence.of_detections(found, shown)
        known.sources["detections"] = {"file": found.digest, "by": dict(found.provenance)}
    if given.masks is not None:
        known.masks = evidence.read_masks(given.masks, shown)
        known.sources["masks"] = provenance.of_file(given.masks)
    if given.answers is not None and given.answerer is None and given.answerer_address is None:
        known.answers = evidence.read_answers(given.answers, given.answered_by)
        known.identities = pictures.identities(shown)
        known.sources["answers"] = {"judge": known.answers.judge, "settings": known.answers.settings}
    if given.judge is not None:
        from instdiff.networks import clip

        known.judge = clip.load(given.judge)
        known.sources["judge"] = provenance.of_folder(given.judge)
    return known


def sources(
    benchmark: Benchmark, reading: Reading, shown: Sequence[Shown], known: Evidence, given: argparse.Namespace
) -> dict[str, object]:
    """What the numbers come from."""
    missing = [one.name for one in shown if one.path is None]
    files = sorted(file for path in given.files for file in ([path] if path.is_file() else provenance.files(path)))
    return {
        "benchmark": benchmark.name,
        "rules": benchmark.source,
        "comparable": benchmark.comparable,
        "files": {path.name: provenance.of_file(path) for path in files},
        "remarks": list(reading.remarks),
        "pictures": pictures.digest(shown),
        "num_cases": len(reading.cases),
        "num_pictures": len(shown),
        "cases": [one.place for one in shown],
        "missing": missing,
        "drawn_by": provenance.read(given.pictures),
        "judged_by": {name: value for name, value in known.sources.items() if name != "questions"},
        "questions": known.sources["questions"],
        "settings": {"resamples": given.resamples, "seed": given.seed},
        "versions": provenance.versions(),
    }


def show(
    benchmark: Benchmark, name: str, scored: scoring.Scored, shown: Sequence[Shown], reading: Reading, chosen: str
) -> None:
    """Print the table: the chosen way of counting, and the other where it gives other numbers."""
    console = Console()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for way in sorted((scoring.OURS, scoring.REFERENCE), key=lambda way: way != chosen):
        numbers = {
            one: scored.metrics[way][one]._asdict()
            for one, measure in benchmark.measures.items()
            if measure.headline and one in scored.metrics[way]
        }
        if numbers and numbers not in rows.values():
            rows[f"{name}, {way}"] = numbers
    console.print(table.table(rows))
    missing = sum(one.path is None for one in shown)
    if missing:
        console.print(
            f"[yellow]{missing} of {len(shown)} pictures are missing: they fail here; the benchmark itself"
            f" {'leaves them out' if benchmark.absent == 'left out' else 'stops'}[/yellow]"
        )
    if scored.faults:
        console.print(
            f"[yellow]{scored.faults} answers say neither yes nor no, or name nothing: they count as no[/yellow]"
        )
    for remark in (*reading.remarks, f"comparable {benchmark.comparable}"):
        console.print(remark, highlight=False, markup=False)


def compare(given: argparse.Namespace) -> None:
    """What changed from one result to another of the same benchmark, with paired intervals."""
    one, other = difference.read(given.a), difference.read(given.b)
    differing = difference.checked(one, other)
    shown = Table(title=str(one.source["benchmark"]), box=None, padding=(0, 1))
    for column in ("measure", "A", "B", "B - A", "95% of B - A", ""):
        shown.add_column(column, justify="left" if column == "measure" else "right", no_wrap=True)
    for metric in difference.of_metrics(one, other, given.resamples, given.seed):
        interval = f"{metric.low:+.3f} to {metric.high:+.3f}"
        cells = [f"{metric.one:.3f}", f"{metric.other:.3f}", f"{metric.value:+.3f}", interval]
        shown.add_row(metric.name, *cells, "differs" if metric.certain else "")
    Console().print(shown)
    if differing:
        print(f"not the same on both sides, and numbers may differ for it: {', '.join(differing)}")


def write_page(given: argparse.Namespace) -> None:
    """Write the leaderboard: every result below a folder, and published numbers beside them."""
    page = leaderboard.render(registry.every(), leaderboard.results(given.results))
    with atomic.file(given.html) as part:
        part.write_text(page, encoding="utf-8")
    print(f"written to {given.html}")


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
    asked = commands.add_parser("questions", help="what an answerer must still be asked about pictures")
    _files(asked)
    _judges(asked)
    asked.add_argument("--out", type=Path, required=True, help="the file to write, a question a line")
    scores = commands.add_parser("score", help="judge a folder of pictures")
    _files(scores)
    _judges(scores)
    finders.add_options(scores)
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
    add("--detections", type=Path, help="what a finder found of the texts of each picture")
    add("--masks", type=Path, help="the mask in each given box: key, index, height, width, mask")
    add("--answered-by", help="whose answers, where several are kept")
    add("--questions", type=Path, help="the benchmark's own wording (JSON); without it ours, which does not compare")
    answerers.add_options(options)
    options.set_defaults(answers=None)
    add("--judge", type=Path, help="a CLIP's folder, for GenEval's colours")
    add("--boxes-in", choices=replies.UNITS, default=replies.UNITS[0], help="the unit of an answerer's boxes")


def _draws(options: argparse.ArgumentParser) -> None:
    options.add_argument("--resamples", type=int, default=1000, help="bootstrap draws")
    options.add_argument("--seed", type=int, default=0, help="of the draws")
