"""What a judge's reply says, read by hand: numbers as chances, lists as boxes in each unit, and what is counted."""

from types import SimpleNamespace
from typing import Any

import pytest

from eval.benchmarks import replies
from instdiff.schema import Box


class Picture(SimpleNamespace):
    """A picture 90 pixels high and 200 wide, as a measure sees it, and how many replies said nothing."""

    def __init__(self, boxes_in: str = "pixels", *, compat: bool = False, absent: bool = False) -> None:
        super().__init__(size=(90, 200), boxes_in=boxes_in, compat=compat, absent=absent, faults=0)

    def fault(self) -> None:
        self.faults += 1


@pytest.mark.parametrize(
    ("answer", "chance", "faults"),
    [
        ("0.25", 0.25, 0), ("0", 0, 0), ("1", 1, 0), (" 1e-1 ", 0.1, 0), ("yes, it is", 1, 0), ("No", 0, 0),
        ("1.001", 0, 1), ("-0.001", 0, 1), ("nan", 0, 1), ("inf", 0, 1), ("perhaps", 0, 1), ("", 0, 1),
    ],
)  # fmt: skip
def test_a_chance_is_a_number_from_nothing_to_one_or_a_yes(answer: str, chance: float, faults: int) -> None:
    view: Any = Picture()
    assert (replies.probability(view, answer), view.faults) == (chance, faults)


@pytest.mark.parametrize(
    ("unit", "compat", "across", "down"),
    [
        ("pixels", False, 200, 90),
        ("thousandths", False, 1000, 1000),
        ("multiples-of-28", False, 196, 84),  # 7 times 28, and 3 times: the nearest
        ("thousandths", True, 200, 90),  # the reference takes all as pixels
        ("multiples-of-28", True, 200, 90),
    ],
)
def test_boxes_are_fractions_of_the_sides_in_their_unit(unit: str, compat: bool, across: int, down: int) -> None:
    view: Any = Picture(unit, compat=compat)
    (box,) = replies.boxes(view, [[10, 20, 30.5, 40]])
    assert box == pytest.approx(Box(10 / across, 20 / down, 30.5 / across, 40 / down))


def test_a_picture_smaller_than_a_step_is_one_step_wide() -> None:
    view: Any = Picture("multiples-of-28")
    view.size = (10, 13)
    assert replies.boxes(view, [[28, 14, 28, 28]]) == [Box(1, 0.5, 1, 1)]


@pytest.mark.parametrize("wrong", [[1, 2, 3], [1, 2, 3, 4, 5], "1234", (1, 2, 3, 4), None, 5])
def test_what_is_no_box_of_four_numbers_is_counted_and_costs_no_other(wrong: object) -> None:
    view: Any = Picture()
    assert len(replies.boxes(view, [[0, 0, 1, 1], wrong, [0, 0, 2, 2]])) == 2
    assert view.faults == 1


@pytest.mark.parametrize(
    ("edge", "is_edge"),
    [(999_999, True), (-999_999.5, True), (10**6, False), (True, False), ("1", False), (None, False)],
)
def test_an_edge_is_a_number_below_a_million(edge: Any, is_edge: bool) -> None:
    for place in range(4):
        view: Any = Picture()
        row: list[Any] = [0, 0, 1, 1]
        row[place] = edge
        assert (len(replies.boxes(view, [row])), view.faults) == ((1, 0) if is_edge else (0, 1))


def test_a_thousand_boxes_of_a_category_are_read_and_no_more() -> None:
    for count, read in ((999, 999), (1000, 1000), (1001, 1000)):
        view: Any = Picture()
        assert len(replies.boxes(view, [[0, 0, 1, 1]] * count)) == read
    view = Picture()
    assert (replies.boxes(view, {"box": [0, 0, 1, 1]}), view.faults) == ([], 1)


@pytest.mark.parametrize(
    ("value", "expected"), [("Yes", True), (" yes ", True), ("no", False), (True, False), (1, False)]
)
def test_a_value_is_yes_by_the_word_alone(value: object, expected: bool) -> None:
    assert replies.is_yes(value) is expected


def test_of_a_picture_that_is_missing_nothing_is_said_and_nothing_is_counted() -> None:
    missing: Any = Picture(absent=True)
    assert (replies.by_name(missing, "no object"), missing.faults) == ({}, 0)
    there: Any = Picture()
    assert (replies.by_name(there, '{"a": 1}'), there.faults) == ({"a": 1}, 0)
    assert (replies.by_name(there, "no object"), there.faults) == ({}, 1)
