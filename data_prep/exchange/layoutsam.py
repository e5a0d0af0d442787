"""LayoutSAM's tables: Parquet without pictures, a row a picture, whose lists are Python's in strings.

Columns: image_id, file_name, width, height, global_caption, region_captions, detail_region_captions, bbox_list. Boxes
are pixels of width and height: left, top, right, bottom. A region's caption is the category, its detailed caption the
phrase. Pictures lie where the table does; a column `image`, which the benchmark's own tables have, is not read.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.exchange.placed import Place, Placed, edges, listed, numbers
from data_prep.exchange.sample import Sample, box_of, category_of
from data_prep.sources import urls
from data_prep.sources.records import Record, Wrong
from instdiff.files.tables import columns
from instdiff.files.texts import one_line
from instdiff.work.ledger import Ledger
from instdiff.work.outcomes import Failure

FILE = "layouts.parquet"
TABLE = columns(
    image_id=pa.int64(),
    file_name=pa.string(),
    width=pa.int32(),
    height=pa.int32(),
    global_caption=pa.string(),
    region_captions=pa.string(),
    detail_region_captions=pa.string(),
    bbox_list=pa.string(),
)
LISTS = ("region_captions", "detail_region_captions", "bbox_list")
_AT_ONCE = 1000  # rows written together


def read(path: str) -> list[Record]:
    """The rows of a table, or of all .parquet files of a folder."""
    is_file = urls.suffix(path) == ".parquet"
    files = (
        [path]
        if is_file
        else [url for url in urls.files(path, "a folder or .parquet") if urls.suffix(url) == ".parquet"]
    )
    if not files:
        raise ValueError(f"{path}: no .parquet file in this folder")
    return [_record(number, row, url) for url in files for number, row in enumerate(_rows(url))]


def write(folder: Path, samples: Iterable[Sample], failed: Ledger) -> None:
    """Write pictures and one table beside them."""
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(folder / FILE, TABLE, compression="zstd") as table:
        for number, sample in enumerate(samples):
            (folder / sample.file).write_bytes(sample.encoded)
            rows.append({"image_id": number, **_row(sample, failed)})
            if len(rows) == _AT_ONCE:
                table.write_table(pa.Table.from_pylist(rows, schema=TABLE))
                rows.clear()
        table.write_table(pa.Table.from_pylist(rows, schema=TABLE))


def _row(sample: Sample, failed: Ledger) -> dict[str, Any]:
    regions, details, boxes = [], [], []
    for index, instance in enumerate(sample.layout.instances):
        box = box_of(sample, index, failed)
        if box is not None:
            regions.append(category_of(sample, index, failed))
            details.append(instance.phrase)
            sides = (sample.width, sample.height, sample.width, sample.height)
            boxes.append([edge * side for edge, side in zip(box, sides, strict=True)])
    return {
        "file_name": sample.file,
        "width": sample.width,
        "height": sample.height,
        "global_caption": sample.layout.prompt,
        "region_captions": repr(regions),
        "detail_region_captions": repr(details),
        "bbox_list": repr(boxes),
    }


def _rows(url: str) -> list[dict[str, Any]]:
    try:
        table = pq.read_table(io.BytesIO(urls.content(url)), columns=None)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{url}: not a readable Parquet table ({one_line(error)})") from error
    for name in TABLE.names[1:]:
        if name not in table.column_names:
            raise ValueError(f"{url}: column {name!r} is missing; there are {', '.join(table.column_names)[:200]}")
    rows: list[dict[str, Any]] = table.select(TABLE.names[1:]).to_pylist()
    return rows


def _record(number: int, row: dict[str, Any], url: str) -> Record:
    where = f"{url}: row {number}"
    try:
        if not isinstance(row["file_name"], str) or not row["file_name"]:
            raise ValueError("file_name: text is expected")
        height, width = (_side(row[name], name) for name in ("height", "width"))
        regions, details, boxes = (listed(row[name], name) for name in LISTS)
        if not len(regions) == len(details) == len(boxes):
            raise ValueError(f"bbox_list: {len(boxes)} boxes for {len(regions)} and {len(details)} captions")
    except ValueError as error:
        return Wrong(where, Failure("bad_record", f"{where}: {error}"))
    places = []
    for index, (region, detail, box) in enumerate(zip(regions, details, boxes, strict=True)):
        name = f"{where}: region {index}"
        try:
            places.append(_place(name, region, detail, box, (height, width)))
        except ValueError as error:
            places.append(Failure("bad_annotation", f"{name}: {error}"))
    caption = row["global_caption"] if isinstance(row["global_caption"], str) else ""
    picture = urls.join(url.rpartition("/")[0], row["file_name"])
    return Placed(row["file_name"], picture, caption.strip(), places=tuple(places))


def _place(name: str, region: Any, detail: Any, box: Any, size: tuple[int, int]) -> Place | Failure:
    for field, text in (("region_captions", region), ("detail_region_captions", detail)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{field}: text is expected, not {str(text)[:60]!r}")
    height, width = size
    x0, y0, x1, y1 = numbers(box, 4, "bbox_list")
    return Place(
        name,
        region.strip(),
        detail.strip(),
        edges((x0 / width, y0 / height, x1 / width, y1 / height), "bbox_list"),
        None,
    )


def _side(value: Any, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{field}: pixels are expected, not {value!r}")
    return value
