"""Thousands of spoilt inputs: what was read, reasons in the ledger, or one sentence, and never a crash."""

import shutil
from collections import Counter
from pathlib import Path

import fuzz_readers
import mutations
import pytest

NUM_SOURCES = 2000
NUM_INPUTS = 1500  # of each reader


def test_two_thousand_spoilt_sources(tmp_path: Path) -> None:
    """Print what became of them; the first that is none of these ends it."""
    seen = Counter[str]()
    for number in range(NUM_SOURCES):
        seen[mutations.tried(tmp_path, number)] += 1
        for left in tmp_path.iterdir():
            shutil.rmtree(left)
    print(f"\n{NUM_SOURCES} spoilt sources of {len(mutations.KINDS)} kinds: {dict(seen)}")


@pytest.mark.parametrize("reader", fuzz_readers.READERS)
def test_spoilt_inputs_of_every_reader(tmp_path: Path, reader: str) -> None:
    """Print what became of them; the first that is lost, or refused without a sentence, ends it."""
    print(f"\n{NUM_INPUTS} spoilt inputs of {reader}: {dict(fuzz_readers.outcomes(tmp_path, reader, NUM_INPUTS))}")
