"""The ledger holds every failure with its place and counts them by reason."""

from pathlib import Path

import pytest

from instdiff.files import tables
from instdiff.work.ledger import LEDGER, Ledger, utf8
from instdiff.work.outcomes import Failure, outcomes


def test_rows_keep_their_order_and_place_and_are_counted(tmp_path: Path) -> None:
    ledger = Ledger()
    for key, index, reason in (("b", -1, "broken"), ("a", 2, "small"), ("a", 0, "broken")):
        ledger.add(key, index, Failure(reason, f"{key} {index}"))
    assert ledger.counts() == {"failed_broken": 2, "failed_small": 1}
    assert ledger.counts("dropped") == {"dropped_broken": 2, "dropped_small": 1}
    ledger.write(tmp_path / "l.parquet")
    rows = tables.read(tmp_path / "l.parquet", LEDGER)
    assert list(zip(rows["key"], rows["index"], rows["reason"], rows["detail"], strict=True)) == [
        ("b", -1, "broken", "b -1"),
        ("a", 2, "small", "a 2"),
        ("a", 0, "broken", "a 0"),
    ]
    assert Ledger().counts() == {}


def test_half_a_character_becomes_a_question_mark_and_others_stay() -> None:
    assert utf8("a\ud800é\U0001f600") == "a?é\U0001f600"


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_each_item_has_its_own_result_whichever_batch_it_failed_in(batch_size: int) -> None:
    calls: list[int] = []

    def work(items: list[int]) -> list[int]:
        calls.append(len(items))
        if 3 in items:
            raise ValueError("three")
        return [10 * item for item in items]

    pairs = list(outcomes(range(5), work, batch_size))  # type: ignore[arg-type]
    assert [item for item, _ in pairs] == [0, 1, 2, 3, 4]
    assert [result for item, result in pairs if item != 3] == [0, 10, 20, 40]
    failure = pairs[3][1]
    assert isinstance(failure, Failure)
    assert failure.reason == "failed"
    assert failure.detail.startswith("ValueError: three [traceback ")
    assert max(calls) <= batch_size


def test_results_that_are_too_few_are_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="argument"):
        list(outcomes([1, 2], lambda items: [0], 2))
