"""What a finder is asked for in each picture of a set."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from instdiff.networks.finders.choice import Choice


class DetectionVocabulary(NamedTuple):
    """The classes of a file of detections, and what is looked for in each picture."""

    classes: tuple[str, ...]
    of_pictures: tuple[tuple[str, ...], ...]

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()


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
