"""Two thousand spoilt sources: pictures, reasons in the ledger, or one sentence, and never a crash."""

import shutil
from collections import Counter
from pathlib import Path

import mutations

NUM_SOURCES = 2000


def test_two_thousand_spoilt_sources(tmp_path: Path) -> None:
    """Print what became of them; the first that is none of these ends it."""
    seen = Counter[str]()
    for number in range(NUM_SOURCES):
        seen[mutations.tried(tmp_path, number)] += 1
        for left in tmp_path.iterdir():
            shutil.rmtree(left)
    print(f"\n{NUM_SOURCES} spoilt sources of {len(mutations.KINDS)} kinds: {dict(seen)}")
