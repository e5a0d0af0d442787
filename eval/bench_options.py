"""The options of `instdiff bench` and its commands."""

import argparse
from pathlib import Path

from eval import finder_options
from eval.answerers import choice as answerers
from eval.benchmarks import replies


def parser(description: str) -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="instdiff bench", description=description)
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
