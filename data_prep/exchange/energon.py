"""What Megatron-Energon looks for beside shards, so that it reads them as they lie, without `energon prepare`.

.nv-meta/dataset.yaml    a crude data set: whoever trains says what becomes of a sample
.nv-meta/split.yaml      every shard is for training
.nv-meta/.info.json      how many samples each shard has
00000.tar.idx            where each sample begins, and where the last one ends: 8 bytes each, the lowest first
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

FOLDER = ".nv-meta"
CRUDE = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}


def write_starts(shards: Path, index: pa.Table) -> dict[str, int]:
    """Write the .idx of each shard in these rows of the index, which hold all of its samples; how many it has."""
    counts = {}
    for name in dict.fromkeys(index["shard"].to_pylist()):
        own = index.filter(pc.equal(index["shard"], name))
        starts = own["offset"].to_numpy()
        end = starts[-1] + own["size"][-1].as_py()
        (shards / f"{name}.idx").write_bytes(np.append(starts, end).astype("<u8").tobytes())
        counts[name] = len(starts)
    return counts


def describe(shards: Path, counts: Mapping[str, int]) -> None:
    """Write the files of .nv-meta; `counts` are the samples of each shard."""
    folder = shards / FOLDER
    folder.mkdir()
    split = {"split_parts": {"train": sorted(counts)}, "exclude": []}
    for name, content in (("dataset.yaml", CRUDE), ("split.yaml", split)):
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    info = json.dumps({"shard_counts": dict(sorted(counts.items()))}, indent=2)
    (folder / ".info.json").write_text(f"{info}\n", encoding="utf-8")
