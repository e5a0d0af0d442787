"""Complete layouts: every location format that follows from the ones an instance has, as arrays of the model's sizes.

The layers never saw a mask without a box, nor a box without a point, in training; so a box is put around the mask, a
point in the middle of the box, and an outline is drawn from the mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instdiff.layouts import geometry, masks, strokes
from instdiff.layouts.formats import BY_NAME, LOCATION_FORMATS, Format, LocationFormat, Slots
from instdiff.randomness import generator
from instdiff.schema import Compat, Instance, Layout, Point


@dataclass(frozen=True)
class CompleteInstance:
    """A phrase, and the numbers of each location format that is given: float32, but bool for a mask."""

    phrase: str
    numbers: Mapping[Format, NDArray[Any]]


@dataclass(frozen=True)
class CompleteLayout:
    """The instances of a layout, of the sizes of some slots."""

    key: str
    instances: tuple[CompleteInstance, ...]


def complete(layout: Layout, slots: Slots, compat: Compat | None = None) -> CompleteLayout:
    """Every instance with all formats that follow from those it has.

    Boxes are cut at the picture's border; a box of which nothing can be seen counts as not given, and so does an empty
    mask. `compat="reference"` neither cuts a box nor the point in its middle, and gives zeros for every format but the
    mask that is absent.
    ValueError names the layout that has more instances than there are slots.
    """
    count = len(layout.instances)
    if count > slots.max_instances:
        raise ValueError(f"{layout.key}: {count} instances, but the model has slots for {slots.max_instances}")
    instances = []
    for number, instance in enumerate(layout.instances):
        rng = generator(0, "outline", layout.key, number)
        numbers = _numbers(_locations(instance, slots, rng, compat), slots)
        if compat == "reference":
            zeros = {name: np.zeros(BY_NAME[name].shape(slots), np.float32) for name in slots.located}
            numbers = zeros | numbers
        instances.append(CompleteInstance(instance.phrase, numbers))
    return CompleteLayout(layout.key, tuple(instances))


def _locations(instance: Instance, slots: Slots, rng: np.random.Generator, compat: Compat | None) -> dict[Format, Any]:
    """The locations of an instance with those that follow from them; the mask as an array, None where it is empty."""
    mask_HW = None if instance.mask is None else masks.decode(instance.mask)
    if mask_HW is not None and not mask_HW.any():
        mask_HW = None
    box, point = instance.box, instance.point
    if box is not None and compat is None:
        box = geometry.clamp(box) if geometry.clamp(box).area > 0 else None
    if box is None and mask_HW is not None:
        box = masks.box_of(mask_HW)
    if point is None and box is not None:
        point = box.centre
    outline: Sequence[Point] | strokes.Points | None = instance.outline or None
    if outline is None and mask_HW is not None and slots.num_outline_points:
        outline = strokes.outline(mask_HW, slots.num_outline_points, rng)
    stored = {entry.name: getattr(instance, entry.name) for entry in LOCATION_FORMATS}
    return stored | {"box": box, "point": point, "outline": outline, "mask": mask_HW}


def _numbers(locations: Mapping[Format, Any], slots: Slots) -> dict[Format, NDArray[Any]]:
    """The numbers of the formats that are given and that the model has."""
    entries = [BY_NAME[name] for name, value in locations.items() if value is not None and len(value)]
    return {entry.name: _array(entry, locations[entry.name], slots) for entry in entries if all(entry.shape(slots))}


def _array(entry: LocationFormat, value: Any, slots: Slots) -> NDArray[Any]:
    if entry.kind == "mask":
        return _resized(value, slots.mask_size)
    points = _counted(value, entry.shape(slots)[0] // 2) if entry.kind == "points" else value
    return np.asarray(points, dtype=np.float32).ravel()


def _counted(points: Sequence[Point] | strokes.Points, count: int) -> Sequence[Point] | strokes.Points:
    """As they are if there are `count`, otherwise thinned or repeated."""
    return points if len(points) == count else strokes.reorder(np.asarray(points, dtype=np.float64), count)


def _resized(mask_HW: masks.Mask, size: int) -> masks.Mask:
    """The mask at size x size, each pixel that of the mask at its upper left corner."""
    height, width = mask_HW.shape
    resized: masks.Mask = mask_HW[(np.arange(size) * height) // size][:, (np.arange(size) * width) // size]
    return resized
