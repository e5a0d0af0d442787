"""Packs: by additions and removals or from nothing in the same bytes, and only what changed is made."""

import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from data_world import (
    ANNOTATE,
    EXECUTION,
    INGEST,
    SHARD,
    SKETCH,
    TWO,
    WORK,
    annotated,
    contents,
    ingested,
    ledger,
    pictures,
    prepared,
    sharded,
)
from hypothesis import given
from hypothesis import strategies as st

from data_prep import ingest, sketch
from data_prep.sources import packing
from instdiff.files import tables
from instdiff.work import packs
from instdiff.work.ledger import LEDGER

MORE = INGEST.model_copy(update={"num_train": 7})


@pytest.fixture
def part_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which parts are made, by the stage's output and the pack's name."""
    seen: list[str] = []
    make = packs.make

    def noted(job: packs.Job) -> packs.Counts:
        seen.append(f"{job.outputs[-1]} {job.name}")
        return make(job)

    monkeypatch.setattr(packs, "make", noted)
    return seen


def whole(root: Path, scenes: ingest.Scenes = INGEST) -> dict[str, bytes]:
    prepared(root, ingest=scenes, framed=False)
    sharded(root)
    return contents(root)


def test_a_source_that_grew_and_shrank_again_costs_what_changed_and_ends_in_the_same_bytes(
    tmp_path: Path, part_names: list[str]
) -> None:
    before = whole(tmp_path / "grown")
    part_names.clear()
    after = whole(tmp_path / "grown", MORE)
    assert {name.split()[1] for name in part_names} == {"00002", "00003"}  # the one that was not full, and one more
    assert len(part_names) == 2 * 7  # stages
    assert after == whole(tmp_path / "whole", MORE)
    files_of_full_packs = [name for name in before if name.startswith("shards/0000") and "00002" not in name]
    assert len(files_of_full_packs) == 2 * 3  # tar, where its samples begin, and its part of the index
    assert all(before[name] == after[name] for name in files_of_full_packs)
    part_names.clear()
    assert whole(tmp_path / "grown") == before
    assert {name.split()[1] for name in part_names} == {"00002"}


def test_nothing_is_made_where_nothing_changed(tmp_path: Path, part_names: list[str]) -> None:
    before = whole(tmp_path)
    part_names.clear()
    assert whole(tmp_path) == before
    assert part_names == []


def test_another_filter_makes_annotations_and_shards_alone(tmp_path: Path, part_names: list[str]) -> None:
    whole(tmp_path)
    part_names.clear()
    counts = prepared(tmp_path, framed=False, annotate=ANNOTATE.model_copy(update={"min_box_size": 0.9}))
    assert {name.split()[0] for name in part_names} == {"annotated"}
    assert counts["annotate"]["dropped_small_box"] > 0
    sharded(tmp_path)
    assert {name.split()[0] for name in part_names} == {"annotated", "shards"}


def test_a_part_that_is_not_what_its_note_says_is_made_anew(tmp_path: Path, part_names: list[str]) -> None:
    before = whole(tmp_path)
    for harmed in ("annotated/train/00001.parquet", "ledger/annotate-train/00001.parquet"):
        other = before[harmed.replace("00001", "00000")]
        (tmp_path / harmed).write_bytes(other[:-1] if "ledger" in harmed else other)
        part_names.clear()
        annotated(tmp_path)
        assert part_names == ["annotated 00001"]
        assert contents(tmp_path) == before


def test_tables_with_other_packs_are_named(tmp_path: Path) -> None:
    whole(tmp_path)
    (tmp_path / "masks" / "train" / "00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"masks/train: no part 00001, which .*images/train has"):
        annotated(tmp_path)


def test_what_is_of_no_split_goes_from_the_folders_of_ingest(tmp_path: Path) -> None:
    ingested(tmp_path, framed=False)
    before = contents(tmp_path)
    (tmp_path / "images" / "train.parquet").write_bytes(b"of an earlier version")
    ingested(tmp_path, framed=False)
    assert contents(tmp_path) == before


def test_a_killed_run_is_taken_up_and_what_nobody_asks_for_goes(
    tmp_path: Path, part_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, framed=False)
    to = {"images": tmp_path / "images/train", "masks": tmp_path / "masks/train"}
    out = {"strokes": tmp_path / "out/strokes", "ledger": tmp_path / "out/ledger"}
    gather = packs.gather
    for params in (SKETCH.model_copy(update={"seed": 9}), SKETCH):
        monkeypatch.setattr(packs, "gather", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sketch.run(**to, **out, params=params)
        assert len(list((tmp_path / "out" / ".strokes.parts").iterdir())) == 3
    monkeypatch.setattr(packs, "gather", gather)
    part_names.clear()
    sketch.run(**to, **out, params=SKETCH)
    assert part_names == []
    assert contents(out["strokes"]) == contents(tmp_path / "strokes" / "train")
    assert not (tmp_path / "out" / ".strokes.parts").exists()


# ---- which pictures make a pack -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), max_size=4), st.integers(1, 5))
def test_the_spans_of_groups_are_all_their_numbers_in_full_packs(counts: list[int], size: int) -> None:
    groups = {str(group): count for group, count in enumerate(counts)}
    spans = packing.spans(groups, size)
    flat = [(group, number) for pack in spans for group, numbers in pack for number in numbers]
    assert flat == [(group, number) for group, count in groups.items() for number in range(count)]
    lengths = [sum(len(numbers) for _, numbers in pack) for pack in spans]
    assert all(length == size for length in lengths[:-1])
    assert all(0 < length <= size for length in lengths)


names = st.lists(st.text("abcdefgh", min_size=4, max_size=8), unique=True, min_size=1, max_size=200)


def cut(listed: list[str], size: int) -> list[list[str]]:
    return packing.cut(listed, listed, [None] * len(listed), size)


@given(names, st.integers(1, 20))
def test_packs_are_the_records_in_order_and_none_too_large(listed: list[str], size: int) -> None:
    packed = cut(listed, size)
    assert [record for pack in packed for record in pack] == listed
    assert all(0 < len(pack) <= size for pack in packed)
    assert all(2 * len(pack) >= size for pack in packed[:-1])


def test_a_record_that_comes_or_goes_leaves_almost_all_packs_as_they_were() -> None:
    listed = [f"picture-{number}" for number in range(20_000)]
    before = set(map(tuple, cut(listed, 100)))
    assert 150 < len(before) < 400
    for place in (0, 77, 9_999, 19_999):
        gone = set(map(tuple, cut(listed[:place] + listed[place + 1 :], 100)))
        come = set(map(tuple, cut([*listed[:place], "new", *listed[place:]], 100)))
        assert len(gone - before) <= 6
        assert len(come - before) <= 6


def test_from_half_a_pack_on_one_record_in_a_quarter_of_its_size_is_the_last() -> None:
    assert cut(["a", "b", "c", "d", "e"], 4) == [["a", "b"], ["c", "d"], ["e"]]
    assert cut(["a", "b", "c"], 3) == [["a", "b"], ["c"]]
    ends = sum(packing._ends(f"picture-{number}", 100) for number in range(20_000))
    assert abs(ends - 20_000 / 25) < 100  # more than three standard deviations


def test_which_names_end_a_pack_is_the_same_from_version_to_version() -> None:
    assert [number for number in range(60) if packing._ends(f"k{number}", 40)] == [3, 14, 35, 42, 51]


def test_a_member_of_a_tar_is_a_file_that_everybody_may_read_and_nobody_made(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as stream, closing(packing.Tar(stream)) as tar:
        places = [tar.add("a.png", b"one"), tar.add("b.png", b"two, which is longer")]
    with tarfile.open(tmp_path / "a.tar") as read:
        members = read.getmembers()
    assert [member.offset_data for member in members] == places
    assert {(member.mode, member.mtime, member.uid, member.gid, member.uname) for member in members} == {
        (0o444, 0, 0, 0, "")
    }
    assert packing.stored(tmp_path / "a.tar", places[0], 3, "") == b"one"


def test_a_tar_is_a_pack_of_its_own_where_it_is_small_enough() -> None:
    containers = ["a.tar"] * 3 + ["b.tar"] * 7 + [None] * 2
    listed = [f"{number}" for number in range(len(containers))]
    packed = packing.cut(listed, listed, containers, 4)
    assert [len(pack) for pack in packed][:3] == [3, 4, 3]
    assert [record for pack in packed for record in pack] == listed


def source(root: Path, names: list[str], files: Callable[[str], bytes], **work: Any) -> ingest.Params:
    (root / "in").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "in" / f"{name}.png").write_bytes(files(name))
    page = [{"image": f"{name}.png", "caption": name} for name in names]
    (root / "in" / "list.json").write_text(json.dumps(page))
    train = {"path": f"{root}/in/list.json", "root": None}
    how = {"val": None, "val_share": 0.0, "limits": {"min_side": 1, "max_pixels": 10**6}}
    return ingest.Params.model_validate(
        {"source": "captioned", "train": train, **how, "work": {**WORK.model_dump(), **work}}
    )


def test_a_picture_that_goes_from_a_list_costs_its_pack_and_ends_as_if_it_had_never_been(
    tmp_path: Path, part_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path / "world", framed=False)
    content_of_key = {key: picture.encoded() for key, picture in pictures(tmp_path / "world").items()}
    files = list(content_of_key.values())
    listed = [f"p{number}" for number in range(30)]
    folders = {name: tmp_path / "out" / name for name in ("pictures", "images", "given", "ledger")}

    def run(names: list[str], to: dict[str, Path]) -> dict[str, int]:
        return ingest.run(**to, params=source(tmp_path, names, lambda name: files[int(name[1:]) % 5], part_size=8))

    run(listed, folders)
    part_names.clear()
    counts = run(listed[:3] + listed[4:], folders)
    assert counts["train_pictures"] == 29
    assert 1 <= len(part_names) <= 3
    run(listed[:3] + listed[4:], {name: tmp_path / "new" / name for name in folders})
    assert contents(tmp_path / "out") == contents(tmp_path / "new")
    part_names.clear()
    assert run(listed, folders)["train_pictures"] == 30
    assert 1 <= len(part_names) <= 3


def test_a_file_of_another_size_under_the_same_name_is_read_again(tmp_path: Path, part_names: list[str]) -> None:
    prepared(tmp_path / "world", framed=False)
    first, second = [picture.encoded() for picture in pictures(tmp_path / "world").values()][:2]
    assert len(first) != len(second)
    folders = {name: tmp_path / "out" / name for name in ("pictures", "images", "given", "ledger")}
    for content in (first, second):
        ingest.run(**folders, params=source(tmp_path, ["a"], lambda _, content=content: content))
        (picture,) = pictures(tmp_path / "out").values()
        assert picture.encoded() == content


def test_processes_write_the_annotations_and_shards_that_one_process_writes(tmp_path: Path) -> None:
    before = whole(tmp_path)
    two = {"work": EXECUTION.model_copy(update={"workers": TWO.workers})}
    shutil.rmtree(tmp_path / "ledger" / "annotate-train")  # so that none is taken over
    shutil.rmtree(tmp_path / "ledger" / "shard")
    annotated(tmp_path, params=ANNOTATE.model_copy(update=two))
    sharded(tmp_path, SHARD.model_copy(update=two))
    assert contents(tmp_path) == before


def test_counts_are_of_all_packs_made_now_or_before(tmp_path: Path) -> None:
    first = prepared(tmp_path, framed=False)
    assert prepared(tmp_path, framed=False) == first
    assert tables.read(ledger(tmp_path, "annotate"), LEDGER).empty
    assert sharded(tmp_path) == sharded(tmp_path, SHARD.model_copy(update={"work": EXECUTION}))
