"""Whatever people bring, it is read, a row, or one sentence that names the file."""

from pathlib import Path

import fuzz_readers
import pytest

NUM_INPUTS = 60  # the bench tries more


@pytest.mark.parametrize("reader", fuzz_readers.READERS)
def test_a_spoilt_input_is_read_or_refused_in_a_sentence_and_nothing_is_lost(tmp_path: Path, reader: str) -> None:
    seen = fuzz_readers.outcomes(tmp_path, reader, NUM_INPUTS)
    assert seen["read"]
