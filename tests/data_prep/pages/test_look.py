"""A look at prepared data: everything is counted, samples are drawn by a seed, and one page shows it to a browser."""

import io
import json
import re
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pandas as pd
import pytest
from data_world import ANNOTATE, contents, ledger, pictures, prepared, put, sharded
from PIL import Image

from data_prep import look
from data_prep import prepared as prepared_data
from data_prep.columns import PICTURES
from data_prep.pages import drops, duplicates, look_page, tally
from data_prep.pages.look_page import LookParams
from data_prep.pages.tally import Tally
from data_prep.prepared import Chunk, Shards, Tables, find
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts.columns import ANNOTATED
from instdiff.layouts.formats import FORMATS
from instdiff.randomness import derive
from instdiff.work.ledger import LEDGER

PARAMS = LookParams(
    seed=0,
    num_samples=3,
    num_each_category=1,
    num_categories=20,
    num_examples=2,
    max_side=64,
    num_compared=5,
    alike=3.0,
    short_caption=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    prepared(root, annotate=ANNOTATE.model_copy(update={"min_box_size": 0.1}))
    sharded(root)
    return root


def chunk(*rows: tuple[str, str, tuple[tuple[str, str, float], ...]], side: int = 64) -> Chunk:
    """Pictures: key, caption, and of each instance category, phrase and the height of a box over the whole width."""
    images = [
        {"key": key, "width": side, "height": 2 * side, "caption": caption, "sha256": f"{ord(key[0]):064x}"[::-1]}
        for key, caption, _ in rows
    ]
    instances = [
        {"key": key, "category": category, "caption": phrase, "box": [0.0, 0.0, 1.0, height]}
        | dict.fromkeys(("point", "scribble", "outline", "mask"))
        for key, _, own in rows
        for category, phrase, height in own
    ]
    names = ["key", "category", "caption", "box", "point", "scribble", "outline", "mask"]
    return Chunk(pd.DataFrame(images), pd.DataFrame(instances, columns=names, dtype=object))


def counted(*chunks: Chunk, most: int = 10) -> Tally:
    own = Tally(0, most, 1, 2, 5)
    for each in chunks:
        own.add(each)
    return own


DOGS = chunk(
    ("a", "two dogs run over a field", (("dog", "a dog", 0.005), ("dog", "a big brown dog", 0.6))),
    ("b", "cat", (("cat", "a grey cat", 0.16),)),
    ("c", "", ()),
)


def test_everything_is_counted_by_hand() -> None:
    own = counted(DOGS)
    assert (own.pictures, own.instances) == (3, 3)
    assert own.categories == {"dog": 2, "cat": 1}
    assert own.located["box"] == 3 and own.located["mask"] == 0
    histograms = {
        name: {label: count for label, count in bins.items() if count} for name, bins in own.histograms.items()
    }
    assert histograms == {
        "instances": {"0": 1, "1": 1, "2–3": 1},
        "boxes": {"under 1 %": 1, "4–16 %": 1, "over 50 %": 1},
        "captions": {"0": 1, "1–2": 1, "6–10": 1},
        "phrases": {"1–2": 1, "3–5": 2},
        "sides": {"up to 128": 3},
    }
    assert (own.short_captions, own.short_phrases) == (2, 1)
    assert own.examples["captions"] == [("b", "cat"), ("c", "")]
    assert own.examples["phrases"] == [("a", "a dog")]


def test_chunks_count_as_their_sum_and_the_draw_does_not_depend_on_them() -> None:
    single = [chunk((key, "x", (("dog", "a dog", 0.5),))) for key in "abcdefgh"]
    whole = chunk(*((key, "x", (("dog", "a dog", 0.5),)) for key in "abcdefgh"))
    of_whole, of_singles = counted(whole, most=3), counted(*single, most=3)
    assert of_whole.histograms == of_singles.histograms and of_whole.categories == of_singles.categories
    assert of_whole.draws() == of_singles.draws() and len(of_whole.draws()) == 3
    assert of_whole.draws_of("dog") == of_whole.draws()[:1]
    assert [draw.place for draw in counted(whole).draws()][:3] == [draw.place for draw in of_whole.draws()]
    assert sorted(draw.place for draw in counted(whole).draws()) == list(range(8))
    numbers = [derive(0, "look", key) for key in "abcdefgh"]
    assert [draw.number for draw in of_whole.draws()] == sorted(numbers)[:3]


def test_copies_of_a_file_are_found_across_chunks() -> None:
    own = counted(chunk(("b", "", ()), ("a", "", ())), chunk(("a2", "", ()), ("c", "", ()), ("a3", "", ())))
    assert own.same_files() == [[1, 2, 4]]
    own.add(chunk(("c2", "", ()), ("b2", "", ())))
    assert own.same_files() == [[1, 2, 4], [0, 6], [3, 5]]  # the longest first, then in the order of the pictures


def test_no_more_short_texts_are_listed_than_asked_for_and_all_are_counted() -> None:
    own = Tally(0, 1, 1, 2, 3)
    for key in "abc":
        own.add(chunk((key, "x", ()), (f"{key}2", "a cat", ())))
    assert own.short_captions == 6
    assert own.examples["captions"] == [("a", "x"), ("a2", "a cat"), ("b", "x")]


def test_rare_categories_are_counted_together_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "", tuple((name, "x", 0.5) for name in ("dog", "dog", "cat", "cow", "owl")))]
    monkeypatch.setattr(tally, "MOST_CATEGORIES", 4)
    assert len(counted(chunk(*rows)).categories) == 4
    monkeypatch.setattr(tally, "MOST_CATEGORIES", 3)
    own = counted(chunk(*rows))
    assert own.categories == {"dog": 2} and own.rare == 3


