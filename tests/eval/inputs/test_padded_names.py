"""A number names a picture by its id or by the file it is padded to, and never two."""

import pytest

from eval.inputs.coco_results import _name

PLACES = {name: place for place, name in enumerate(["0010", "007", "7", "wide", "12"], start=1)}
IDS = {3: "wide", 10: "12", 99: "elsewhere"}


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        (3, "wide"),
        ("3", "wide"),
        ("wide", "wide"),
        ("0010", "0010"),
        (10, "12"),
        ("10", "12"),
        ("010", "12"),
        ("007", "007"),
        ("7", "7"),
        (12, "12"),
        ("12", "12"),
        (" 12 ", "12"),
    ],
)
def test_a_picture_is_found_by_its_name_then_its_id_then_its_number(image_id: int | str, name: str) -> None:
    ids = {number: of for number, of in IDS.items() if not (image_id == "0010" and number == 10)}
    assert _name(image_id, PLACES, ids) == name


def test_a_number_of_one_file_padded_with_zeros_is_that_file_and_of_two_neither() -> None:
    assert _name(10, PLACES, {}) == "0010"
    with pytest.raises(ValueError, match="image_id 7 is not one of the 5 pictures"):
        _name(7, PLACES, {})


@pytest.mark.parametrize("image_id", [4, "four", 99, "99", -7, "-7", "", "1.0"])
def test_what_names_no_picture_is_refused(image_id: int | str) -> None:
    with pytest.raises(ValueError, match="is not one of the 5 pictures"):
        _name(image_id, PLACES, IDS)


def test_a_name_that_is_the_id_of_another_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="'0010' is the name of one picture and the id of another, '12'"):
        _name("0010", PLACES, IDS)
    assert _name("0010", PLACES, {10: "0010"}) == "0010"
