"""Values that are right one by one and cannot work together: refused when they are composed, with what to take."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from instdiff.files.texts import read_json

PAINTED = {"colour", "texture"}  # words that scenes alone know of their instances
UNNAMED = {"yolo"}  # formats whose instances have a class, and no phrase
MAX_BYTES = 64 << 20  # of a file of annotations that is read before a run; a larger one is read when its stage runs


def faults(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each combination of sources and annotators that would leave nothing to train on."""
    sections = [values.get(name) for name in ("ingest", "ground", "segment", "caption")]
    if not all(isinstance(section, Mapping) for section in sections):
        return
    ingest, ground, segment, caption = (dict(section) for section in sections if section is not None)
    source = ingest.get("source")
    if source == "captioned" and ground.get("backend") == "given":
        yield "ground.backend: captioned pictures have no boxes: choose ground=grounding_dino"
    if segment.get("backend") == "given" and (source == "captioned" or ground.get("backend") != "given"):
        yield "segment.backend: no source has masks of boxes that a model finds: choose segment=sam or segment=box"
    if caption.get("backend") == "given" and source not in {"labelled", "exchanged"}:
        yield (
            f"caption.backend: the source {source} has no captions of instances: choose caption=blip, or "
            "caption=template with caption.template='{category}'"
        )
    if source == "exchanged" and ingest.get("format") in UNNAMED and caption.get("backend") == "given":
        yield (
            f"caption.backend: the format {ingest.get('format')} has no captions of instances: choose caption=blip, or "
            "caption=template with caption.template='{category}'"
        )
    words = set(re.findall(r"{(\w+)}", str(caption.get("template"))))
    if caption.get("backend") == "template" and source != "scenes" and (unknown := sorted(words & PAINTED)):
        yield (
            f"caption.template: the source {source} names no {' and no '.join(unknown)} of its instances: choose "
            "caption.template='{category}', or caption=blip"
        )


def unjudged(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence where own pictures have categories that the detector does not know, and so cannot be judged.

    Said before anything runs: the stage that would say it comes after training.
    """
    ingest, detect = values.get("ingest"), values.get("detect")
    if not isinstance(ingest, Mapping) or not isinstance(detect, Mapping):
        return
    if ingest.get("source") != "coco" or detect.get("finder") != "yolo":
        return
    detector = values.get("detector")
    if not isinstance(detector, Mapping) or detector.get("source") != "import":
        return
    classes = Path(str(values.get("shipped"))) / "detector" / "classes.json"
    if not classes.is_file():
        return
    vocabulary = set(read_json(classes)["classes"])
    for split in ("train", "val"):
        files = ingest.get(split)
        path = Path(str(files.get("instances"))) if isinstance(files, Mapping) else None
        if path is None or not path.is_file() or path.stat().st_size > MAX_BYTES:
            continue
        if unknown := sorted(_used(read_json(path)) - vocabulary):
            yield (
                f"ingest.{split}.instances: {path}: the detector that judges knows {', '.join(sorted(vocabulary))}, "
                f"and not {_listed(unknown)}: choose detect.finder=grounding_dino, or shipped=FOLDER with a detector "
                "that does"
            )


def _used(content: Any) -> set[str]:
    """The names of the categories that annotations of COCO's form have; none of a file that is not of this form."""
    try:
        used = {annotation["category_id"] for annotation in content["annotations"]}
        return {str(category["name"]) for category in content["categories"] if category["id"] in used}
    except (KeyError, TypeError):
        return set()  # the stage that reads it says what is wrong


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(repr(name) for name in names[:3])}{more}"
