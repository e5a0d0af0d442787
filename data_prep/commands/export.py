"""instdiff export: write shards, or the annotated pictures of a run, in the format of another tool.

Pictures are copied as they are. What the format has no place for is counted, and stands row by row in a table beside
the folder, FOLDER.ledger.parquet.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from data_prep import prepared
from data_prep.exchange.registry import FORMATS, Format
from data_prep.exchange.sample import Sample
from instdiff.files import atomic
from instdiff.files.texts import counted
from instdiff.options import Parser
from instdiff.progress import track
from instdiff.work.ledger import LEDGER, Ledger
from instdiff.work.outcomes import Failure

_ROWS = 10_000  # of the ledger in memory


def main(arguments: Sequence[str]) -> None:
    """Write all or nothing, and say what was lost."""
    options = Parser(prog="instdiff export", description=__doc__)
    meanings = "; ".join(f"{entry.name}: {entry.meaning}" for entry in FORMATS.values())
    options.add_argument("format", choices=sorted(FORMATS), metavar="FORMAT", help=meanings)
    options.add_argument("data", type=Path, help="a folder of shards, or the folder of a run's tables, such as data")
    options.add_argument("folder", type=Path, help="where the files go; it must not exist")
    options.add_argument("--split", default="train", help="of a run's tables: train or val")
    args = options.parse_args(arguments)
    if args.folder.exists():
        raise ValueError(f"{args.folder}: exists already")
    counts = export(FORMATS[args.format], args.data, args.folder, args.split)
    print(
        f"{args.folder}: {counted(counts.pop('pictures'), 'picture')}, {counted(counts.pop('instances'), 'instance')}"
    )
    for reason, count in sorted(counts.items()):
        print(f"{reason}: {count}")


def export(entry: Format, data: Path, folder: Path, split: str) -> Counter[str]:
    """Write all or nothing; how many pictures and instances there were, and of each reason of the ledger."""
    source = prepared.find(data, split)
    total = source.num_pictures
    counts: Counter[str] = Counter(pictures=0, instances=0)
    failed = Ledger()
    with (
        atomic.file(folder.with_name(f"{folder.name}.ledger.parquet")) as aside,
        pq.ParquetWriter(aside, LEDGER, compression="zstd") as ledger,
        atomic.folder(folder) as to,
    ):

        def flushed() -> None:
            counts.update(str(row["reason"]) for row in failed.rows)
            ledger.write_table(failed.table())
            failed.rows.clear()

        def samples() -> Iterator[Sample]:
            for _, sample in track(source.samples(range(total)), total, "pictures"):
                counts.update(pictures=1, instances=len(sample.layout.instances))
                lost(entry, sample, failed)
                if len(failed.rows) >= _ROWS:
                    flushed()
                yield sample

        entry.write(to, samples(), failed)
        flushed()
    return counts


def lost(entry: Format, sample: Sample, failed: Ledger) -> None:
    """Note what of a sample the format has no place for."""
    layout = sample.layout
    for name in entry.loses:
        failure = Failure(f"lost_{name}", f"{entry.name} has no place for it")
        if name == "caption":
            if layout.prompt:
                failed.add(sample.key, -1, failure)
            continue
        for index, instance in enumerate(layout.instances):
            other = {"phrase": instance.category, "category": instance.phrase}.get(name)  # the format's only text
            if getattr(instance, name) not in (None, other):
                failed.add(sample.key, index, failure)
