"""FiftyOne's samples.json, in the form that it calls LegacyFiftyOneDataset.

    samples.json    {"samples": [{"filepath": "data/a.png", "caption": "...", "ground_truth": {"_cls": "Detections",
                     "detections": [{"_cls": "Detection", "label": "car", "bounding_box": [0.1, 0.2, 0.4, 0.7]}]}}]}
    data/           the pictures

Boxes are fractions: left, top, width, height. A mask covers its box alone: a Boolean array as numpy saves it, packed by
zlib, in base64. A detection may have attributes of any name; the phrase is its `caption`.
"""

import base64
import io
import json
import tokenize
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.exchange.placed import Edges, Mask, Place, Placed, edges, numbers, picture
from data_prep.exchange.sample import Sample, box_of, category_of
from data_prep.sources import urls
from data_prep.sources.records import Record, Wrong, text_of
from instdiff.layouts import geometry, mask_pictures, masks
from instdiff.schema import Box, Rle
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

FILE, FIELD = "samples.json", "ground_truth"
_LARGEST = 1 << 28  # bytes of a mask, unpacked


@dataclass(frozen=True)
class Cut:
    """A mask that covers its box alone."""

    packed: str  # base64 of zlib of numpy's file
    box: Edges

    def at(self, height: int, width: int) -> Rle:
        """In the whole picture."""
        return _filled(_unpacked(self.packed), self.box, height, width)


@dataclass(frozen=True)
class CutPicture:
    """The same in a picture of its own."""

    url: str
    box: Edges

    def at(self, height: int, width: int) -> Rle:
        """In the whole picture."""
        return _filled(masks.decode(mask_pictures.mask_of(picture(self.url)).mask), self.box, height, width)


def _filled(inside_hw: masks.Mask, box: Edges, height: int, width: int) -> Rle:
    """The array in the pixels that the box touches, resized to them where need be."""
    part = geometry.clamp(Box(*box))
    rows, columns = geometry.rows(part, height), geometry.columns(part, width)
    sides = (columns.stop - columns.start, rows.stop - rows.start)
    mask_HW = np.zeros((height, width), dtype=np.bool_)
    resized = Image.fromarray(inside_hw).resize(sides, Image.Resampling.NEAREST)
    mask_HW[rows, columns] = np.asarray(resized, dtype=np.bool_)
    return masks.encode(mask_HW)


# what zlib and numpy raise of bytes that are no array, or that claim to be another
_NO_ARRAY = (zlib.error, tokenize.TokenError, ValueError, TypeError, OverflowError, MemoryError, RecursionError)


