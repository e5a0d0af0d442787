"""ingest: turn a source into pictures, and tables of what the source knows of them."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from instdiff import atomic, masks, scenes, stage, tables
from instdiff.progress import track
from instdiff.randomness import derive
from instdiff.schema import GIVEN, IMAGES, LEDGER, Strict

Row = dict[str, Any]
Map = Callable[[Callable[["Order"], "Ingested"], list["Order"]], Iterable["Ingested"]]


class Params(Strict):
    """The source, and how much of it."""

    source: Literal["scenes"]
    seed: int
    num_train: int  # pictures of the group "mixed"
    val_groups: dict[str, int]  # group -> pictures
    num_workers: int  # processes; the result is the same whatever their number


@dataclass(frozen=True)
class Order:
    """One scene to paint."""

    key: str
    group: str
    index: int
    seed: int


@dataclass(frozen=True)
class Ingested:
    """One picture as it will be stored, its row, and the rows of its instances."""

    file: str
    encoded: bytes
    image: Row
    given: list[Row]


def run(*, pictures: Path, images: Path, given: Path, ledger: Path, params: Params) -> dict[str, int]:
    """From a source to pictures, images and given: a folder each, with a part for train and one for val."""
    splits = {"train": {"mixed": params.num_train}, "val": params.val_groups}
    counts: dict[str, int] = {}
    with (
        _ordered_map(params.num_workers) as ordered_map,
        atomic.folder(pictures) as to_pictures,
        atomic.folder(images) as to_images,
        atomic.folder(given) as to_given,
        atomic.folder(ledger) as to_ledger,
    ):
        for split, groups in splits.items():
            jobs = orders(split, groups, params.seed)
            rows, given_rows = _stored(track(ordered_map(painted, jobs), len(jobs), "pictures"), to_pictures / split)
            counts[f"{split}_pictures"] = tables.write(to_images / f"{split}.parquet", rows, IMAGES)
            counts[f"{split}_instances"] = tables.write(to_given / f"{split}.parquet", given_rows, GIVEN)
            tables.write(to_ledger / f"{split}.parquet", [], LEDGER)  # a scene cannot fail
    return counts


def orders(split: str, groups: dict[str, int], seed: int) -> list[Order]:
    """The scenes of a split; no two splits share a seed."""
    unknown = sorted(set(groups) - set(scenes.GROUPS))
    if unknown:
        raise ValueError(f"ingest: no such group of scenes: {', '.join(unknown)}; there are {', '.join(scenes.GROUPS)}")
    return [
        Order(f"{split}-{group}-{index:06d}", group, index, derive(seed, split))
        for group, count in groups.items()
        for index in range(count)
    ]


def painted(order: Order) -> Ingested:
    """Paint one scene and describe it."""
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
    given = [
        {
            "key": order.key,
            "index": index,
            "category": one.category,
            "box": [float(edge) for edge in one.box],
            "mask": masks.encode(one.mask).counts,
            "colour": one.colour,
            "texture": one.texture,
        }
        for index, one in enumerate(scene.instances)
    ]
    return Ingested(file, encoded, image, given)


def _stored(ingested: Iterable[Ingested], folder: Path) -> tuple[list[Row], list[Row]]:
    """Write the pictures; return the rows of the IMAGES and of the GIVEN table."""
    folder.mkdir()
    rows, given = [], []
    for one in ingested:
        (folder / one.file).write_bytes(one.encoded)
        rows.append(one.image)
        given += one.given
    return rows, given


@contextmanager
def _ordered_map(num_workers: int) -> Iterator[Map]:
    """A `map` over that many processes that keeps the order; the plain one for a single worker."""
    if num_workers < 2:
        yield map
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, jobs: pool.map(function, jobs, chunksize=32)


if __name__ == "__main__":
    stage.main(run)
