"""A training sample from our shards against the plain form of the reference's loader, in CPU seconds of one run."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from plain_strokes import SIZE, blobs, ours, plainly

from data_prep import shard
from data_prep.commands.export_labelled import label
from instdiff.data import shards
from instdiff.data.index import INDEX, INDEX_FILE, write
from instdiff.layouts import masks, strokes
from instdiff.layouts.masks import Mask
from instdiff.randomness import generator
from instdiff.schema import Instance, Layout, Point, Rle
from instdiff.work.pictures import Picture

NUM_INSTANCES, NUM_SLOTS = 10, 30
COUNT = 24  # pictures
PARAMS = {"num_points": 20, "num_outline": 256}


def photograph(number: int) -> bytes:
    """A JPEG with the detail of a photograph: noise at several scales."""
    draw = np.random.default_rng(number)
    layers = [
        np.asarray(
            Image.fromarray(draw.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((SIZE, SIZE), 3), np.float64
        )
        for n in (4, 16, 64, 256)
    ]
    stream = io.BytesIO()
    Image.fromarray(np.average(layers, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)).save(stream, "jpeg")
    return stream.getvalue()


def labelled(sample: shards.Sample) -> str:
    """The reference's JSON of one picture, as its generator writes it."""
    return json.dumps(label(sample, lambda texts: torch.zeros(len(texts), 768)))


def plain_sample(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As the reference does it: JSON, base64, strokes from every pixel, masks in 30 slots of float32."""
    written = json.loads(path.read_text())
    with Image.open(io.BytesIO(base64.b64decode(written["image"]))) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 127.5 - 1
    segments = np.zeros((NUM_SLOTS, SIZE, SIZE), np.float32)
    for number, anno in enumerate(written["annos"]):
        mask = masks.decode(Rle(size=(SIZE, SIZE), counts=anno["mask"]["counts"]))
        np.frombuffer(base64.b64decode(anno["blip_clip_embeddings"]), "<f4")
        plainly(mask)
        segments[number] = mask
    return pixels, segments


def our_sample(folder: Path, row: dict[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """One seek, one read, one decode; strokes were drawn once, masks stay bits."""
    sample = shards.read_one(folder, row)
    with Image.open(io.BytesIO(sample.picture)) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 127.5 - 1
    segments = np.zeros((NUM_SLOTS, SIZE, SIZE), np.bool_)
    for number, instance in enumerate(sample.layout.instances):
        assert instance.mask is not None
        segments[number] = masks.decode(instance.mask)
    return pixels, segments


def instance(mask: Mask) -> Instance:
    """With strokes, as the stages leave it."""
    by_format = {
        "scribble": strokes.scribble(mask, PARAMS["num_points"], generator(0)),
        "outline": strokes.outline(mask, PARAMS["num_outline"], generator(0)),
    }
    points = {
        name: tuple(map(Point._make, stroke.tolist())) for name, stroke in by_format.items() if stroke is not None
    }
    box = masks.box_of(mask)
    return Instance(phrase="a thing", category="thing", box=box, point=box.centre, mask=masks.encode(mask), **points)


def rate(load: Callable[[int], object], count: int) -> float:
    """Samples a second of CPU time."""
    began = time.process_time()
    for number in range(count):
        load(number)
    return count / (time.process_time() - began)


def test_loading_against_the_plain_form(tmp_path: Path) -> None:
    """Print both rates and the bytes on disk; what is read is held by tests/instdiff/data/test_shards.py."""
    shapes = blobs(NUM_INSTANCES)
    ours(shapes[0])
    part = []
    instances = tuple(map(instance, shapes))
    for number in range(COUNT):
        key, encoded = f"{number}", photograph(number)
        (tmp_path / f"{key}.jpg").write_bytes(encoded)
        layout = Layout(key=key, prompt="things", instances=instances)
        (tmp_path / f"{key}.json").write_text(labelled(shards.Sample(key, encoded, "jpg", layout)))
        digest = hashlib.sha256(encoded).hexdigest()
        part.append((Picture(key, tmp_path / f"{key}.jpg", SIZE, SIZE, ""), layout, digest))
    index = shard.write_shard(tmp_path / "0.tar", part)
    write(tmp_path / INDEX_FILE, [pa.Table.from_pylist(index, INDEX)])
    plain = rate(lambda number: plain_sample(tmp_path / f"{number}.json"), 2)
    fast = rate(lambda number: our_sample(tmp_path, index[number % COUNT]), 40)
    theirs, taken = (sum(path.stat().st_size for path in tmp_path.glob(kind)) / COUNT for kind in ("*.json", "*.tar"))
    picture = sum(path.stat().st_size for path in tmp_path.glob("*.jpg")) / COUNT
    print(
        f"\nloader, 512x512, {NUM_INSTANCES} instances, one process: {plain:.2f} samples/s plainly, {fast:.0f} here: "
        f"{fast / plain:.0f}x; {taken / 1e3:.1f} kB instead of {theirs / 1e3:.1f} ({taken / theirs:.3f}), "
        f"{picture / 1e3:.1f} of them the picture"
    )
