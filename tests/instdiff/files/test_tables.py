from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns import CAPTIONS, MASKS
from instdiff.files import tables
from instdiff.layouts.columns import ANNOTATED

ROWS = [
    {"key": "b", "index": 0, "mask": "121", "score": 0.5},
    {"key": "a", "index": 1, "mask": None, "score": None},
    {"key": "b", "index": 1, "mask": "4", "score": 1.0},
]


def test_rows_keep_their_order_and_their_nulls(tmp_path: Path) -> None:
    path = tmp_path / "masks.parquet"
    assert tables.write(path, ROWS, MASKS) == 3
    read = tables.read(path, MASKS)
    assert read["key"].tolist() == ["b", "a", "b"]
    assert read["mask"].tolist() == ["121", None, "4"]
    assert {key: [row["index"] for row in rows] for key, rows in tables.rows_of(read).items()} == {
        "b": [0, 1],
        "a": [1],
    }


def test_a_table_is_the_same_bytes_from_rows_and_from_a_frame(tmp_path: Path) -> None:
    tables.write(tmp_path / "rows.parquet", ROWS, MASKS)
    tables.write(tmp_path / "frame.parquet", tables.read(tmp_path / "rows.parquet", MASKS), MASKS)
    assert (tmp_path / "rows.parquet").read_bytes() == (tmp_path / "frame.parquet").read_bytes()


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    assert tables.write(tmp_path / "none.parquet", [], ANNOTATED) == 0
    assert list(tables.read(tmp_path / "none.parquet", ANNOTATED).columns) == ANNOTATED.names


def test_a_missing_column_is_named_with_its_file(tmp_path: Path) -> None:
    tables.write(tmp_path / "masks.parquet", ROWS, MASKS)
    with pytest.raises(ValueError, match=r"masks\.parquet: column 'caption' is missing"):
        tables.read(tmp_path / "masks.parquet", CAPTIONS)


def test_a_column_of_another_type_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "masks.parquet"
    pq.write_table(pa.table({"key": ["b"], "index": [0.0], "mask": ["4"], "score": [1.0]}), path)
    with pytest.raises(ValueError, match=r"masks\.parquet: column 'index' is double, expected int32"):
        tables.read(path, MASKS)


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off"])
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.parquet: not a readable Parquet table"):
        tables.read(tmp_path / "broken.parquet", MASKS)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "masks.parquet"
    tables.write(path, ROWS, MASKS)
    before = path.read_bytes()
    with pytest.raises(pa.ArrowInvalid):
        tables.write(path, [{**ROWS[0], "index": "one"}], MASKS)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("masks.parquet", before)]


def test_columns_are_never_null_and_further_ones_may_be() -> None:
    declared = tables.columns(key=pa.string(), index=pa.int32())
    further = tables.with_columns(declared, score=pa.float64())
    assert [(field.name, field.nullable) for field in further] == [("key", False), ("index", False), ("score", True)]
    assert further.types == [pa.string(), pa.int32(), pa.float64()]


def test_a_folder_of_parts_is_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, rows in (("00001", ROWS[2:]), ("00000", ROWS[:2])):
        tables.write(tmp_path / f"{name}.parquet", rows, MASKS)
    (tmp_path / "notes.txt").write_text("none")
    assert tables.read(tmp_path, MASKS)["mask"].tolist() == ["121", None, "4"]
    (tmp_path / "empty").mkdir()
    assert tables.read(tmp_path / "empty", MASKS).columns.tolist() == MASKS.names
    whole = pa.Table.from_pylist(ROWS, MASKS)
    wide = whole.set_column(1, "index", whole["index"].cast(pa.int64()))
    assert tables.write(tmp_path / "cast.parquet", wide, MASKS) == 3
    assert tables.arrow(tmp_path / "cast.parquet", MASKS).equals(whole)


def test_a_table_is_a_folder_or_a_file_of_its_suffix(tmp_path: Path) -> None:
    names = {"some": True, "some/a.parquet": True, "some/a.json": False, "none": False}
    (tmp_path / "some").mkdir()
    assert {name: tables.is_table(tmp_path / name) for name in names} == names
