"""What each command of evaluation takes for what it is not told, frozen here, and what it must be told."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eval import bench_options, compare, detect_command, evaluate, finder_options
from instdiff.networks.finders.params import MarkerParams

FINDER = dict.fromkeys(("finder", "finder_weights", "phrases", "marker", "marker_weights")) | {
    "detector": Path("data/foundation/detector")
}
ANSWERER = dict.fromkeys(f"answerer{rest}" for rest in ("", "_address", "_model", "_key", "_python", "_worker")) | {
    "answerer_precision": "bfloat16",
    "decoding": "greedy",
    "decoding_seed": 0,
}
JUDGED = dict.fromkeys(("detections", "masks", "answered_by", "questions", "answers", "judge"))
FILES = {"name": "coco-mig", "files": [Path("f")]}
PICTURES = {"pictures": Path("p"), "boxes_in": "multiples-of-28"}
DRAWS = {"resamples": 1000, "seed": 0}


def bench() -> argparse.ArgumentParser:
    return bench_options.parser("")


COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], str, Mapping[str, Any]]] = {
    "evaluate": (
        evaluate.parser,
        "--pictures p --layouts l",
        {
            "pictures": [Path("p")],
            "layouts": Path("l"),
            "metrics": (),
            "params": Path("params.yaml"),
            "out": Path("scores"),
            **dict.fromkeys(("images", "detections", "judge", "real", "none", "real_detections", "none_detections")),
            **dict.fromkeys(("protocol", "row", "size")),
            **FINDER,
        },
    ),
    "detect": (
        detect_command.parser,
        "--pictures p --layouts l --out o",
        {
            "pictures": Path("p"),
            "layouts": Path("l"),
            "out": Path("o"),
            "images": None,
            "size": None,
            "params": Path("params.yaml"),
            **FINDER,
        },
    ),
    "compare": (
        compare.parser,
        "A B",
        {
            "a": "A",
            "b": "B",
            "scores": Path("data/scores"),
            "drawn": Path("data/generated"),
            "real": Path("data/pictures/val"),
            "all": False,
            "count": 12,
            **dict.fromkeys(("row", "pictures", "html", "plots")),
            **DRAWS,
        },
    ),
    "bench list": (bench, "list", {"command": "list", "name": None}),
    "bench layouts": (bench, "layouts coco-mig f --out o", {"command": "layouts", **FILES, "out": Path("o")}),
    "bench questions": (
        bench,
        "questions coco-mig f --pictures p --out o",
        {"command": "questions", "out": Path("o"), **FILES, **PICTURES, **JUDGED, **ANSWERER},
    ),
    "bench score": (
        bench,
        "score coco-mig f --pictures p",
        {
            "command": "score",
            "params": Path("params.yaml"),
            "batch_size": 8,
            "out": Path("scores/bench"),
            **dict.fromkeys(("row", "compat")),
            **FILES,
            **PICTURES,
            **JUDGED,
            **ANSWERER,
            **FINDER,
            **DRAWS,
        },
    ),
    "bench compare": (bench, "compare A B", {"command": "compare", "a": Path("A"), "b": Path("B"), **DRAWS}),
    "bench spread": (bench, "spread A B", {"command": "spread", "results": [Path("A"), Path("B")]}),
    "bench page": (
        bench,
        "page",
        {"command": "page", "results": Path("scores/bench"), "html": Path("leaderboard.html")},
    ),
}


@pytest.mark.parametrize(("parser", "words", "expected"), COMMANDS.values(), ids=COMMANDS.keys())
def test_what_a_command_is_not_told_is_as_it_was_and_what_it_must_be_told_it_asks_for(
    parser: Callable[[], argparse.ArgumentParser],
    words: str,
    expected: Mapping[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert vars(parser().parse_args(words.split())) == expected
    told = words.split()
    needed = [place for place, word in enumerate(told) if word.startswith("--")]
    for place in needed:
        with pytest.raises(SystemExit) as end:
            parser().parse_args(told[:place] + told[place + 2 :])
        assert end.value.code == 2
        assert f"required: {told[place]}" in capsys.readouterr().err
    if not needed and len(told) > 1:  # places
        with pytest.raises(SystemExit):
            parser().parse_args(told[: 1 if told[0] == "A" or told[0] == "spread" else 2])


def test_without_a_command_there_is_no_bench() -> None:
    with pytest.raises(SystemExit):
        bench().parse_args([])


@pytest.mark.parametrize(
    ("parser", "words"),
    [
        (evaluate.parser, "--pictures p --layouts l --size 0"),
        (compare.parser, "A B --count -1"),
        (compare.parser, "A B --resamples 0"),
        (compare.parser, "A B --seed -1"),
        (compare.parser, "A B --pictures p"),
        (bench, "score coco-mig f --pictures p --compat ours"),
    ],
)
def test_a_number_or_a_word_that_cannot_be_meant_is_refused(
    parser: Callable[[], argparse.ArgumentParser], words: str
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(words.split())


def test_no_instance_and_one_draw_may_be_asked_for() -> None:
    args = compare.parser().parse_args(["A", "B", "--count", "0", "--resamples", "1", "--pictures", "p", "q"])
    assert (args.count, args.resamples, args.pictures) == (0, 1, [Path("p"), Path("q")])


SAM = MarkerParams(backend="sam", weights=Path("own"), max_boxes=9)


def test_a_marker_is_that_of_the_values_but_for_what_is_told_and_one_told_alone_decodes_64_boxes_together() -> None:
    own = finder_options._marker
    assert own(None, "sam2", Path("w")) == MarkerParams(backend="sam2", weights=Path("w"), max_boxes=64)
    assert own(SAM, "sam", None) == SAM
    assert own(SAM, None, Path("w")) == SAM.model_copy(update={"weights": Path("w")})
    assert own(SAM, "sam2", Path("w")) == MarkerParams(backend="sam2", weights=Path("w"), max_boxes=9)


@pytest.mark.parametrize(
    ("marker", "backend", "weights", "needed"),
    [
        (None, "sam", None, "--marker: needs"),
        (SAM, "sam2", None, "--marker: needs"),
        (None, None, "w", "-weights: needs"),
    ],
)
def test_a_marker_of_which_half_is_told_needs_the_other_half(
    marker: MarkerParams | None, backend: Any, weights: str | None, needed: str
) -> None:
    with pytest.raises(ValueError, match=needed):
        finder_options._marker(marker, backend, None if weights is None else Path(weights))
