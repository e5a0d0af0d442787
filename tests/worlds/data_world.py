"""A very small run of the data stages, and the parameters the tests change one at a time.

Its pictures are of several sizes and most are not square: exchanged axes, or the size of another picture, fail.
"""

import hashlib
import io
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from data_prep import annotate, caption, ground, ingest, segment, shard, sketch
from data_prep.columns import GIVEN, PICTURES
from data_prep.sources import packing
from instdiff.files import tables as parquet
from instdiff.layouts import masks
from instdiff.layouts.columns import IMAGES
from instdiff.networks.device import PLAIN
from instdiff.schema import Rle
from instdiff.work import parts, workers
from instdiff.work.pictures import Picture, pictures_of_pack
from instdiff.world.arrangements import SIZE

FORMATS = ("category", "box", "mask", "caption", "point", "scribble", "outline")
WORKERS = workers.Workers(executor="here", processes=1, slurm=None, dask=None)
WORK = parts.Work(part_size=2, retry=(), workers=WORKERS)
EXECUTION = parts.Execution(retry=(), workers=WORKERS)
TWO = WORK.model_copy(update={"workers": WORKERS.model_copy(update={"executor": "processes", "processes": 2})})
INGEST = ingest.Scenes(source="scenes", seed=3, num_train=5, val_groups={"crowded": 1, "small": 1}, work=WORK)
GROUND = ground.Params(backend="given", batch_size=2, detector=None, work=EXECUTION)
SEGMENT = segment.Params(backend="given", weights=None, batch_size=2, max_boxes=2, device=PLAIN, work=EXECUTION)
CAPTION = caption.Params(
    backend="template", template="a {colour} {texture} {category}", batch_size=3, model=None, work=EXECUTION
)
SKETCH = sketch.Params(seed=3, num_scribble_points=20, num_outline_points=256, point="inside", work=EXECUTION)
ANNOTATE = annotate.Params(required=FORMATS, min_visible_area=0.005, min_box_size=0.01, work=EXECUTION)
SHARD = shard.Params(samples_per_shard=2, megabytes_per_shard=1, work=EXECUTION)
FRAMES = ((64, 96), (80, 64), (64, 64))  # height, width of the pictures, in turn; scenes are SIZE x SIZE


def ingested(root: Path, params: ingest.Scenes = INGEST, *, framed: bool = True) -> Mapping[str, float]:
    folders = {name: root / name for name in ("pictures", "images", "given")}
    counts = ingest.run(**folders, ledger=root / "ledger" / "ingest", params=ingest.Params(params))
    if framed:
        for split in ("train", "val"):
            frame(root, split)
    return counts


def frame(root: Path, split: str) -> None:
    """Put each scene into the lower right corner of a picture of FRAMES, and its instances with it."""
    images = read(root, "images", PICTURES, split)
    frames = {key: FRAMES[number % len(FRAMES)] for number, key in enumerate(images["key"])}
    framed = {key: _framed(picture(root, key, split), size) for key, size in frames.items()}
    images["height"], images["width"] = ([frames[key][side] for key in images["key"]] for side in (0, 1))
    images["sha256"] = [hashlib.sha256(framed[key]).hexdigest() for key in images["key"]]
    write(root, "images", images, PICTURES, split)
    put(root, framed, split)
    rows = read(root, "given", GIVEN, split)
    places = [_mask(row, frames[row["key"]]) for row in rows.to_dict("records")]
    rows["mask"], rows["box"] = (
        [masks.encode(mask).counts for mask in places],
        [list(masks.box_of(mask)) for mask in places],
    )
    write(root, "given", rows, GIVEN, split)


def _framed(scene: bytes, size: tuple[int, int]) -> bytes:
    height, width = size
    whole, stream = Image.new("RGB", (width, height), (90, 60, 30)), io.BytesIO()
    with Image.open(io.BytesIO(scene)) as part:
        whole.paste(part, (width - SIZE, height - SIZE))
    whole.save(stream, "png")
    return stream.getvalue()


