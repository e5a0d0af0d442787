"""look: show what will be trained on.   pictures, images, annotated, ledger -> one page

The page needs no network: samples with their layouts, counts, what was dropped and why, duplicates, empty captions.
"""

from pathlib import Path

from data_prep.pages import drops, look_page
from data_prep.pages.look_page import LookParams
from data_prep.prepared import Tables
from instdiff import stage
from instdiff.files import atomic


class Params(LookParams):
    """Values of the stage."""


def run(*, pictures: Path, images: Path, annotated: Path, ledger: Path, page: Path, params: Params) -> dict[str, int]:
    """Pictures and annotations to train on -> one page that shows them"""
    reasons = drops.reasons(ledger, images.name, params.num_examples)
    look = look_page.page(Tables(pictures, images, annotated), reasons, "The data of this run", params)
    with atomic.file(page) as part:
        part.write_text(look.text, encoding="utf-8")
    return look.counts


if __name__ == "__main__":
    stage.main(run)