def test_pictures_look_alike_up_to_the_limit_and_in_one_group_only(monkeypatch: pytest.MonkeyPatch) -> None:
    greys = [np.full(256, level, np.float32) for level in (10, 12, 14, 200)]
    assert duplicates.alike(greys, 2.0) == [[0, 1]]
    assert duplicates.alike(greys, 1.9) == []
    assert duplicates.alike(greys, 4.0) == [[0, 1, 2]]
    assert duplicates.alike([], 4.0) == []
    later = [np.full(256, level, np.float32) for level in (200, 201, 10, 11, 12)]
    for at_once in (2, 3, 512):
        monkeypatch.setattr(duplicates, "_ROWS", at_once)
        assert duplicates.alike(later, 2.0) == [[2, 3, 4], [0, 1]]


def test_a_picture_that_was_compressed_and_resized_looks_like_itself_and_like_no_other() -> None:
    def encoded(seed: int, size: tuple[int, int], kind: str) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).resize(size).save(stream, kind)
        return stream.getvalue()

    files = [encoded(0, (256, 256), "png"), encoded(1, (256, 256), "png"), encoded(0, (192, 192), "jpeg")]
    assert duplicates.alike([duplicates.thumbnail(file) for file in files], 3.0) == [[0, 2]]
    with pytest.raises(ValueError, match="cannot be read"):
        duplicates.thumbnail(b"no picture")


def test_reasons_are_those_of_the_split_with_their_first_examples(tmp_path: Path) -> None:
    rows = [
        {"key": f"k{number}", "index": number - 1, "reason": "small_box", "detail": f"{number}"} for number in range(3)
    ]
    for number, part in enumerate((rows[:1], rows[1:])):
        tables.write(tmp_path / "annotate-train" / f"{number:05d}.parquet", pd.DataFrame(part), LEDGER)
    tables.write(tmp_path / "annotate-val" / "00000.parquet", pd.DataFrame(rows), LEDGER)
    tables.write(tmp_path / "ingest" / "train" / "00000.parquet", pd.DataFrame(rows[:1]), LEDGER)
    tables.write(tmp_path / "ingest" / "val" / "00000.parquet", pd.DataFrame(rows[:1]), LEDGER)
    others = [{**row, "reason": reason} for row, reason in zip(rows, ("bad", "worst", "worst"), strict=True)]
    tables.write(tmp_path / "shard.parquet", pd.DataFrame(others), LEDGER)
    assert drops.reasons(tmp_path, "train", 2) == [
        ("annotate-train", "small_box", 3, (("k0", -1, "0"), ("k1", 0, "1"))),
        ("ingest/train", "small_box", 1, (("k0", -1, "0"),)),
        ("shard", "worst", 2, (("k1", 0, "1"), ("k2", 1, "2"))),
        ("shard", "bad", 1, (("k0", -1, "0"),)),
    ]


