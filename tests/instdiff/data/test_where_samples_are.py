"""Where training reads: each value of the recipe's data reaches the stores, and a run belongs to what is there."""

from pathlib import Path
from typing import Any

import pytest

from instdiff.data.from_pictures import Encoders
from instdiff.data.from_shards import ShardSet, Store
from instdiff.data.source import Data, Weighted, fingerprint, identity, stores

PLAIN = Data(
    source="shards",
    workers=0,
    texts_at_once=2,
    url=None,
    copies=None,
    copies_limit=None,
    mixture=None,
)
ENCODERS = Encoders(Path("text"), Path("vae"))
SHARDS, EMBEDDINGS = Path("data/shards"), Path("data/embeddings")


def changed(**values: Any) -> Data:
    return PLAIN.model_copy(update=values)


def test_without_a_url_the_folders_of_the_stage_are_read() -> None:
    own = [ShardSet(Store(SHARDS), Store(EMBEDDINGS))]
    assert stores(SHARDS, EMBEDDINGS, PLAIN) == own
    assert stores(SHARDS, EMBEDDINGS, changed(copies=Path("copies"), copies_limit=9)) == own


@pytest.mark.parametrize("source", ["shards", "pictures"])
@pytest.mark.parametrize("limit", [None, 9])
def test_with_a_url_each_store_has_its_folder_its_url_and_the_limit(source: str, limit: int | None) -> None:
    data = changed(source=source, url="s3://b/run", copies=Path("copies"), copies_limit=limit)
    assert stores(SHARDS, EMBEDDINGS, data) == [
        ShardSet(
            Store(Path("copies/shards"), "s3://b/run/shards", limit),
            Store(Path("copies/embeddings"), "s3://b/run/embeddings", limit),
        )
    ]


def test_the_sets_of_a_mixture_are_read_where_they_are_with_their_weights() -> None:
    mixture = {"web": Weighted(url="s3://b/web", weight=3.0), "coco": Weighted(url="data/coco", weight=0.5)}
    data = changed(mixture=mixture, copies=Path("copies"), copies_limit=9)
    assert stores(SHARDS, EMBEDDINGS, data) == [
        ShardSet(
            Store(Path("copies/web-shards"), "s3://b/web/shards", 9),
            Store(Path("copies/web-embeddings"), "s3://b/web/embeddings", 9),
            3.0,
        ),
        ShardSet(Store(Path("data/coco/shards")), Store(Path("data/coco/embeddings")), 0.5),
    ]
    with pytest.raises(ValueError, match="only one of them"):
        stores(SHARDS, EMBEDDINGS, changed(mixture=mixture, url="s3://b"))
    with pytest.raises(ValueError, match=r"s3://b/web needs train\.data\.source shards or pictures, and a folder"):
        stores(SHARDS, EMBEDDINGS, changed(mixture=mixture))


@pytest.mark.parametrize(
    "values", [{"url": "s3://b"}, {"url": "s3://b", "copies": Path("c"), "source": "memory"}], ids=["nowhere", "memory"]
)
def test_a_url_needs_a_folder_for_copies_and_a_source_that_reads_on_the_way(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"s3://b needs train\.data\.source shards or pictures, and a folder"):
        stores(SHARDS, EMBEDDINGS, changed(**values))


def test_a_run_in_memory_belongs_to_the_bytes_and_a_streamed_one_to_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.tar").write_bytes(b"one")

    def both() -> tuple[str, str]:
        return fingerprint(tmp_path, changed(source="memory")), fingerprint(tmp_path, changed(source="shards"))

    first = both()
    (tmp_path / "sub" / "a.tar").write_bytes(b"two")
    other_bytes = both()
    assert other_bytes[0] != first[0]
    assert other_bytes[1] == first[1] == "sub/a.tar 3"
    (tmp_path / "sub" / "a.tar").write_bytes(b"four")
    assert both()[1] != first[1]
    (tmp_path / "sub" / "a.tar").rename(tmp_path / "sub" / "b.tar")
    assert both()[1] == "sub/b.tar 4"


@pytest.mark.parametrize("name", ["shards", "embeddings"])
def test_a_run_belongs_to_every_folder_of_its_mixture_and_not_to_copies(tmp_path: Path, name: str) -> None:
    for part in ("near/shards", "near/embeddings", "copies/far-shards", "copies/far-embeddings"):
        (tmp_path / part).mkdir(parents=True)
    mixture = {
        "near": Weighted(url=f"{tmp_path}/near", weight=1.0),
        "far": Weighted(url="s3://b", weight=1.0),
    }
    data = changed(mixture=mixture, copies=tmp_path / "copies")
    where = stores(SHARDS, EMBEDDINGS, data)
    before = identity(where, ENCODERS, data)
    (tmp_path / "copies" / f"far-{name}" / "a").write_bytes(b"read")
    assert identity(where, ENCODERS, data) == before
    (tmp_path / "near" / name / "a").write_bytes(b"more")
    assert identity(where, ENCODERS, data) != before
