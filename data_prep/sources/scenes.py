"""The source that needs no files: scenes of the miniature world, painted from their seed and known exactly."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from instdiff.layouts import masks
from instdiff.randomness import derive
from instdiff.work.parts import Answer
from instdiff.world import scenes
from instdiff.world.arrangements import GROUPS


@dataclass(frozen=True)
class Order:
    """One scene to paint."""

    key: str
    group: str
    index: int
    seed: int


def refuse_unknown(groups: Mapping[str, int]) -> None:
    """ValueError names the groups of scenes that there are none of."""
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise ValueError(f"ingest: no such group of scenes: {', '.join(unknown)}; there are {', '.join(GROUPS)}")


def orders_of(split: str, spans: Sequence[tuple[str, range]], seed: int) -> list[Order]:
    """The scenes of a split with these numbers of their groups; no two splits share a seed."""
    return [
        Order(f"{split}-{group}-{index:06d}", group, index, derive(seed, split))
        for group, numbers in spans
        for index in numbers
    ]


def paint(listed: Sequence[Order]) -> Iterator[Answer]:
    """Paint each scene."""
    for order in listed:
        yield painted(order)


def painted(order: Order) -> Answer:
    """One scene, painted and described."""
    scene = scenes.scene(order.seed, order.index, order.group)
    stream = io.BytesIO()
    Image.fromarray(scene.picture).save(stream, "png")
    encoded, file = stream.getvalue(), f"{order.key}.png"
    height, width = scene.picture.shape[:2]
    image = {
        "key": order.key,
        "group": order.group,
        "file": file,
        "width": width,
        "height": height,
        "caption": scene.caption,
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }
    rows = [
        {
            "key": order.key,
            "index": index,
            "category": instance.category,
            "box": [float(edge) for edge in instance.box],
            "mask": masks.encode(instance.mask).counts,
            "colour": instance.colour,
            "texture": instance.texture,
        }
        for index, instance in enumerate(scene.instances)
    ]
    return Answer(order.key, [{**image, "given": rows, "converted": None}], [], ((file, encoded),))
