"""Which finder and which marker, on a command line: what is not given stays as params.yaml has it."""

import argparse
from pathlib import Path
from typing import Literal, TypeVar

from instdiff.networks.finders.choice import NAMES, Choice
from instdiff.networks.finders.params import MarkerParams

OPTIONS = ("finder", "finder_weights", "phrases", "marker", "marker_weights")


def add_options(options: argparse.ArgumentParser) -> None:
    """The options of a command that chooses; what is not given stays as params.yaml has it."""
    add = options.add_argument
    add("--detector", type=Path, default=Path("data/foundation/detector"), help="YOLO's folder")
    add("--finder", choices=NAMES, help="who detects; its settings are in detect.finders of params.yaml")
    add("--finder-weights", type=Path, help="the folder of a finder other than yolo")
    add("--phrases", choices=("all", "own"), help="looked for in each picture: categories of all layouts, or its own")
    add("--marker", choices=("sam", "sam2", "none"), help="who gives masks to the detections")
    add("--marker-weights", type=Path, help="the marker's file or folder")


Chosen = TypeVar("Chosen", bound=Choice)


def is_given(args: argparse.Namespace) -> bool:
    """Whether the command line says anything of who finds or marks, YOLO's folder aside."""
    return any(vars(args)[name] is not None for name in OPTIONS)


def with_options(choice: Chosen, args: argparse.Namespace) -> Chosen:
    """The choice with what the command line says in place of its own; ValueError where the two do not fit."""
    changes: dict[str, object] = {
        name: vars(args)[name] for name in ("finder", "phrases") if vars(args)[name] is not None
    }
    finder = changes.get("finder", choice.finder)
    if args.phrases is not None and finder == "yolo":
        raise ValueError("--phrases: yolo reports all of its classes")
    if args.finder_weights is not None:
        if finder == "yolo":
            raise ValueError("--finder-weights: yolo's folder is given by --detector")
        own = getattr(choice.finders, str(finder)).model_copy(update={"weights": args.finder_weights})
        changes["finders"] = choice.finders.model_copy(update={str(finder): own})
    if args.marker == "none":
        changes["marker"] = None
    elif args.marker is not None or args.marker_weights is not None:
        changes["marker"] = _marker(choice.marker, args.marker, args.marker_weights)
    return choice.model_copy(update=changes)


def _marker(own: MarkerParams | None, backend: Literal["sam", "sam2"] | None, weights: Path | None) -> MarkerParams:
    if weights is None and (own is None or own.backend != backend):
        raise ValueError("--marker: needs --marker-weights, the file or folder of its weights")
    if own is None and backend is None:
        raise ValueError("--marker-weights: needs --marker, sam or sam2")
    changes = {name: value for name, value in (("backend", backend), ("weights", weights)) if value is not None}
    return MarkerParams.model_validate({"max_boxes": MAX_BOXES} | (own.model_dump() if own else {}) | changes)


MAX_BOXES = 64  # of a marker that only a command line names; it decides memory and no mask
