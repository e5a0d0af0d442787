"""The index: what was written is found by number, shard by shard, and a damaged one is named before it is used."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instdiff.data import index
from instdiff.data.index import INDEX, INDEX_FILE, Index


def table(sizes: list[int]) -> pa.Table:
    rows = [
        {
            "shard": f"{shard:05d}.tar",
            "key": f"{shard}-{place}",
            "num_instances": place,
            "offset": 512 * place,
            "size": 512,
            "sha256": bytes([place % 256] * 32),
        }
        for shard, size in enumerate(sizes)
        for place in range(size)
    ]
    return pa.Table.from_pylist(rows, INDEX)


@given(st.lists(st.integers(1, 5), max_size=6), st.integers(0, 6))
def test_each_row_is_found_by_its_number_however_the_parts_were_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cut: int
) -> None:
    path = tmp_path_factory.mktemp("index") / INDEX_FILE
    whole = table(sizes)
    first = sum(sizes[:cut])
    index.write(path, [whole.slice(0, first), whole.slice(first)])
    there = Index(path)
    assert there.sizes == tuple(sizes)
    assert there.shards == tuple(f"{shard:05d}.tar" for shard in range(len(sizes)))
    assert [there.row(number) for number in range(len(there))] == whole.to_pylist()
    assert [row for shard in range(len(sizes)) for row in there.rows(shard)] == whole.to_pylist()
    assert there.table().equals(whole)


def test_another_process_maps_the_file_and_threads_read_the_same(tmp_path: Path) -> None:
    index.write(tmp_path / INDEX_FILE, [table([100] * 100)])
    there = Index(tmp_path / INDEX_FILE)
    sent = pickle.dumps(there)
    assert len(sent) < 500
    again = pickle.loads(sent)
    numbers = list(range(0, 10_000, 7)) * 3
    with ThreadPoolExecutor(8) as threads:
        rows = list(threads.map(again.row, numbers))
    assert rows == [there.row(number) for number in numbers]


def test_who_has_opened_an_index_reads_it_to_the_end_when_another_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / INDEX_FILE
    index.write(path, [table([100] * 100)])
    before = Index(path)
    index.write(path, [table([1])])
    assert before.row(9_999)["key"] == "99-99"
    assert len(Index(path)) == 1


def test_a_sample_takes_a_hundred_bytes_of_the_file_or_less(tmp_path: Path) -> None:
    index.write(tmp_path / INDEX_FILE, [table([4000] * 10)])
    assert (tmp_path / INDEX_FILE).stat().st_size <= 40_000 * 100


def test_what_is_no_index_is_named(tmp_path: Path) -> None:
    path = tmp_path / INDEX_FILE
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"index\.arrow: not a readable index"):
        Index(path)
    other = pa.table({"shard": ["a"]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(ValueError, match=r"index\.arrow: columns are \['shard'\], expected \['shard', 'key'"):
        Index(path)
    with pytest.raises(FileNotFoundError, match=INDEX_FILE):
        Index(tmp_path / "none" / INDEX_FILE)


@given(st.integers(0, 10_000), st.integers(0, 255))
@example(3080, 0)  # a length within the file
def test_a_changed_byte_is_named_or_changes_a_value_and_never_ends_the_process(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("index") / INDEX_FILE
    index.write(path, [table([30, 30])])
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        there = Index(path)
        rows = [there.row(number) for number in range(len(there))]
    except ValueError as error:
        assert INDEX_FILE in str(error)
    else:
        assert len(rows) == 60
