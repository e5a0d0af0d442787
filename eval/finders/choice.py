"""Which finder and which marker: chosen by params or on a command line, loaded, and identified by a hash."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import pandas as pd

from eval.finders.finder import Finder
from eval.finders.params import Finders, MarkerParams
from instdiff.files import provenance
from instdiff.networks import detector as yolo
from instdiff.networks.device import PLAIN, Place
from instdiff.schema import Strict

Name = Literal["yolo", "grounding_dino", "owlv2"]
NAMES: tuple[Name, ...] = ("yolo", "grounding_dino", "owlv2")


class Choice(Strict):
    """Who finds, what is looked for, and who marks."""

    finder: Name  # yolo has classes and a folder of its own; the others look for the layouts' categories
    finders: Finders
    phrases: Literal["all", "own"]  # looked for in each picture: the categories of all layouts, or those of its own
    marker: MarkerParams | None  # who gives masks to the detections; null: nobody, so that they have the finder's own

    def weights(self, detector: Path) -> list[Path]:
        """The files or folders of everyone who has a say; `detector` is YOLO's folder."""
        own = detector if self.finder == "yolo" else getattr(self.finders, self.finder).weights
        return [own] if self.marker is None else [own, self.marker.weights]

    def used(self) -> dict[str, object]:
        """The settings that decide what is detected, but for weights."""
        settings: dict[str, object] = {"finder": self.finder}
        if self.finder != "yolo":
            own: Strict = getattr(self.finders, self.finder)
            settings |= {"settings": own.model_dump(exclude={"weights"}), "phrases": self.phrases}
        if self.marker is not None:
            settings["marker"] = self.marker.backend
        return settings

    def digest(self, detector: Path) -> str:
        """A hash of weights and settings: two detections with the same one are by the same finder."""
        sums = [_sum(path) for path in self.weights(detector)]
        if self.finder == "yolo" and self.marker is None:
            return sums[0]
        text = json.dumps([*sums, self.used()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


OPTIONS = ("finder", "finder_weights", "phrases", "marker", "marker_weights")


class DetectionVocabulary(NamedTuple):
    """The classes of a file of detections, and what is looked for in each picture."""

    classes: tuple[str, ...]
    of_pictures: tuple[tuple[str, ...], ...]

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()


def load(choice: Choice, detector: Path, where: Place = PLAIN) -> Finder:
    """The finder, with its marker; ValueError where weights are missing or another network's."""
    finder = _finder(choice, detector, where)
    if choice.marker is None:
        return finder
    from eval.finders import marked

    return marked.MarkedFinder(finder, marked.load(choice.marker, where))


def classes(choice: Choice, detector: Path) -> tuple[str, ...] | None:
    """All that the finder can find, without loading it; None where it looks for any phrase."""
    return yolo.classes(detector) if choice.finder == "yolo" else None


def vocabulary(
    classes: Sequence[str] | None, keys: Sequence[str], instances: pd.DataFrame, choice: Choice
) -> DetectionVocabulary:
    """What is looked for: a closed finder's classes, or the categories of the instances (columns key, category)."""
    if classes is not None:
        return DetectionVocabulary(tuple(classes), (tuple(classes),) * len(keys))
    with_category = instances[instances["category"].notna()]
    every = tuple(sorted(set(with_category["category"])))
    if not every:
        raise ValueError(f"{choice.finder}: no instance has a category, so there is nothing to look for")
    if choice.phrases == "all":
        return DetectionVocabulary(every, (every,) * len(keys))
    own = {str(key): tuple(sorted(set(names))) for key, names in with_category.groupby("key")["category"]}
    return DetectionVocabulary(every, tuple(own.get(key, ()) for key in keys))


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


def _finder(choice: Choice, detector: Path, where: Place) -> Finder:
    if choice.finder == "yolo":
        from eval.finders.closed import ClosedFinder

        return ClosedFinder(yolo.load(detector, where))
    from eval.finders import open_vocabulary

    if choice.finder == "grounding_dino":
        return open_vocabulary.GroundingDinoFinder(choice.finders.grounding_dino, where)
    return open_vocabulary.Owlv2Finder(choice.finders.owlv2, where)


def _sum(path: Path) -> str:
    if not path.exists():
        raise ValueError(f"{path}: no weights there")
    return provenance.of_folder(path) if path.is_dir() else provenance.of_file(path)
