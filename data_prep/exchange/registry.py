"""The formats, one entry each: what reads one, what writes it, and what of a layout it holds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from data_prep.exchange import coco, eligen, fiftyone, layoutsam, sidecar, yolo
from data_prep.exchange.sample import Held, Sample
from data_prep.sources.records import Record
from instdiff.work.ledger import Ledger


@dataclass(frozen=True)
class Format:
    """A data set's format."""

    name: str
    meaning: str
    read: Callable[[str], list[Record]]  # a folder, or a list in it
    write: Callable[[Path, Iterable[Sample], Ledger], None]  # into an empty folder
    holds: frozenset[Held]  # what is written and comes back as it was
    shows: frozenset[Held] = frozenset()  # what is written for others, and not read here

    @property
    def loses(self) -> tuple[Held, ...]:
        """What of a layout it has no place for."""
        return tuple(name for name in get_args(Held) if name not in self.holds | self.shows)


FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            "bbox",
            "pictures with .bbox files beside them, for SimpleTuner",
            sidecar.read,
            sidecar.write,
            frozenset({"caption", "phrase", "box", "mask"}),
        ),
        Format(
            "coco",
            "COCO's instances.json, with phrases and points of ours",
            coco.read,
            coco.write,
            frozenset({"caption", "phrase", "category", "box", "mask"}),
            frozenset({"point", "scribble"}),
        ),
        Format(
            "eligen",
            "EliGen's metadata with a mask picture an entity, for DiffSynth-Studio",
            eligen.read,
            eligen.write,
            frozenset({"caption", "phrase", "mask"}),
        ),
        Format(
            "fiftyone",
            "FiftyOne's samples.json (LegacyFiftyOneDataset)",
            fiftyone.read,
            fiftyone.write,
            frozenset({"caption", "phrase", "category", "box", "mask"}),
        ),
        Format(
            "layoutsam",
            "LayoutSAM's Parquet tables",
            layoutsam.read,
            layoutsam.write,
            frozenset({"caption", "phrase", "category", "box"}),
        ),
        Format(
            "yolo",
            "YOLO's labels with data.yaml",
            yolo.read,
            yolo.write,
            frozenset({"category", "box"}),
        ),
    )
}
