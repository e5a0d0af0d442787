"""EliGen's metadata, as DiffSynth-Studio trains on it: a prompt, and for each entity a prompt and a mask picture.

    {"image": "images/a.png", "prompt": "...",
     "eligen_entity_prompts": ["a red car"], "eligen_entity_masks": ["masks/a-0.png"]}

A list in .json, an object a line in .jsonl, or a .csv whose lists are JSON or Python's. Files lie where the list does.
An entity's prompt is phrase and category at once; its box is that of its mask.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep.exchange.placed import MaskPicture, Place, Placed, listed
from data_prep.exchange.sample import Sample, mask_of
from data_prep.sources import urls
from data_prep.sources.records import Record, Wrong
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

FILE = "metadata.jsonl"
_KINDS = (".json", ".jsonl", ".csv")


def read(path: str) -> list[Record]:
    """The pictures of a list, or of the metadata file of a folder."""
    if urls.suffix(path) not in _KINDS:
        there = urls.files(path, "a folder, .json, .jsonl or .csv")
        names = [f"metadata{kind}" for kind in _KINDS]
        listed = [url for url in there if urls.relative(url, path) in names]
        if len(listed) != 1:
            raise ValueError(f"{path}: {len(listed)} of {', '.join(names)} in this folder, one is expected")
        path = listed[0]
    root = path.rpartition("/")[0]
    return [_record(number, row, root, path) for number, row in enumerate(_rows(path))]


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures, masks and metadata.jsonl."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    with (folder / FILE).open("w", encoding="utf-8") as lines:
        for sample in samples:
            image = f"images/{sample.file}"
            (folder / image).write_bytes(sample.encoded)
            prompts, files = [], []
            for index, instance in enumerate(sample.layout.instances):
                mask_HW = mask_of(sample, index, failed)
                if mask_HW is not None:
                    prompts.append(instance.phrase)
                    files.append(f"masks/{sample.key}-{index}.png")
                    Image.fromarray(mask_HW).save(folder / files[-1])
            row = {
                "image": image,
                "prompt": sample.layout.prompt,
                "eligen_entity_prompts": prompts,
                "eligen_entity_masks": files,
            }
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def _rows(path: str) -> list[Any]:
    if urls.suffix(path) == ".csv":
        return list(csv.DictReader(io.StringIO(urls.text(path, "CSV file"), newline="")))
    written = urls.parsed(path)
    return written if isinstance(written, list) else [written]


def _record(number: int, row: Any, root: str, path: str) -> Record:
    where = f"{path}: record {number}"
    try:
        if not isinstance(row, dict):
            raise ValueError("not an object")
        for name in ("image", "prompt"):
            if not isinstance(row.get(name), str) or not row["image"]:
                raise ValueError(f"{name}: text is expected")
        prompts, files = (_texts(row.get(name), name) for name in ("eligen_entity_prompts", "eligen_entity_masks"))
        if len(prompts) != len(files):
            raise ValueError(f"eligen_entity_masks: {len(files)} masks for {len(prompts)} prompts")
    except ValueError as error:
        return Wrong(where, Failure("bad_record", f"{where}: {error}"))
    places = [
        Place(f"{where}: entity {place}", prompt, prompt, None, MaskPicture(urls.join(root, file)))
        for place, (prompt, file) in enumerate(zip(prompts, files, strict=True))
    ]
    return Placed(row["image"], urls.join(root, row["image"]), row["prompt"].strip(), places=tuple(places))


def _texts(value: Any, field: str) -> list[str]:
    """A list of texts; nothing at all is an empty one."""
    texts = [] if value is None or value == "" else listed(value, field)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{field}: a list of texts is expected")
    return [text.strip() for text in texts]