def _mask(row: dict[Any, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=bool)
    mask[size[0] - SIZE :, size[1] - SIZE :] = masks.decode(Rle(size=(SIZE, SIZE), counts=row["mask"]))
    return mask


def read(root: Path, name: str, schema: pa.Schema, split: str = "train") -> pd.DataFrame:
    """All packs of a table."""
    return parquet.read(root / name / split, schema)


def write(
    root: Path, name: str, table: pd.DataFrame, schema: pa.Schema, split: str = "train", to: Path | None = None
) -> Path:
    """Put a table's rows where the packs of their pictures are; rows of no picture into the first."""
    folder = to or root / name / split
    packs = {path.name: set(parquet.read(path, IMAGES)["key"]) for path in parts_of(root, "images", split)}
    all_keys = set().union(*packs.values())
    for number, (pack, keys) in enumerate(packs.items()):
        own = table["key"].isin(keys) | (~table["key"].isin(all_keys) if number == 0 else False)
        parquet.write(folder / pack, table[own], schema)
    return folder


def parts_of(root: Path, name: str, split: str = "train") -> list[Path]:
    """The parts of a table, in order."""
    return sorted((root / name / split).glob("*.parquet"))


def pictures(root: Path, split: str = "train") -> dict[str, Picture]:
    """Every picture of a split by its key."""
    by_key = {}
    for path in parts_of(root, "images", split):
        tar = root / "pictures" / split / f"{path.stem}.tar"
        by_key |= {entry.key: entry for entry in pictures_of_pack(tar, parquet.read(path, PICTURES))}
    return by_key


def picture(root: Path, key: str, split: str = "train") -> bytes:
    """The file of a picture."""
    return pictures(root, split)[key].encoded()


def put(root: Path, files: Mapping[str, bytes], split: str = "train") -> None:
    """Exchange the files of some pictures; what the table says of their content stays as it is."""
    for path in parts_of(root, "images", split):
        table, tar = parquet.read(path, PICTURES), root / "pictures" / split / f"{path.stem}.tar"
        bytes_of_key = {entry.key: files.get(entry.key) or entry.encoded() for entry in pictures_of_pack(tar, table)}
        if split != "train":
            for key, file in zip(table["key"], table["file"], strict=True):
                (tar.parent / file).unlink()  # a kept part may hold the same file under another name
                (tar.parent / file).write_bytes(bytes_of_key[key])
            continue
        tar.unlink()
        with tar.open("wb") as stream, closing(packing.Tar(stream)) as to:
            table["offset"] = [
                to.add(file, bytes_of_key[key]) for key, file in zip(table["key"], table["file"], strict=True)
            ]
        table["length"] = [len(bytes_of_key[key]) for key in table["key"]]
        parquet.write(path, table, PICTURES)


def mask_iou(first_HW: NDArray[np.bool_], second_HW: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one size."""
    return float((first_HW & second_HW).sum() / (first_HW | second_HW).sum())


def sizes(root: Path, split: str = "train") -> dict[str, tuple[int, int]]:
    """Height and width of each picture, by its key."""
    rows = read(root, "images", IMAGES, split).to_dict("records")
    return {row["key"]: (row["height"], row["width"]) for row in rows}


def sources(root: Path, split: str = "train") -> dict[str, Path]:
    """The arguments that ground, segment and caption share."""
    return {"pictures": root / "pictures" / split, **tables(root, split, "images", "given")}


def tables(root: Path, split: str, *names: str) -> dict[str, Path]:
    return {name: root / name / split for name in names}


def ledger(root: Path, name: str, split: str = "train") -> Path:
    return root / "ledger" / f"{name}-{split}"


def prepared(root: Path, split: str = "train", *, framed: bool = True, **params: Any) -> dict[str, Mapping[str, float]]:
    """Every stage from ingest to annotate, with other parameters for some of them; what each counted."""
    how = {"ground": GROUND, "segment": SEGMENT, "caption": CAPTION, "sketch": SKETCH, "annotate": ANNOTATE} | params
    counts = {"ingest": ingested(root, params.get("ingest", INGEST), framed=framed)}
    source_paths, instance_paths = sources(root, split), tables(root, split, "instances")
    counts["ground"] = ground.run(
        **source_paths, **instance_paths, ledger=ledger(root, "ground", split), params=how["ground"]
    )
    to = {**source_paths, **instance_paths, **tables(root, split, "masks"), "ledger": ledger(root, "segment", split)}
    counts["segment"] = segment.run(**to, params=how["segment"])
    to = {**source_paths, **instance_paths, **tables(root, split, "captions"), "ledger": ledger(root, "caption", split)}
    counts["caption"] = caption.run(**to, params=how["caption"])
    to = {**tables(root, split, "images", "masks", "strokes"), "ledger": ledger(root, "sketch", split)}
    counts["sketch"] = sketch.run(**to, params=how["sketch"])
    counts["annotate"] = annotated(root, split, how["annotate"])
    return counts


def annotated(root: Path, split: str = "train", params: annotate.Params = ANNOTATE) -> Mapping[str, float]:
    names = ("images", "given", "instances", "masks", "captions", "strokes", "annotated")
    return annotate.run(**tables(root, split, *names), ledger=ledger(root, "annotate", split), params=params)


def sharded(root: Path, params: shard.Params = SHARD) -> Mapping[str, float]:
    to = {"pictures": root / "pictures" / "train", **tables(root, "train", "images", "annotated")}
    return shard.run(**to, shards=root / "shards", ledger=root / "ledger" / "shard", params=params)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
