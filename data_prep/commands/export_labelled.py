"""instdiff export-labelled: shards as the reference's own training files, so that its trainer can read our data.

One label_<key>.json a picture and a train.txt that lists them. What the reference samples anew in every epoch
(outlines) is left to it; our scribbles are handed over where they have the 20 points that it takes.
"""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from instdiff.data.index import INDEX_FILE, Index
from instdiff.data.shards import Sample, read
from instdiff.files import atomic
from instdiff.layouts import geometry
from instdiff.layouts.formats import RELEASED
from instdiff.networks.clip import load_text
from instdiff.options import Parser
from instdiff.progress import track
from instdiff.schema import Box, Instance, Rle

Features = Callable[[Sequence[str]], Tensor]  # texts -> (texts, D)


def main(arguments: Sequence[str]) -> None:
    """Write the files of every sample."""
    options = Parser(prog="instdiff export-labelled", description=__doc__)
    options.add_argument("shards", type=Path, help="what the stage shard wrote")
    options.add_argument("text", type=Path, help="a CLIP text encoder: the reference's trainer needs that of SD 1.5")
    options.add_argument("folder", type=Path, help="where the files go; it must not exist")
    args = options.parse_args(arguments)
    if args.folder.exists():
        raise ValueError(f"{args.folder}: exists already")
    print(f"{args.folder}: {export(args.shards, load_text(args.text).pooled, args.folder)} pictures")


def export(shards: Path, features: Features, folder: Path) -> int:
    """Write all or nothing; return how many."""
    names = []
    with atomic.folder(folder) as to:
        for sample in track(read(shards), len(Index(shards / INDEX_FILE)), "pictures"):
            names.append(f"label_{sample.key}.json")
            (to / names[-1]).write_text(json.dumps(label(sample, features)), encoding="utf-8")
        (to / "train.txt").write_text("".join(f"{folder.resolve() / name}\n" for name in names))
    return len(names)


def label(sample: Sample, features: Features) -> dict[str, Any]:
    """The content of one file. Instances without box and mask cannot be told in it and are left out."""
    whole = [instance for instance in sample.layout.instances if instance.box is not None and instance.mask is not None]
    texts = [*(_category(instance) for instance in whole), *(instance.phrase for instance in whole)]
    encoded = [_encoded(feature) for feature in features(texts)] if texts else []
    return {
        "image": base64.b64encode(sample.picture).decode("ascii"),
        "caption": sample.layout.prompt,
        "file_name": f"{sample.key}.{sample.kind}",
        "is_det": 0,
        "dataset_name": "instdiff",
        "data_id": 1,
        "annos": [
            _anno(number, instance, encoded[number], encoded[len(whole) + number])
            for number, instance in enumerate(whole)
        ],
    }


def _category(instance: Instance) -> str:
    return instance.category or instance.phrase


def _anno(number: int, instance: Instance, category_feature: str, phrase_feature: str) -> dict[str, Any]:
    assert instance.box is not None
    assert instance.mask is not None
    x, y, width, height = bbox(instance.box, instance.mask)
    anno: dict[str, Any] = {
        "id": number,
        "isfake": 0,
        "isreflected": 0,
        "bbox": [x, y, width, height],
        "mask_value": number + 1,
        "mask": {"size": list(instance.mask.size), "counts": instance.mask.counts},
        "pred_score": 1.0,
        "category_id": 0,
        "data_id": 0,
        "category_name": _category(instance),
        "text_embedding_before": category_feature,
        "caption": instance.phrase,
        "blip_clip_embeddings": phrase_feature,
        "is_stuff": 0,
        "is_thing": 1,
        "area": width * height,
    }
    if instance.scribble is not None and len(instance.scribble) == RELEASED.num_scribble_points:
        anno["scribbles"] = (np.array(instance.scribble) * instance.mask.size[::-1]).ravel().tolist()
    return anno


def bbox(box: Box, mask: Rle) -> tuple[int, int, int, int]:
    """x, y, width, height in whole pixels."""
    height, width = mask.size
    across, down = geometry.columns(box, width), geometry.rows(box, height)
    return across.start, down.start, across.stop - across.start, down.stop - down.start


def _encoded(feature_D: Tensor) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(feature_D.float().cpu().numpy().astype("<f4").tobytes()).decode("ascii")
