"""A picture with its layout, as each format writes it."""

from typing import Literal, NamedTuple

import numpy as np

from instdiff.layouts import geometry, masks
from instdiff.schema import Box, Layout
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

Held = Literal["caption", "phrase", "category", "box", "mask", "point", "scribble", "outline"]
# what a format may hold beside the picture: its caption, and the rest of each instance


class Sample(NamedTuple):
    """A picture's file, its size in pixels, and its layout."""

    key: str
    encoded: bytes
    kind: str  # the file's suffix: "png", "jpg", "webp"
    width: int
    height: int
    layout: Layout

    @property
    def file(self) -> str:
        """The name of the picture's file."""
        return f"{self.key}.{self.kind}"


def box_of(sample: Sample, index: int, failed: Ledger) -> Box | None:
    """The part of an instance's box inside the picture, else the box of its mask, else None; both are noted."""
    instance = sample.layout.instances[index]
    box = None if instance.box is None else geometry.clamp(instance.box)
    if box is not None and box.area:
        return box
    if instance.mask is not None and masks.visible(instance.mask):
        failed.add(sample.key, index, Failure("box_from_mask", f"{instance.phrase!r} has no box: that of its mask"))
        return masks.box_of(masks.decode(instance.mask))
    failed.add(sample.key, index, Failure("no_box", f"{instance.phrase!r} has neither box nor mask: not written"))
    return None


def mask_of(sample: Sample, index: int, failed: Ledger) -> masks.Mask | None:
    """The mask of an instance, else its box filled, else None; both are noted."""
    instance = sample.layout.instances[index]
    if instance.mask is not None:
        return masks.decode(instance.mask)
    box = None if instance.box is None else geometry.clamp(instance.box)
    if box is None or not box.area:
        failed.add(sample.key, index, Failure("no_mask", f"{instance.phrase!r} has neither mask nor box: not written"))
        return None
    failed.add(sample.key, index, Failure("mask_from_box", f"{instance.phrase!r} has no mask: its box, filled"))
    mask_HW = np.zeros((sample.height, sample.width), dtype=np.bool_)
    mask_HW[geometry.rows(box, sample.height), geometry.columns(box, sample.width)] = True
    return mask_HW


def category_of(sample: Sample, index: int, failed: Ledger) -> str:
    """The category of an instance, else its phrase, which is noted."""
    instance = sample.layout.instances[index]
    if instance.category is not None:
        return instance.category
    failed.add(sample.key, index, Failure("category_from_phrase", f"{instance.phrase!r} has no category: its phrase"))
    return instance.phrase
