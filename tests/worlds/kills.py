"""The data stages, killed at random moments and started again; the bench kills more often than the tests."""

import errno
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import data_world as data
import tiny_encoders

from data_prep import annotate, caption, embed, ground, ingest, segment, shard, sketch
from data_prep.columns import GIVEN
from instdiff.layouts import geometry
from instdiff.layouts.columns import IMAGES
from instdiff.layouts.prompts import Prompts
from instdiff.networks.device import PLAIN
from instdiff.schema import Box

NUM_PICTURES, NUM_BEFORE = 12, 9  # of the world, and of the one that it grew from
SCENES, NUMBER = "scenes", "number.txt"
LIMITS = {"min_side": 1, "max_pixels": 10**6}
EMBED = embed.Params(
    batch_size=2,
    precision="float32",
    cached=True,
    prompts=Prompts(listed="never", count_dup=False, add_inst_cap_2_global=False),
    work=data.EXECUTION,
    device=PLAIN,
)
Run = Callable[[Path, Path], object]  # from the world, to a folder


def world(root: Path) -> Path:
    """What every stage reads, with something in it that each of them cannot do; and the same with fewer pictures."""
    _world(before(root), NUM_BEFORE)
    return _world(root, NUM_PICTURES)


def before(root: Path) -> Path:
    """The world that this one grew from."""
    return root.with_name(f"{root.name}-before")


def _world(root: Path, pictures: int) -> Path:
    data.ingested(root, _scenes(pictures))
    (root / NUMBER).write_text(str(pictures))
    rows = data.read(root, "given", GIVEN)
    rows.loc[1, "mask"] = rows.loc[2, "colour"] = None
    data.write(root, "given", rows, GIVEN)
    for name in ("ground", "segment", "caption", "sketch"):
        RUNS[name](root, root)
    data.annotated(root)
    data.sharded(root)
    tiny_encoders.write(root)
    _coco(root)
    return root


