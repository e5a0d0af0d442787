"""Sources of pictures with something wrong in them: for the tests, and for the bench that tries more."""

import base64
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from data_world import WORK
from data_world import pictures as pictures_in
from PIL import Image

from data_prep import ingest
from data_prep.columns import GIVEN_CAPTIONED
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import IMAGES
from instdiff.work.ledger import LEDGER

LIMITS = {"min_side": 4, "max_pixels": 100_000}
SIZE = (32, 24)  # width, height
KINDS = ("json", "csv", "parquet", "folder", "tar", "coco", "labelled")
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "\0", "\ud800"),
    *([], {}, [[]], [None], {"a": 1}),
    *("/", ".", "../..", "a" * 5000, "nowhere://x", "gcs://a/b", "s3:", "::", "zip://x::y", "file://", "~", "é/ü.png"),
)


def pictures(draw: random.Random) -> list[bytes]:
    """Three pictures, of formats that sources hold."""
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    return [_encoded(pixels, draw.choice(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])) for _ in range(3)]


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def written(root: Path, kind: str, draw: random.Random) -> dict[str, Any]:
    """A good source of that kind with three pictures; the parameters that read it."""
    root.mkdir(parents=True)
    files = pictures(draw)
    if kind in ("json", "csv", "parquet", "folder", "coco"):
        for number, content in enumerate(files):
            (root / f"{number}.png").write_bytes(content)
    records = [{"image": f"{number}.png", "caption": f"picture {number}"} for number in range(3)]
    path = root / f"list.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(records))
        case "csv":
            pd.DataFrame(records).to_csv(path, index=False)
        case "parquet":
            pd.DataFrame(records).to_parquet(path)
        case "folder":
            path = root
            for number in range(3):
                (root / f"{number}.txt").write_text(f"picture {number}")
        case "tar":
            _tar(path, files)
        case "coco":
            return {"source": "coco", "train": _coco(root)}
        case "labelled":
            _labels(root, files)
            return {"source": "labelled", "train": str(root)}
    return {"source": "captioned", "train": {"path": str(path), "root": None}}


def _tar(path: Path, files: list[bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, content in enumerate(files):
            for kind, member in (("png", content), ("json", b'{"caption": "a"}'), ("txt", b"picture")):
                header = tarfile.TarInfo(f"{number:09d}.{kind}")
                header.size = len(member)
                tar.addfile(header, io.BytesIO(member))


MASK = np.zeros(SIZE[::-1], bool)
MASK[2:10, 4:12] = True
RUNS = {"size": list(MASK.shape), "counts": masks.encode(MASK).counts}
FORMS = ([[4.0, 2.0, 12.0, 2.0, 12.0, 10.0]], RUNS, {"size": list(MASK.shape), "counts": [48, 24, 696]})


def _coco(root: Path) -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in range(3)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 2, 8, 8], "segmentation": form, "iscrowd": 0}
        for n, form in enumerate(FORMS)
    ]
    page = {"images": images, "categories": [{"id": 1, "name": "kite"}], "annotations": annotations}
    captions = {"annotations": [{"id": n, "image_id": n, "caption": "sky"} for n in range(3)]}
    (root / "instances.json").write_text(json.dumps(page))
    (root / "captions.json").write_text(json.dumps(captions))
    return {"pictures": str(root), **{name: f"{root}/{name}.json" for name in ("instances", "captions")}}


def _labels(root: Path, files: list[bytes]) -> None:
    for number, content in enumerate(files):
        anno = {"bbox": [4, 2, 8, 8], "mask": RUNS, "category_name": "kite", "caption": "a kite"}
        page = {"image": base64.b64encode(content).decode(), "caption": "sky", "annos": [anno, anno]}
        (root / f"label_{number}.json").write_text(json.dumps(page))


def spoilt(root: Path, draw: random.Random) -> None:
    """Change one of the files: its bytes, or what its JSON says."""
    path = draw.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    content = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.8:
        page = json.loads(content)
        for _ in range(draw.randint(1, 2)):
            _inside(page, draw)
        path.write_text(json.dumps(page))
    elif draw.random() < 0.05:
        path.unlink()
    else:
        path.write_bytes(draw.choice(BYTES)(content, draw))


def _inside(page: Any, draw: random.Random) -> None:
    """Replace, remove or repeat a value somewhere in it."""
    while isinstance(page, list | dict) and page:
        place: Any = draw.choice(list(page) if isinstance(page, dict) else range(len(page)))
        below = page[place]
        if isinstance(below, list | dict) and below and draw.random() < 0.75:
            page = below
            continue
        match draw.randrange(4):
            case 0:
                del page[place]
            case 1 if isinstance(page, list):
                page.insert(place, page[place])
            case _:
                page[place] = draw.choice(ODD)
        return


def _flipped(content: bytes, draw: random.Random) -> bytes:
    harmed = bytearray(content or b"?")
    for _ in range(draw.randint(1, 12)):
        harmed[draw.randrange(len(harmed))] = draw.randrange(256)
    return bytes(harmed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    start, stop = sorted(draw.randint(0, len(content)) for _ in range(2))
    return content[:start] + content[stop:]


def _ended(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randint(0, len(content))]


def _doubled(content: bytes, draw: random.Random) -> bytes:
    start, stop = sorted(draw.randint(0, len(content)) for _ in range(2))
    return content[:stop] + content[start:stop] + content[stop:]


def _another(content: bytes, draw: random.Random) -> bytes:
    return draw.choice([b"", b"\0" * 600, b"<html>", draw.randbytes(700), b"[" * 5000, *pictures(draw)])


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flipped, _cut, _ended, _doubled, _another)


def outcome(root: Path, to: Path, source: dict[str, Any]) -> str:
    """Ingest it: "whole", "with refusals" or "refused"; AssertionError when it is none of these as it should be."""
    whole = {"val": None, "val_share": 0.0, "limits": LIMITS, "work": WORK.model_dump(), **source}
    folders = {name: to / name for name in ("pictures", "images", "given", "ledger")}
    try:
        counts = ingest.run(**folders, params=ingest.Params.model_validate(whole))
    except ValueError as error:
        assert str(root) in str(error) or "the source" in str(error), error
        assert not any(folder.exists() for folder in folders.values())
        return "refused"
    rows = tables.read(to / "images" / "train", IMAGES)
    stored = pictures_in(to)
    for row in rows.to_dict("records"):
        with Image.open(io.BytesIO(stored[row["key"]].encoded())) as image:
            image.load()
            assert image.size == (row["width"], row["height"])
    lost = tables.read(to / "ledger" / "train", LEDGER)
    source_rows = tables.read(to / "given" / "train", GIVEN_CAPTIONED)
    assert set(source_rows["key"]) <= set(rows["key"])
    assert counts["train_pictures"] == len(rows) == len(stored)
    return "with refusals" if len(lost) else "whole"


def tried(folder: Path, number: int) -> str:
    """Source number so-and-so, spoilt; what became of it."""
    draw = random.Random(number)
    root = folder / f"{number}"
    source = written(root, KINDS[number % len(KINDS)], draw)
    spoilt(root, draw)
    return outcome(root, folder / f"{number}-out", source)
