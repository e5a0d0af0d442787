"""Shards of which no sample has an instance teach nothing: training refuses them before it loads anything."""

from pathlib import Path

import pyarrow as pa
import pytest

from instdiff.data import index, source
from instdiff.data.from_shards import ShardSet, Store
from instdiff.data.index import INDEX, INDEX_FILE


@pytest.mark.parametrize(("instances", "is_refused"), [([0, 0], True), ([0, 1], False), ([], True)])
def test_shards_without_an_instance_are_refused(tmp_path: Path, instances: list[int], is_refused: bool) -> None:
    rows = [
        {"shard": "00000.tar", "key": str(number), "num_instances": count, "offset": 0, "size": 1, "sha256": bytes(32)}
        for number, count in enumerate(instances)
    ]
    index.write(tmp_path / INDEX_FILE, [pa.Table.from_pylist(rows, INDEX)])
    where = [ShardSet(Store(tmp_path), Store(tmp_path))]
    if not is_refused:
        source.refuse_without_instances(where)
        return
    with pytest.raises(ValueError, match=rf"none of its {len(instances)} samples has an instance to learn from"):
        source.refuse_without_instances(where)