def test_tables_and_shards_of_a_run_show_the_same(run: Path) -> None:
    of_tables, of_shards = find(run, "train"), find(run / "shards", "train")
    assert isinstance(of_tables, Tables) and isinstance(of_shards, Shards)
    assert of_tables.num_pictures == of_shards.num_pictures == 5
    page_of_tables, page_of_shards = (look_page.page(source, [], "title", PARAMS) for source in (of_tables, of_shards))
    assert page_of_tables == page_of_shards
    places = [4, 1, 2]
    for (place, first), (again, second) in zip(of_tables.samples(places), of_shards.samples(places), strict=True):
        assert (place, first.key, first.encoded, first.width) == (again, second.key, second.encoded, second.width)


def test_shards_are_counted_the_same_however_many_are_read_at_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [pd.concat(frames) for frames in zip(*Shards(run / "shards").chunks(), strict=True)]
    for at_once in (1, 2, 5):
        monkeypatch.setattr(prepared_data, "AT_ONCE", at_once)
        listed = list(Shards(run / "shards").chunks())
        assert [len(images) for images, _ in listed] == [at_once] * (5 // at_once) + [1] * (at_once == 2)
        for whole, frames in zip(chunks, zip(*listed, strict=True), strict=True):
            pd.testing.assert_frame_equal(whole.reset_index(drop=True), pd.concat(frames).reset_index(drop=True))


def test_a_run_that_lacks_a_table_is_told_which_stage_makes_it(run: Path, tmp_path: Path) -> None:
    for name in ("pictures", "images"):
        (tmp_path / name / "val").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"/annotated/val: no such folder, .* dvc repro annotate@val makes it"):
        find(tmp_path, "val")


def test_the_categories_that_a_table_leaves_out_are_counted_with_those_that_were_too_rare_to_keep() -> None:
    own = counted(DOGS, chunk(("d", "x", (("cow", "a cow", 0.5), ("owl", "an owl", 0.5)))))
    params = PARAMS.model_copy(update={"num_categories": 1})
    assert look_page._others(own, params) == {"categories": 3, "instances": 3}
    own.rare = 4
    assert look_page._others(own, params) == {"categories": 7, "instances": 7}


def test_a_filter_offers_what_the_pictures_have_in_the_order_of_bins(run: Path) -> None:
    plain = look_page.Card("k", "", 1, 1, "", (), (), (), "0", ())
    cards = [
        plain._replace(categories=("owl", ""), sizes=("large", "small"), num_instances="4–8", formats=("mask", "box")),
        plain._replace(categories=("cat", "owl"), sizes=("small",), num_instances="1", formats=("box",)),
    ]
    assert look_page._filters(cards) == {
        "category": ["cat", "owl"],
        "size": ["small", "large"],
        "instances": ["1", "4–8"],
        "format": [name for name in FORMATS if name in ("mask", "box")],
    }


def _stage(run: Path, page: Path, **changed: Any) -> dict[str, int]:
    params = look.Params.model_validate(PARAMS.model_dump() | changed)
    folders = {name: run / name / "train" for name in ("pictures", "images", "annotated")}
    return look.run(**folders, ledger=run / "ledger", page=page, params=params)


def test_the_stage_counts_what_the_tables_hold_and_says_what_was_dropped(run: Path, tmp_path: Path) -> None:
    counts = _stage(run, tmp_path / "look.html")
    annotated = tables.read(run / "annotated" / "train", ANNOTATED)
    dropped = tables.read(ledger(run, "annotate"), LEDGER)
    assert (counts["pictures"], counts["instances"]) == (5, len(annotated))
    assert counts["categories"] == annotated["category"].nunique()
    text = (tmp_path / "look.html").read_text()
    assert len(dropped) and "small_box" in text and dropped["key"].iloc[0] in text
    assert "annotate-val" not in text