def _unpacked(packed: str) -> masks.Mask:
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), _LARGEST)
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except _NO_ARRAY as error:
        raise ValueError(f"mask: not an array of numpy's, packed by zlib, in base64 ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not array.size:
        raise ValueError(f"mask: an array of rows and columns is expected, not one of shape {np.shape(array)}")
    return np.asarray(array != 0, dtype=np.bool_)


def read(path: str) -> list[Record]:
    """The samples of a file, or of the samples.json of a folder."""
    if urls.suffix(path) != ".json":
        path = urls.join(path, FILE)
    written = urls.parsed(path)
    samples = written.get("samples") if isinstance(written, dict) else None
    if not isinstance(samples, list):
        raise ValueError(f"{path}: samples: a list is expected")
    field = _field(samples, path)
    root = path.rpartition("/")[0]
    return [_record(number, sample, root, path, field) for number, sample in enumerate(samples)]


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures and samples.json."""
    (folder / "data").mkdir()
    with (folder / FILE).open("w", encoding="utf-8") as to:
        to.write('{"samples": [')
        for number, sample in enumerate(samples):
            (folder / "data" / sample.file).write_bytes(sample.encoded)
            to.write(("," if number else "") + "\n" + json.dumps(_sample(sample, failed), ensure_ascii=False))
        to.write("\n]}\n")


def _sample(sample: Sample, failed: Ledger) -> dict[str, Any]:
    detections = []
    for index, instance in enumerate(sample.layout.instances):
        box = box_of(sample, index, failed)
        if box is None:
            continue
        if instance.mask is not None and not _covers(box, masks.decode(instance.mask)):
            failed.add(sample.key, index, Failure("mask_cut", f"{instance.phrase!r}: what of its mask leaves its box"))
        detections.append(
            {
                "_cls": "Detection",
                "label": category_of(sample, index, failed),
                "bounding_box": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
                "caption": instance.phrase,
                **({} if instance.mask is None else {"mask": _packed(box, masks.decode(instance.mask))}),
            }
        )
    return {
        "_media_type": "image",
        "filepath": f"data/{sample.file}",
        "caption": sample.layout.prompt,
        FIELD: {"_cls": "Detections", "detections": detections},
    }


def _covers(box: Box, mask_HW: masks.Mask) -> bool:
    inside = mask_HW[geometry.rows(box, mask_HW.shape[0]), geometry.columns(box, mask_HW.shape[1])]
    return bool(inside.sum() == mask_HW.sum())


def _packed(box: Box, mask_HW: masks.Mask) -> str:
    written = io.BytesIO()
    np.save(written, mask_HW[geometry.rows(box, mask_HW.shape[0]), geometry.columns(box, mask_HW.shape[1])])
    return base64.b64encode(zlib.compress(written.getvalue())).decode("ascii")


def _field(samples: list[Any], path: str) -> str:
    """The field of detections: `ground_truth`, or the only one that there is."""
    fields: set[str] = {
        name
        for sample in samples
        if isinstance(sample, dict)
        for name, value in sample.items()
        if isinstance(value, dict) and value.get("_cls") == "Detections"
    }
    if FIELD in fields or not fields:
        return FIELD
    if len(fields) > 1:
        raise ValueError(f"{path}: several fields hold detections ({', '.join(sorted(fields))}), and none is {FIELD!r}")
    return fields.pop()


def _record(number: int, sample: Any, root: str, path: str, field: str) -> Record:
    where = f"{path}: sample {number}"
    try:
        if not isinstance(sample, dict):
            raise ValueError("not an object")
        file = sample.get("filepath")
        if not isinstance(file, str) or not file:
            raise ValueError("filepath: text is expected")
        value = sample.get(field) or {}
        detections = value.get("detections", []) if isinstance(value, dict) else None
        if not isinstance(detections, list):
            raise ValueError(f"{field}: detections are expected")
    except ValueError as error:
        return Wrong(where, Failure("bad_record", f"{where}: {error}"))
    places: list[Place | Failure] = []
    for index, detection in enumerate(detections):
        name = f"{where}: detection {index}"
        try:
            places.append(_place(detection, name, root))
        except ValueError as error:
            places.append(Failure("bad_annotation", f"{name}: {error}"))
    return Placed(file, urls.join(root, file), text_of(sample.get("caption")) or "", places=tuple(places))


def _place(detection: Any, name: str, root: str) -> Place:
    if not isinstance(detection, dict):
        raise ValueError("not an object")
    x, y, width, height = numbers(detection.get("bounding_box"), 4, "bounding_box")
    box = edges((x, y, x + width, y + height), "bounding_box")
    return Place(
        name, text_of(detection.get("label")), text_of(detection.get("caption")), box, _mask(detection, box, root)
    )


def _mask(detection: Mapping[str, Any], box: Edges, root: str) -> Mask | None:
    """In the file, as text or as MongoDB writes bytes, or a picture of the box alone in a file of its own."""
    mask, file = detection.get("mask"), detection.get("mask_path")
    if isinstance(mask, dict) and isinstance(mask.get("$binary"), dict | str):
        mask = mask["$binary"] if isinstance(mask["$binary"], str) else mask["$binary"].get("base64")
    if mask is not None and not isinstance(mask, str):
        raise ValueError("mask: text is expected")
    if isinstance(mask, str):
        return Cut(mask, box)
    if file is None:
        return None
    if not isinstance(file, str):
        raise ValueError("mask_path: text is expected")
    return CutPicture(urls.join(root, file), box)