def _coco(root: Path) -> None:
    """The scenes as COCO's files, with a crowd, a box that covers nothing, a broken picture and one that is gone."""
    images = data.read(root, "images", IMAGES).to_dict("records")
    numbers, sizes = {row["key"]: number for number, row in enumerate(images)}, data.sizes(root)
    annotations: list[dict[str, object]] = []
    for row in data.read(root, "given", GIVEN).to_dict("records"):
        x0, y0, x1, y1 = geometry.in_pixels(Box(*row["box"]), *sizes[row["key"]])
        mask = None if row["mask"] is None else {"size": list(sizes[row["key"]]), "counts": row["mask"]}
        fields = {"image_id": numbers[row["key"]], "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        annotations.append({"id": len(annotations), **fields, "segmentation": mask, "iscrowd": 0})
    annotations[3]["iscrowd"] = 1
    annotations[5]["bbox"] = [0, 0, 0, 0]
    pictures = [
        {"id": n, "file_name": row["file"], "width": row["width"], "height": row["height"]}
        for n, row in enumerate(images)
    ]
    pictures += [{"id": 100 + n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(2)]
    page = {"images": pictures, "categories": [{"id": 1, "name": "thing"}], "annotations": annotations}
    (root / "instances.json").write_text(json.dumps(page))
    (root / "in").mkdir()
    for picture in data.pictures(root).values():
        (root / "in" / picture.file).write_bytes(picture.encoded())
    (root / "in" / "0.png").write_bytes(b"broken")


def _scenes(pictures: int) -> ingest.Scenes:
    return data.INGEST.model_copy(update={"num_train": pictures})


def _ingest(source: dict[str, object]) -> Run:
    def run(root: Path, to: Path) -> object:
        work = data.WORK.model_dump()
        folders = {name: to / name for name in ("pictures", "images", "given", "ledger")}
        if source["source"] == SCENES:
            return ingest.run(**folders, params=ingest.Params(_scenes(int((root / NUMBER).read_text()))))
        train = {"pictures": f"{root}/in", "instances": f"{root}/instances.json", "captions": None}
        whole = {"train": train, "val": None, "val_share": 0.2, "limits": LIMITS, "work": work}
        return ingest.run(**folders, params=ingest.Params.model_validate({**source, **whole}))

    return run


def _ledger(to: Path, name: str) -> Path:
    return data.ledger(to, name)


def _annotator(module: object, name: str, params: object) -> Run:
    def run(root: Path, to: Path) -> object:
        instance_paths = {} if name == "instances" else data.tables(root, "train", "instances")
        paths = {**data.sources(root), **instance_paths, **data.tables(to, "train", name)}
        return module.run(**paths, ledger=_ledger(to, name), params=params)  # type: ignore[attr-defined]

    return run


def _sketch(root: Path, to: Path) -> object:
    paths = {**data.tables(root, "train", "images", "masks"), **data.tables(to, "train", "strokes")}
    return sketch.run(**paths, ledger=_ledger(to, "sketch"), params=data.SKETCH)


def _annotate(root: Path, to: Path) -> object:
    read = data.tables(root, "train", "images", "given", "instances", "masks", "captions", "strokes")
    paths = {**read, **data.tables(to, "train", "annotated")}
    return annotate.run(**paths, ledger=_ledger(to, "annotate"), params=data.ANNOTATE)


def _shard(root: Path, to: Path) -> object:
    read = {"pictures": root / "pictures" / "train", **data.tables(root, "train", "images", "annotated")}
    return shard.run(**read, shards=to / "shards", ledger=to / "ledger" / "shard", params=data.SHARD)


def _embed(root: Path, to: Path) -> object:
    read = {"shards": root / "shards", "text": root / "text", "vae": root / "vae"}
    return embed.run(**read, embeddings=to / "embeddings", ledger=to / "ledger" / "embed", params=EMBED)


RUNS: dict[str, Run] = {
    "ingest scenes": _ingest({"source": SCENES}),
    "ingest coco": _ingest({"source": "coco"}),
    "ground": _annotator(ground, "instances", data.GROUND),
    "segment": _annotator(segment, "masks", data.SEGMENT),
    "caption": _annotator(caption, "captions", data.CAPTION),
    "sketch": _sketch,
    "annotate": _annotate,
    "shard": _shard,
    "embed": _embed,
}


class Seen(NamedTuple):
    """What became of a stage that was killed again and again."""

    kills: int
    early: int  # starts that ended before their kill
    files: int  # compared, byte for byte, after each run that was left to its end
    additions: int  # kills of runs that added to what was made of the world before


def outlived(name: str, root: Path, scratch: Path, kills: int, draw: random.Random) -> Seen:
    """Kill a stage so often, a few times a run; every run ends in the bytes of one that was left alone.

    Every other run adds to what a run on the world before it had made.
    """
    took = _alone(name, root, scratch / "whole")
    whole = data.contents(scratch / "whole")
    killed = early = additions = number = 0
    while killed < kills:
        to, grows = scratch / str(number), number % 2 == 1
        if grows:
            _alone(name, before(root), to)
        for _ in range(min(draw.randint(1, 4), kills - killed)):
            dead = _killed(name, root, to, draw.uniform(0, took))
            killed, early, additions = killed + dead, early + (not dead), additions + (dead and grows)
        took = min(took, _alone(name, root, to))
        assert data.contents(to) == whole, f"{name}: other bytes after kills"
        number += 1
    return Seen(killed, early, len(whole), additions)


def _alone(name: str, root: Path, to: Path) -> float:
    """Run it to its end in a process of its own; the seconds it took."""
    began = time.perf_counter()
    assert not _killed(name, root, to, None)
    return time.perf_counter() - began


def _killed(name: str, root: Path, to: Path, pause: float | None) -> bool:
    """Start it in a process of its own and kill it after so many seconds; whether it was still running."""
    to.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            RUNS[name](root, to)
            code = 0
        finally:
            os._exit(code)
    if pause is not None:
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"{name} ended with {status}"
    return status == signal.SIGKILL


def full_after(count: int) -> Callable[[Path], None]:
    """A stand-in for `atomic._sync`: so many files are written out, then the disk is full."""
    room = [count]

    def sync(path: Path) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    return sync
