"""Parquet tables with declared columns: what is read has them, what is written is deterministic and complete."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instdiff.files import atomic
from instdiff.files.texts import one_line


def columns(**types: pa.DataType) -> pa.Schema:
    """The schema of these columns, none of which may be null."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def with_columns(schema: pa.Schema, **types: pa.DataType) -> pa.Schema:
    """The schema with these further columns, which may be null."""
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in types.items())])


def write(path: Path, rows: pd.DataFrame | pa.Table | list[dict[str, object]], schema: pa.Schema) -> int:
    """Write rows in the order given, with exactly the columns of `schema`; return how many."""
    if isinstance(rows, pa.Table):
        table = rows.cast(schema)
    elif isinstance(rows, pd.DataFrame):
        table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False).replace_schema_metadata(None)
    else:
        table = pa.Table.from_pylist(rows, schema=schema)
    with atomic.file(path) as part:
        pq.write_table(table, part, compression="zstd")
    return int(table.num_rows)


def read(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read a table, None where a string or list is null: a file, or a folder with a part for each pack, in their order.

    ValueError names the file and the column that is wrong.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    table = pa.concat_tables([schema.empty_table(), *(arrow(file, schema) for file in files)])
    return pd.DataFrame({field.name: _column(table[field.name], field.type) for field in schema})


def is_table(path: Path) -> bool:
    """Whether a path is a table's by its name: a Parquet file, or a folder of parts."""
    return path.is_dir() or path.suffix == ".parquet"


def arrow(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of the schema of one file; ValueError names the file and the column that is wrong."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: not a readable Parquet table ({one_line(error)})") from error
    for field in schema:
        if field.name not in table.column_names:
            raise ValueError(f"{path}: column {field.name!r} is missing")
        if not table.schema.field(field.name).type.equals(field.type):
            raise ValueError(
                f"{path}: column {field.name!r} is {table.schema.field(field.name).type}, expected {field.type}"
            )
    return pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)


def rows_of(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The rows of each picture by its key, in the table's order."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        rows.setdefault(row["key"], []).append({str(name): value for name, value in row.items()})
    return rows


def _column(values: pa.ChunkedArray, kind: pa.DataType) -> pd.Series:
    """The column with None where it is null: pandas would put NaN, which is truthy, among the strings."""
    if pa.types.is_string(kind):
        return pd.Series(values.to_numpy(), dtype=object)
    series: pd.Series = values.to_pandas()
    return series
