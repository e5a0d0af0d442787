"""instdiff look: one page that shows shards, or the annotated pictures of a run, before anything is trained on them.

The page needs no network. Samples are drawn by --seed; everything else is counted from all.
"""

from collections.abc import Sequence
from pathlib import Path

from data_prep import prepared
from data_prep.pages import drops, look_page
from data_prep.pages.look_page import LookParams
from instdiff.files import atomic
from instdiff.files.texts import counted
from instdiff.options import SEED, Parser, whole

ALIKE = 3.0  # levels of 255
SHORT = 2  # words


def main(arguments: Sequence[str]) -> None:
    """Write the page and say where, with what was counted."""
    options = Parser(prog="instdiff look", description=__doc__)
    add = options.add_argument
    add("data", type=Path, help="a folder of shards, or the folder of a run's tables, such as data")
    add("--html", type=Path, default=Path("look.html"), help="where the page goes")
    add("--split", default="train", help="of a run's tables: train or val")
    add("--ledger", type=Path, help="the ledgers of the stages; by default the folder `ledger` of a run's tables")
    add("--samples", type=whole(0), default=60, help="pictures drawn from all")
    add("--each-category", type=whole(0), default=3, help="pictures of each category, if the draw has fewer")
    add("--categories", type=whole(1), default=40, help="in the table, the commonest first")
    add("--examples", type=whole(0), default=6, help="of each reason, of duplicates and of short captions")
    add("--compared", type=whole(0), default=2000, help="pictures compared with each other by how they look")
    add("--max-side", type=whole(1), default=384, help="pixels of a picture on the page")
    add("--seed", type=SEED, default=0, help="of the draw")
    args = options.parse_args(arguments)
    params = LookParams(
        seed=args.seed,
        num_samples=args.samples,
        num_each_category=args.each_category,
        num_categories=args.categories,
        num_examples=args.examples,
        max_side=args.max_side,
        num_compared=args.compared,
        alike=ALIKE,
        short_caption=SHORT,
    )
    source = prepared.find(args.data, args.split)
    ledger = args.ledger or args.data / "ledger"
    if args.ledger is not None and not ledger.is_dir():
        raise ValueError(f"{ledger}: no such folder")
    reasons = drops.reasons(ledger, args.split, args.examples) if ledger.is_dir() else []
    page = look_page.page(source, reasons, str(args.data), params)
    with atomic.file(args.html) as part:
        part.write_text(page.text, encoding="utf-8")
    pictures, instances = page.counts["pictures"], page.counts["instances"]
    print(f"{args.html}: {counted(pictures, 'picture')}, {counted(instances, 'instance')}")
