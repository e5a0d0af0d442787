"""A very small run of the data stages, and the parameters the tests change one at a time.

Its pictures are of several sizes and most are not square: exchanged axes, or the size of another picture, fail.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep import annotate, caption, ground, ingest, segment, shard, sketch
from data_prep.columns import GIVEN
from instdiff import tables as parquet
from instdiff.layouts import masks
from instdiff.schema import Rle
from instdiff.tables import IMAGES
from instdiff.work import parts, workers
from instdiff.world.arrangements import SIZE

FORMATS = ("category", "box", "mask", "caption", "point", "scribble", "outline")
WORKERS = workers.Workers(executor="here", processes=1, slurm=None, dask=None)
WORK = parts.Work(part_size=2, retry=(), workers=WORKERS)
TWO = WORK.model_copy(update={"workers": WORKERS.model_copy(update={"executor": "processes", "processes": 2})})
INGEST = ingest.Scenes(source="scenes", seed=3, num_train=5, val_groups={"crowded": 1, "small": 1}, work=WORK)
GROUND = ground.Params(backend="given", batch_size=2, detector=None, work=WORK)
SEGMENT = segment.Params(backend="given", weights=None, batch_size=2, max_boxes=2, work=WORK)
CAPTION = caption.Params(
    backend="template", template="a {colour} {texture} {category}", batch_size=3, model=None, work=WORK
)
SKETCH = sketch.Params(seed=3, num_scribble_points=20, num_outline_points=256, point="inside", work=WORK)
ANNOTATE = annotate.Params(required=FORMATS, min_visible_area=0.005, min_box_size=0.01)
SHARD = shard.Params(samples_per_shard=2, megabytes_per_shard=1)
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
    paths = tables(root, split, "images", "given")
    images = parquet.read(paths["images"], IMAGES).to_dict("records")
    frames = {row["key"]: FRAMES[number % len(FRAMES)] for number, row in enumerate(images)}
    for row in images:
        row["height"], row["width"] = frames[row["key"]]
        path = root / "pictures" / split / row["file"]
        stream = io.BytesIO()
        with Image.open(path) as scene:
            picture = Image.new("RGB", (row["width"], row["height"]), (90, 60, 30))
            picture.paste(scene, (row["width"] - SIZE, row["height"] - SIZE))
        picture.save(stream, "png")
        path.unlink()  # a kept part may hold the same file under another name
        path.write_bytes(stream.getvalue())
        row["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    parquet.write(paths["images"], images, IMAGES)
    instances = parquet.read(paths["given"], GIVEN).to_dict("records")
    for row in instances:
        height, width = frames[row["key"]]
        mask = np.zeros((height, width), dtype=bool)
        mask[height - SIZE :, width - SIZE :] = masks.decode(Rle(size=(SIZE, SIZE), counts=row["mask"]))
        row["mask"], row["box"] = masks.encode(mask).counts, list(masks.box_of(mask))
    parquet.write(paths["given"], instances, GIVEN)


def sizes(root: Path, split: str = "train") -> dict[str, tuple[int, int]]:
    """Height and width of each picture, by its key."""
    rows = parquet.read(root / "images" / f"{split}.parquet", IMAGES).to_dict("records")
    return {row["key"]: (row["height"], row["width"]) for row in rows}


def sources(root: Path, split: str = "train") -> dict[str, Path]:
    """The arguments that ground, segment and caption share."""
    return {"pictures": root / "pictures" / split, **tables(root, split, "images", "given")}


def tables(root: Path, split: str, *names: str) -> dict[str, Path]:
    return {name: root / name / f"{split}.parquet" for name in names}


def ledger(root: Path, name: str, split: str = "train") -> Path:
    return root / "ledger" / f"{name}-{split}.parquet"


def prepared(root: Path, split: str = "train", *, framed: bool = True, **params: Any) -> dict[str, Mapping[str, float]]:
    """Every stage from ingest to annotate, with other parameters for some of them; what each counted."""
    how = {"ground": GROUND, "segment": SEGMENT, "caption": CAPTION, "sketch": SKETCH, "annotate": ANNOTATE} | params
    counts = {"ingest": ingested(root, params.get("ingest", INGEST), framed=framed)}
    given, found = sources(root, split), tables(root, split, "instances")
    counts["ground"] = ground.run(**given, **found, ledger=ledger(root, "ground", split), params=how["ground"])
    to = {**given, **found, **tables(root, split, "masks"), "ledger": ledger(root, "segment", split)}
    counts["segment"] = segment.run(**to, params=how["segment"])
    to = {**given, **found, **tables(root, split, "captions"), "ledger": ledger(root, "caption", split)}
    counts["caption"] = caption.run(**to, params=how["caption"])
    counts["sketch"] = sketch.run(**tables(root, split, "images", "masks", "strokes"), params=how["sketch"])
    counts["annotate"] = annotated(root, split, how["annotate"])
    return counts


def annotated(root: Path, split: str = "train", params: annotate.Params = ANNOTATE) -> Mapping[str, float]:
    names = ("images", "given", "instances", "masks", "captions", "strokes", "annotated")
    return annotate.run(**tables(root, split, *names), ledger=ledger(root, "annotate", split), params=params)


def sharded(root: Path, params: shard.Params = SHARD) -> Mapping[str, float]:
    to = {"pictures": root / "pictures" / "train", **tables(root, "train", "images", "annotated")}
    return shard.run(**to, shards=root / "shards", params=params)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
