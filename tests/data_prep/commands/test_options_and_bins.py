"""What the commands on prepared data take for what they are not told, frozen here, and the bins of what they count."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data_prep import prepared
from data_prep.commands import export, look
from data_prep.exchange.registry import FORMATS
from data_prep.pages import drops, look_page, tally
from data_prep.pages.look_page import LookParams

FROZEN = {
    "seed": 0,
    "num_samples": 60,
    "num_each_category": 3,
    "num_categories": 40,
    "num_examples": 6,
    "max_side": 384,
    "num_compared": 2000,
    "alike": 3.0,
    "short_caption": 2,
}
OPTIONS = {
    "--samples": "num_samples",
    "--each-category": "num_each_category",
    "--categories": "num_categories",
    "--examples": "num_examples",
    "--compared": "num_compared",
    "--max-side": "max_side",
    "--seed": "seed",
}


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Each look: what was found, the reasons, the title and the values; nothing is counted."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepared, "find", lambda data, split: (data, split))
    monkeypatch.setattr(drops, "reasons", lambda *words: [words])

    def page(*words: Any) -> look_page.Page:
        calls.append(words)
        return look_page.Page("page", {"pictures": 2, "instances": 1})

    monkeypatch.setattr(look_page, "page", page)
    return calls


def test_what_a_look_is_not_told_is_as_it_was(looks: list[tuple[Any, ...]], tmp_path: Path) -> None:
    look.main(["data"])
    assert looks == [((Path("data"), "train"), [], "data", LookParams.model_validate(FROZEN))]
    assert (tmp_path / "look.html").read_text() == "page"


def test_each_option_of_a_look_is_its_own_value_and_the_ledger_is_read_with_split_and_examples(
    looks: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    (tmp_path / "data" / "ledger").mkdir(parents=True)
    numbers = {option: number for number, option in enumerate(OPTIONS, start=1)}
    words = [word for option, number in numbers.items() for word in (option, str(number))]
    look.main(["data", "--split", "val", "--html", "a.html", *words])
    ((source, reasons, _, params),) = looks
    assert source == (Path("data"), "val")
    assert reasons == [(Path("data/ledger"), "val", numbers["--examples"])]
    assert params.model_dump() == FROZEN | {OPTIONS[option]: number for option, number in numbers.items()}
    assert (tmp_path / "a.html").is_file() and not (tmp_path / "look.html").exists()


def test_a_look_reads_the_ledgers_that_it_is_told(looks: list[tuple[Any, ...]], tmp_path: Path) -> None:
    for folder in (tmp_path / "data" / "ledger", tmp_path / "mine"):
        folder.mkdir(parents=True)
    look.main(["data", "--ledger", "mine"])
    assert looks[0][1] == [(Path("mine"), "train", FROZEN["num_examples"])]


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in ("--categories", "--max-side")])
def test_none_of_a_kind_may_be_asked_for_and_less_than_none_may_not(option: str, looks: list[tuple[Any, ...]]) -> None:
    look.main(["data", option, "0"])
    with pytest.raises(SystemExit):
        look.main(["data", option, "-1"])
    assert len(looks) == 1


@pytest.mark.parametrize("option", ["--categories", "--max-side"])
def test_a_table_has_a_line_and_a_picture_a_pixel(option: str, looks: list[tuple[Any, ...]]) -> None:
    look.main(["data", option, "1"])
    with pytest.raises(SystemExit):
        look.main(["data", option, "0"])
    assert len(looks) == 1


def test_an_export_is_of_the_training_split_unless_it_is_told_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exports: list[tuple[Any, ...]] = []

    def exported(*words: Any) -> Counter[str]:
        exports.append(words)
        return Counter(pictures=1, instances=2, lost_mask=3, bad=4)

    monkeypatch.setattr(export, "export", exported)
    folder = tmp_path / "out"
    for words in ([], ["--split", "val"]):
        export.main(["coco", "data", str(folder), *words])
    assert exports == [(FORMATS["coco"], Path("data"), folder, split) for split in ("train", "val")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"{folder}: 1 picture, 2 instances", "bad: 4", "lost_mask: 3"]


@pytest.mark.parametrize("name", ["COUNTS", "WORDS", "SIDES", "SHARES"])
def test_each_bin_ends_where_its_words_say_and_the_next_begins_there(name: str) -> None:
    bins: tally.Bins = getattr(tally, name)
    unit = 0.01 if name == "SHARES" else 1
    before = 0.0
    for place, (label, limit) in enumerate(bins):
        stated = [unit * int(digits) for digits in re.findall(r"\d+", label)]
        is_last = place == len(bins) - 1
        if is_last:
            assert stated == [pytest.approx(before)] and limit == float("inf")
            continue
        assert limit == pytest.approx(stated[-1])
        if len(stated) > 1:  # the first of whole numbers is one more than the last bin's
            assert stated[0] == pytest.approx(before + (0 if name == "SHARES" else 1))
        assert tally.label_of(limit, bins) == label
        assert tally.label_of(limit + unit / 100, bins) == bins[place + 1][0]
        before = limit


def test_an_instance_is_small_to_a_twenty_fifth_of_the_picture_and_large_from_four_of_them() -> None:
    shares = {0.04: "small", 0.0401: "medium", 0.16: "medium", 0.1601: "large", 1.0: "large"}
    assert {share: tally.label_of(share, tally.SIZES) for share in shares} == shares
