"""What will be read otherwise than it is written, of layouts that can be drawn."""

import re
from collections.abc import Callable, Iterator, Sequence

from instdiff.layouts import geometry, masks
from instdiff.schema import Box, Instance, Layout, Rle

Shape = tuple[int, int]  # height, width in pixels; only their ratio counts
Tokens = Callable[[str], Sequence[str]]

ROOM = 75  # tokens of a text that CLIP's text encoder reads, without the two that begin and end it
SQUARE: Shape = (1, 1)
_FAR = 1.5  # fractions of a picture: a box beyond it was hardly meant as fractions
_PIXEL = 1 / 512
_RATIO = 0.01  # by which two shapes may differ and still count as the same
_MOST_WORDS = 12  # words in a sentence


def words(text: str) -> Sequence[str]:
    """Words and signs as CLIP's tokenizer first divides a text: each becomes a token or several."""
    return re.findall(r"[^\W\d_]+|\d|[^\s\w]+|_", text.lower())


def of_layout(layout: Layout, written_for: Shape, size: Shape) -> Iterator[str]:
    """Remarks by field; a record is written for a shape and drawn in another, and its masks should have the first."""
    if not _alike(written_for, size):
        yield f"width, height: written for {_shape(written_for)}, drawn as {_shape(size)}: all places are stretched"
    for number, instance in enumerate(layout.instances):
        where = f"instances.{number}"
        if instance.box is not None:
            for remark in _of_box(instance.box):
                yield f"{where}.box: {remark}"
        if instance.mask is not None:
            for remark in _of_mask(instance.mask, written_for):
                yield f"{where}.mask: {remark}"
        if not _is_placed(instance):
            yield f"{where}: nothing says where it is"


def of_texts(layout: Layout, tokens: Tokens = words, room: int = ROOM) -> Iterator[str]:
    """Prompt and phrases that are longer than the text encoder reads, with the words that are lost.

    Without a tokenizer the words are counted, so that a text of many long words may lose more than is said.
    """
    least = "at least " if tokens is words else ""
    phrases = [(f"instances.{number}.phrase", instance.phrase) for number, instance in enumerate(layout.instances)]
    for where, text in [("prompt", layout.prompt), *phrases]:
        read = tokens(text)
        if len(read) > room:
            lost = " ".join(read[room : room + _MOST_WORDS]) + (" ..." if len(read) > room + _MOST_WORDS else "")
            yield f"{where}: has {least}{len(read)} tokens, and the text encoder reads {room}: lost is {lost!r}"


def _of_box(box: Box) -> Iterator[str]:
    inside = geometry.clamp(box)
    hint = ": are these percent or pixels? places are fractions of the picture" if max(map(abs, box)) > _FAR else ""
    if inside.area == 0:
        yield f"{rounded(box)} has no area in the picture and counts as not given{hint}"
    elif inside != box:
        yield f"{rounded(box)} is cut at the picture's border{hint}"
    elif min(box.x1 - box.x0, box.y1 - box.y0) < _PIXEL:
        yield f"{rounded(box)} is smaller than a pixel of 512: is it in another unit?"


def _of_mask(mask: Rle, written_for: Shape) -> Iterator[str]:
    runs = masks.checked(mask)
    height, width = mask.size
    inside = int(runs[1::2].sum())
    if inside == 0:
        yield "no pixel is inside, so that it counts as not given"
    elif inside == height * width:
        yield "every pixel is inside: is it inverted?"
    if not _alike(mask.size, written_for):
        yield f"is {_shape(mask.size)}, and the picture {_shape(written_for)}: it is stretched"


def _is_placed(instance: Instance) -> bool:
    return any((instance.box, instance.point, instance.scribble, instance.mask, instance.outline))


def _alike(first: Shape, other: Shape) -> bool:
    return abs(first[0] * other[1] / (first[1] * other[0]) - 1) <= _RATIO


def _shape(shape: Shape) -> str:
    return "a square" if shape == SQUARE else f"{shape[1]}x{shape[0]}"


def rounded(numbers: Sequence[float]) -> str:
    """Numbers in a sentence."""
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
