"""Which finder and which marker: chosen by params, loaded, and identified by a hash."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from instdiff.files import provenance
from instdiff.networks import detector as yolo
from instdiff.networks.device import PLAIN, Place
from instdiff.networks.finders.closed import ClosedFinder
from instdiff.networks.finders.finder import Finder
from instdiff.networks.finders.params import Finders, MarkerParams
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


def load(choice: Choice, detector: Path, where: Place = PLAIN) -> Finder:
    """The finder, with its marker; ValueError where weights are missing or another network's."""
    finder = _finder(choice, detector, where)
    if choice.marker is None:
        return finder
    from instdiff.networks.finders import marked

    return marked.MarkedFinder(finder, marked.load(choice.marker, where))


def closed(detector: Path, where: Place = PLAIN) -> Finder:
    """YOLO of a folder, as a finder."""
    return ClosedFinder(yolo.load(detector, where))


def classes(choice: Choice, detector: Path) -> tuple[str, ...] | None:
    """All that the finder can find, without loading it; None where it looks for any phrase."""
    return yolo.classes(detector) if choice.finder == "yolo" else None


def _finder(choice: Choice, detector: Path, where: Place) -> Finder:
    if choice.finder == "yolo":
        return closed(detector, where)
    from instdiff.networks.finders import open_vocabulary

    if choice.finder == "grounding_dino":
        return open_vocabulary.GroundingDinoFinder(choice.finders.grounding_dino, where)
    return open_vocabulary.Owlv2Finder(choice.finders.owlv2, where)


def _sum(path: Path) -> str:
    if not path.exists():
        raise ValueError(f"{path}: no weights there")
    return provenance.of_folder(path) if path.is_dir() else provenance.of_file(path)