def test_each_value_of_the_stage_reaches_the_page(run: Path, tmp_path: Path) -> None:
    def text(**changed: Any) -> str:
        _stage(run, tmp_path / "look.html", **changed)
        return (tmp_path / "look.html").read_text()

    def cards(page: str) -> list[str]:
        return re.findall(r'<article class="card zoom".*?<div class="key">([\w-]+),', page, re.DOTALL)

    plain = text()
    assert plain == text() and len(cards(plain)) >= 3
    assert len(cards(text(num_samples=5))) == 5
    assert cards(text(num_each_category=0)) == cards(plain)[:3]
    assert cards(text(num_each_category=0, num_samples=1, seed=1)) != cards(plain)[:1]
    assert text(num_categories=1).count("other categories") == 1
    assert "short_phrases" not in plain and "Phrases of instances" not in plain
    assert text(short_caption=20).count("Phrases of instances") == 1
    few, many = text(short_caption=20, num_examples=1), text(short_caption=20, num_examples=4)
    assert few.count('class="key">train') < many.count('class="key">train')
    assert text(alike=300.0).count("5 pictures") == 1 and "5 pictures" not in text(alike=300.0, num_compared=4)
    assert len(text(max_side=16)) < len(plain)
    assert PARAMS.model_dump().keys() == look.Params.model_fields.keys()


def test_copies_are_shown_once_and_not_again_among_those_that_look_alike(tmp_path: Path) -> None:
    prepared(tmp_path, framed=False)
    encoded = {key: picture.encoded() for key, picture in pictures(tmp_path).items()}
    first, second, *_ = encoded
    put(tmp_path, {second: encoded[first]})
    for path in sorted((tmp_path / "images" / "train").glob("*.parquet")):
        table = tables.read(path, PICTURES)
        sums = dict(zip(table["key"], table["sha256"], strict=True))
        table["sha256"] = ["0" * 64 if key in {first, second} else sums[key] for key in table["key"]]
        tables.write(path, table, PICTURES)
    counts = look_page.page(find(tmp_path, "train"), [], "title", PARAMS).counts
    assert (counts["same_files"], counts["compared"], counts["look_alike"]) == (1, 4, 0)
    all_alike = PARAMS.model_copy(update={"alike": 300.0})
    assert look_page.page(find(tmp_path, "train"), [], "title", all_alike).counts["look_alike"] == 4 - 1


def test_nothing_to_look_at_is_an_error(tmp_path: Path) -> None:
    for name in ("pictures", "images", "annotated"):
        (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="no picture to look at"):
        look_page.page(find(tmp_path, "train"), [], "title", PARAMS)


def test_the_command_writes_the_page_and_names_what_is_not_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    command.main(["look", str(run / "shards"), "--html", str(tmp_path / "a.html")])
    assert "a.html: 5 pictures" in capsys.readouterr().out
    assert contents(run) == before
    for words, sentence in (
        (["look", str(tmp_path / "no")], "no such folder"),
        (["look", str(tmp_path)], "has neither index.arrow"),
        (["look", str(run), "--ledger", str(tmp_path / "no")], "no such folder"),
    ):
        with pytest.raises(SystemExit):
            command.main([*words, "--html", str(tmp_path / "b.html")])
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "b.html").exists()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (390, "light")])
def test_the_page_filters_in_a_browser_and_asks_nobody(run: Path, tmp_path: Path, width: int, scheme: Any) -> None:
    _stage(run, tmp_path / "look.html", num_samples=5)
    faults: list[str] = []
    with browser.opened(width, 900, color_scheme=scheme) as tab:
        hosts = browser.asked_of(tab)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda line: faults.append(line.text))
        tab.goto((tmp_path / "look.html").as_uri(), wait_until="load")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("#left").inner_text() == "5"
        category = tab.locator('[data-filter="category"] option').nth(1).inner_text()
        tab.select_option('[data-filter="category"]', category)
        left = [
            json.loads(card)
            for card in tab.eval_on_selector_all(
                "#cards .card:not([hidden])", "its => its.map(one => one.dataset.category)"
            )
        ]
        assert 0 < len(left) < 5 and all(category in own for own in left)
        tab.select_option('[data-filter="category"]', "")
        tab.locator('[data-layer="boxes"]').uncheck()
        assert not tab.locator("#cards .boxes").first.is_visible()
        tab.locator("#cards .card").first.click()
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#place").inner_text() == "2 of 5"
    assert faults == [] and hosts == set()
