"""Pictures with a `.bbox` beside each, as SimpleTuner trains on them: a label, a box, and perhaps a mask's file.

    0001.png   0001.txt    the caption
               0001.bbox   [{"label": "a red car", "bbox": [0.1, 0.2, 0.5, 0.9], "mask_path": "masks/0001-0.png"}, ...]

Boxes are fractions: left, top, right, bottom. Read are a JSON list, an object a line, and YOLO's lines. A label is
phrase and category at once, for there is no second text.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep.exchange.placed import Mask, MaskPicture, Place, Placed, edges
from data_prep.exchange.sample import Sample, box_of
from data_prep.exchange.yolo import centred
from data_prep.sources import urls
from data_prep.sources.records import Record, Wrong
from instdiff.files.picture_files import SUFFIXES
from instdiff.files.texts import json_of
from instdiff.layouts import masks
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

SIDECAR, CAPTION = ".bbox", ".txt"


def read(path: str) -> list[Record]:
    """The pictures of a folder; one without a sidecar has no instances."""
    files = urls.files(path, "a folder of pictures with .bbox files")
    stems = {
        kind: {url.rpartition(".")[0]: url for url in files if urls.suffix(url) == kind} for kind in (SIDECAR, CAPTION)
    }
    if not stems[SIDECAR]:
        raise ValueError(f"{path}: no .bbox file in this folder")
    places: dict[str, list[Place | Failure]] = {}
    wrong: dict[str, Failure] = {}
    for stem, url in stems[SIDECAR].items():
        try:
            places[stem] = list(_entities(urls.text(url, ".bbox file"), url))
        except ValueError as error:
            wrong[stem] = Failure("bad_record", str(error))
    mask_files = {place.mask for of_picture in places.values() for place in of_picture if isinstance(place, Place)}
    pictures = [url for url in files if urls.suffix(url) in SUFFIXES and MaskPicture(url) not in mask_files]
    records: list[Record] = []
    for url in pictures:
        stem, name = url.rpartition(".")[0], urls.relative(url, path)
        if stem in wrong:
            records.append(Wrong(name, wrong[stem]))
            continue
        try:
            caption = urls.text(stems[CAPTION][stem], "caption").strip() if stem in stems[CAPTION] else ""
        except ValueError as error:
            records.append(Wrong(name, Failure("bad_text", str(error))))
            continue
        records.append(Placed(name, url, caption, places=tuple(places.get(stem, ()))))
    stems_of_pictures = {url.rpartition(".")[0] for url in pictures}
    for stem, url in stems[SIDECAR].items():
        if stem not in stems_of_pictures:
            failure = Failure("no_picture", f"{url}: no picture of the same name beside it")
            records.append(Wrong(urls.relative(url, path), failure))
    return records


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures, captions and sidecars; masks go to a folder `masks`."""
    (folder / "masks").mkdir()
    for sample in samples:
        (folder / sample.file).write_bytes(sample.encoded)
        (folder / f"{sample.key}{CAPTION}").write_text(sample.layout.prompt, encoding="utf-8")
        entities: list[dict[str, Any]] = []
        for index, instance in enumerate(sample.layout.instances):
            box = box_of(sample, index, failed)
            if box is None:
                continue
            entities.append({"label": instance.phrase, "bbox": list(box)})
            if instance.mask is not None:
                entities[-1]["mask_path"] = f"masks/{sample.key}-{index}.png"
                Image.fromarray(masks.decode(instance.mask)).save(folder / entities[-1]["mask_path"])
        (folder / f"{sample.key}{SIDECAR}").write_text(json.dumps(entities, ensure_ascii=False), encoding="utf-8")


def _entities(text: str, url: str) -> Iterable[Place | Failure]:
    if not text.strip():
        return
    if text.lstrip()[0] not in "[{":
        for number, line in enumerate(filter(None, map(str.strip, text.splitlines()))):
            name = f"{url}: line {number + 1}"
            try:
                label, *values = line.split()
                yield Place(name, label, label, centred(values, "bbox"), None)
            except ValueError as error:
                yield Failure("bad_annotation", f"{name}: {error}")
        return
    written = json_of(text.encode(), url)
    for number, entity in enumerate(written if isinstance(written, list) else [written]):
        name = f"{url}: entity {number}"
        try:
            yield _entity(entity, name, url.rpartition("/")[0])
        except ValueError as error:
            yield Failure("bad_annotation", f"{name}: {error}")


def _entity(entity: Any, name: str, folder: str) -> Place:
    if not isinstance(entity, dict):
        raise ValueError("not an object")
    label, mask = entity.get("label"), entity.get("mask") or entity.get("mask_path")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label: text is expected, not {label!r}")
    if mask is not None and not isinstance(mask, str):
        raise ValueError(f"mask: the name of a file is expected, not {str(mask)[:60]}")
    picture: Mask | None = None if mask is None else MaskPicture(urls.join(folder, mask))
    return Place(name, label.strip(), label.strip(), edges(entity.get("bbox"), "bbox"), picture)
