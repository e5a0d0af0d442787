"""What of a layout cannot be drawn, by field, whoever wrote it."""

from collections.abc import Iterator

from instdiff.files.texts import is_text
from instdiff.layouts import masks
from instdiff.layouts.formats import POINT_FORMATS, points_of
from instdiff.layouts.remarks import rounded
from instdiff.schema import Instance, Layout

_FARTHEST = 10.0  # from the picture's border, in pictures: beyond it, pixels were meant


def of_layout(layout: Layout, max_instances: int | None) -> Iterator[str]:
    """Every fault; `max_instances` is the number of the model's slots, None where it is not known."""
    if max_instances is not None and len(layout.instances) > max_instances:
        yield f"instances: there are {len(layout.instances)}, but the model has slots for {max_instances}"
    if not is_text(layout.prompt):
        yield "prompt: holds half a character (a lone surrogate)"
    for number, instance in enumerate(layout.instances):
        for name, fault in (*_of_texts(instance), *of_places(instance), *_of_mask(instance)):
            yield f"instances.{number}.{name}: {fault}"


def of_places(instance: Instance) -> Iterator[tuple[str, str]]:
    """Field and fault of each box or point that is no place in a picture, such as one in pixels."""
    if instance.box is not None:
        if max(map(abs, instance.box)) > _FARTHEST:
            yield "box", f"{rounded(instance.box)} lies far outside the picture: places are fractions of it"
        elif instance.box.x1 < instance.box.x0 or instance.box.y1 < instance.box.y0:
            yield "box", f"{rounded(instance.box)} ends before it begins: left, top, right, bottom are expected"
    for entry in POINT_FORMATS:
        for at in points_of(instance, entry):
            if not (0 <= at.x <= 1 and 0 <= at.y <= 1):
                yield entry.name, f"{rounded(at)} lies outside the picture: places are fractions of it"
                break


def _of_texts(instance: Instance) -> Iterator[tuple[str, str]]:
    if not instance.phrase.strip():
        yield "phrase", "is empty"
    elif not is_text(instance.phrase):
        yield "phrase", "holds half a character (a lone surrogate)"


def _of_mask(instance: Instance) -> Iterator[tuple[str, str]]:
    if instance.mask is not None:
        try:
            masks.decode(instance.mask)
        except ValueError as error:
            yield "mask", str(error)
