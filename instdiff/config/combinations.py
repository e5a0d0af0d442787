"""Values that are right one by one and cannot work together: refused when they are composed, with what to take."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

PAINTED = {"colour", "texture"}  # words that scenes alone know of their instances


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
    if caption.get("backend") == "given" and source != "labelled":
        yield (
            f"caption.backend: the source {source} has no captions of instances: choose caption=blip, or "
            "caption=template with caption.template='{category}'"
        )
    words = set(re.findall(r"{(\w+)}", str(caption.get("template"))))
    if caption.get("backend") == "template" and source != "scenes" and (unknown := sorted(words & PAINTED)):
        yield (
            f"caption.template: the source {source} names no {' and no '.join(unknown)} of its instances: choose "
            "caption.template='{category}', or caption=blip"
        )
