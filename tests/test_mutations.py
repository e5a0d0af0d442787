"""Whatever is wrong with a source, it is pictures, reasons in the ledger, or one sentence."""

import shutil
from collections import Counter
from pathlib import Path

import mutations

NUM_SOURCES = 280  # the bench tries more


def test_every_good_source_is_taken_whole(tmp_path: Path) -> None:
    for number, kind in enumerate(mutations.KINDS):
        source = mutations.written(tmp_path / kind, kind, mutations.random.Random(number))
        assert mutations.outcome(tmp_path / kind, tmp_path / f"{kind}-out", source) == "whole", kind


def test_a_spoilt_source_is_taken_or_refused_and_never_a_crash(tmp_path: Path) -> None:
    seen = Counter[str]()
    for number in range(NUM_SOURCES):
        seen[mutations.tried(tmp_path, number)] += 1
        for left in tmp_path.iterdir():
            shutil.rmtree(left)
    assert set(seen) == {"whole", "with refusals", "refused"}
