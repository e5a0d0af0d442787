"""Real pictures at the door: where they come from, what becomes of the odd ones, and that nobody is lost."""

import base64
import codecs
import csv
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from data_world import TWO, WORK, contents, picture, pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import ingest, shard
from data_prep.columns import GIVEN_CAPTIONED
from data_prep.sources import admission, instances, lists, records, tars, urls
from data_prep.sources.records import Annotation
from instdiff.files import tables
from instdiff.files.picture_files import SUFFIXES
from instdiff.layouts import masks
from instdiff.layouts.columns import IMAGES
from instdiff.schema import Rle
from instdiff.work.ledger import LEDGER
from instdiff.work.outcomes import Failure

LIMITS = admission.Limits(min_side=8, max_pixels=10_000)
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encoded(kind: str = "PNG", pixels: Any = PIXELS, **options: Any) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def decoded(picture: admission.Admitted | Failure) -> np.ndarray:
    assert isinstance(picture, admission.Admitted)
    with Image.open(io.BytesIO(picture.encoded)) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image)


def ingested(root: Path, **source: Any) -> Mapping[str, float]:
    common = {"val": None, "val_share": 0.0, "limits": LIMITS, "work": WORK.model_dump()}
    params = ingest.Params.model_validate({**common, **source})
    folders = {name: root / "out" / name for name in ("pictures", "images", "given", "ledger")}
    return ingest.run(**folders, params=params)


def taken(listed: list[Any]) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    """What becomes of records without the stage around it: rows of pictures with their instances, and the ledger's."""
    answers = [ingest.admitted(job, LIMITS) for job in ingest.keyed(listed)]
    lost = [(index, failure.reason, failure.detail) for answer in answers for index, failure in answer.failures]
    return [row for answer in answers for row in answer.rows], lost


def stored(root: Path, key: str) -> bytes:
    return picture(root / "out", key)


def table(root: Path, name: str, schema: Any = IMAGES) -> pd.DataFrame:
    return tables.read(root / "out" / name / "train", schema)


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_ordinary_pictures_are_kept_byte_for_byte(kind: str, suffix: str) -> None:
    for pixels in (PIXELS, PIXELS[..., 0]):
        admitted = admission.admit(encoded(kind, pixels), None, LIMITS)
        assert isinstance(admitted, admission.Admitted)
        assert (admitted.encoded, admitted.kind, admitted.converted) == (encoded(kind, pixels), suffix, None)


def test_a_jpeg_with_more_pictures_behind_it_is_kept_byte_for_byte() -> None:
    first, second = (Image.fromarray(pixels) for pixels in (PIXELS, 255 - PIXELS))
    several = encoded("MPO", first, save_all=True, append_images=[second])
    admitted = admission.admit(several, None, LIMITS)
    assert isinstance(admitted, admission.Admitted)
    assert (admitted.encoded, admitted.kind, admitted.converted) == (several, "jpg", None)


def test_a_picture_held_sideways_is_turned_unless_its_annotations_say_how_it_lies() -> None:
    exif = Image.Exif()
    exif[admission.ORIENTATION] = 6  # turn a quarter to the right
    sideways = encoded("PNG", exif=exif)
    assert np.array_equal(decoded(admission.admit(sideways, None, LIMITS)), np.rot90(PIXELS, -1))
    assert np.array_equal(decoded(admission.admit(sideways, (32, 24), LIMITS)), PIXELS)
    assert np.array_equal(decoded(admission.admit(sideways, (24, 32), LIMITS)), np.rot90(PIXELS, -1))


def test_each_odd_picture_has_its_outcome() -> None:
    deep = Image.fromarray(np.full((24, 32), 0x80FF, np.uint16))
    clear = Image.fromarray(np.dstack([PIXELS, np.zeros((24, 32), np.uint8)]))
    frames = [Image.fromarray(np.full((24, 32, 3), value, np.uint8)) for value in (10, 200)]
    films = {kind: encoded(kind, frames[0], save_all=True, append_images=frames[1:]) for kind in ("GIF", "PNG")}
    outcomes = {
        "mode_CMYK": encoded("JPEG", Image.fromarray(PIXELS).convert("CMYK")),
        "mode_I_16": encoded("PNG", deep),
        "mode_RGBA": encoded("PNG", clear),
        "format": films["GIF"],
        "animated": films["PNG"],
    }
    results = {why: admission.admit(data, None, LIMITS) for why, data in outcomes.items()}
    for why, result in results.items():
        assert decoded(result).shape == (24, 32, 3)
        assert isinstance(result, admission.Admitted)
        assert (result.converted, result.kind) == (why, "png")
    assert (decoded(results["mode_I_16"]) == 0x80).all()
    assert (decoded(results["mode_RGBA"]) == 255).all()
    assert (decoded(results["animated"]) == 10).all()


def test_sixteen_bits_of_rgb_become_their_high_bytes() -> None:
    pixels_HWC = np.random.default_rng(1).integers(0, 1 << 16, (24, 32, 3), dtype=np.uint16)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels_HWC)
    header = (32).to_bytes(4, "big") + (24).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])  # bits, RGB
    deep = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        deep += len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    admitted = admission.admit(deep, None, LIMITS)
    assert np.array_equal(decoded(admitted), pixels_HWC >> 8)
    assert isinstance(admitted, admission.Admitted)
    assert (admitted.kind, admitted.converted) == ("png", "mode_RGB_16")


@pytest.mark.parametrize(
    ("data", "size", "reason", "detail"),
    [
        (b"", None, "empty_file", "no bytes"),
        (b"<html>404</html>", None, "not_a_picture", "none of "),
        (encoded("PNG")[:900], None, "broken_picture", "OSError: "),
        (encoded("JPEG", np.zeros((24, 32, 3), np.uint8))[:300], None, "broken_picture", "OSError: "),
        (encoded("PNG", np.zeros((101, 100), np.uint8)), None, "too_large", "100x101 pixels, 10000 at most"),
        (encoded("PNG", np.zeros((7, 100), np.uint8)), None, "too_small", "100x7 pixels, 8 at least"),
        (encoded("TIFF", np.zeros((24, 32), np.float32)), None, "unusual_depth", "mode F: "),
        (encoded("TIFF", np.zeros((24, 32), np.int32)), None, "unusual_depth", "mode I: "),
        (encoded("PNG"), (33, 24), "size_mismatch", "32x24, but annotated at 33x24"),
    ],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, size: tuple[int, int] | None, reason: str, detail: str) -> None:
    refused = admission.admit(data, size, LIMITS)
    assert isinstance(refused, Failure)
    assert refused.reason == reason and refused.detail.startswith(detail)


def test_a_picture_too_large_for_the_memory_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(admission, "_admitted", full)
    assert admission.admit(encoded(), None, LIMITS) == ("out_of_memory", "while it was decoded")


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_picture_of_exactly_a_limit_is_kept(height: int, width: int) -> None:
    picture = encoded(pixels=PIXELS[:height, :width])
    side, area = min(height, width), height * width
    for limits, reason in (
        ((side, area), None),
        ((side + 1, area), "too_small"),
        *([((side, area - 1), "too_large")] if area > 1 else []),  # no limit is below one pixel
    ):
        admitted = admission.admit(picture, None, admission.Limits(min_side=limits[0], max_pixels=limits[1]))
        if reason is None:
            assert isinstance(admitted, admission.Admitted)
            assert (admitted.height, admitted.width) == (height, width)
            assert admitted.sha256 == hashlib.sha256(admitted.encoded).hexdigest()
        else:
            assert isinstance(admitted, Failure)
            assert admitted.reason == reason


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    bomb = bytearray(encoded("PNG", np.zeros((24, 32), np.uint8)))
    bomb[16:24] = side.to_bytes(4, "big") * 2  # the size its header claims
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    refused = admission.admit(bytes(bomb), None, admission.Limits(min_side=1, max_pixels=100_000_000))
    assert isinstance(refused, Failure)
    assert refused.reason == "too_large"


FORMATS = [encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_bytes_are_an_outcome_and_never_an_exception(good: bytes, data: st.DataObject) -> None:
    harmed = bytearray(good[: data.draw(st.integers(1, len(good)))])
    for place in data.draw(st.lists(st.integers(0, len(harmed) - 1), max_size=12)):
        harmed[place] = data.draw(st.integers(0, 255))
    outcome = admission.admit(bytes(harmed), None, LIMITS)
    assert isinstance(outcome, Failure) or decoded(outcome).size


# ---- lists ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two different pictures with the same base name."""
    for number, folder in enumerate(("a", "b")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "same.png").write_bytes(encoded(pixels=PIXELS[number:]))
        (tmp_path / "in" / folder / "same.txt").write_text(f"picture {folder}\n")
    return tmp_path


RECORDS = [{"image": f"{folder}/same.png", "caption": f"picture {folder}"} for folder in ("a", "b")]


def tarred(path: Path, samples: list[dict[str, bytes]]) -> None:
    members = [
        (f"{number:09d}.{kind}", content) for number, sample in enumerate(samples) for kind, content in sample.items()
    ]
    archived(path, members)


def archived(path: Path, members: list[tuple[str, bytes]]) -> None:
    """A tar of these members, by name and content; a text as content is the name of another member to link to.

    What ends in a slash is a folder.
    """
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def written(root: Path, kind: str) -> str:
    """The two pictures as a source of that kind."""
    path = root / "in" / f"list.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(RECORDS))
        case "csv":
            pd.DataFrame(RECORDS).to_csv(path, index=False)
        case "parquet":
            pd.DataFrame(RECORDS).to_parquet(path)
        case "tar":
            files = [(root / "in" / record["image"]).read_bytes() for record in RECORDS]
            extra = json.dumps({"caption": "picture b", "status": "success"}).encode()
            tarred(path, [{"png": files[0], "txt": b"picture a", "json": b"{}"}, {"png": files[1], "json": extra}])
        case "folder":
            return str(root / "in")
    return str(path)


@pytest.mark.parametrize("kind", ["json", "csv", "parquet", "tar", "folder"])
def test_equal_base_names_stay_apart_in_every_kind_of_list(two: Path, kind: str) -> None:
    counts = ingested(two, source="captioned", train={"path": written(two, kind), "root": None})
    images = table(two, "images")
    assert images["caption"].tolist() == ["picture a", "picture b"]
    assert images["key"].is_unique
    assert [stored(two, key) for key in images["key"]] == [
        (two / "in" / record["image"]).read_bytes() for record in RECORDS
    ]
    assert counts == {"train_pictures": 2, "train_instances": 0, "val_pictures": 0, "val_instances": 0}


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
rows = st.lists(st.tuples(texts, texts | st.sampled_from(['say "ah"', "a, b", "one\ntwo"])), min_size=1, max_size=4)


@given(rows)
def test_a_csv_with_a_byte_order_mark_reads_as_one_without(rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("image", "caption"), *rows])
    read = []
    with fsspec.filesystem("memory").open("/list.csv", "wb") as plain:
        plain.write(stream.getvalue().encode())
    read.append(lists.captioned("memory://list.csv", "/in"))
    with fsspec.filesystem("memory").open("/list.csv", "wb") as marked:
        marked.write(codecs.BOM_UTF8 + stream.getvalue().encode())
    read.append(lists.captioned("memory://list.csv", "/in"))
    assert read[0] == read[1]
    assert [record.caption for record in read[1] if isinstance(record, records.File)] == [
        caption for _, caption in rows
    ]


@given(st.lists(st.text(max_size=90), max_size=5))
def test_a_key_is_unique_belongs_to_its_record_and_fits_into_a_shard(names: list[str]) -> None:
    listed = [records.File(name, "", "") for name in names]
    keys = [job.key for job in ingest.keyed(listed)]
    assert [job.record for job in ingest.keyed(listed)] == listed
    assert len(set(keys)) == len(keys)
    assert [shard._named(key) for key in keys] == keys
    assert sorted(job.key for job in ingest.keyed(listed[::-1])) == sorted(keys)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("a.png", "a"),
        ("pictures/of dogs/a b.c.png", "a-b-c"),
        ("pictures/a", "a"),
        ("pictures/.png", "png"),
        ("pictures/-.png", ""),
    ],
)
def test_a_key_begins_with_the_file_s_own_name_as_far_as_it_can_be_read(name: str, readable: str) -> None:
    (job,) = ingest.keyed([records.File(name, "", "")])
    *words, digest = job.key.split("-")
    assert "-".join(words) == readable
    assert len(digest) == 16


def test_the_longest_name_of_a_record_makes_a_key_that_fits_into_a_shard() -> None:
    (job,) = ingest.keyed([records.File(f"{'long-name' * 20}.png", "", "")])
    assert shard._named(job.key) == job.key
    assert job.key.startswith("long-namelong-name")
    assert len(job.key) == 48 + 1 + 16


def test_the_keys_of_a_record_and_its_repetitions_are_the_same_from_version_to_version() -> None:
    listed = [records.File("a/one.png", "", "")] * 3
    assert [job.key for job in ingest.keyed(listed)] == [
        "one-d4dbdaa9c3d4d4ad",
        "one-732563109973c4d7",
        "one-95c9af55a763dad2",
    ]


def test_a_file_of_this_machine_is_known_by_its_size_and_no_other_place_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"abc")
    here = str(tmp_path / "a.png")
    assert [ingest._size(record) for record in (records.File("", here, ""), records.Label("", here))] == [3, 3]
    for url in ("", "s3://bucket/a.png", f"{here}.no", "a\0b"):
        assert ingest._size(records.File("", url, "")) is None
    assert ingest._size(records.Member("", here, 0, 3, "")) is None


@pytest.mark.parametrize("kind", ["json", "csv", "tar", "folder"])
def test_a_byte_order_mark_is_no_part_of_a_caption(two: Path, kind: str) -> None:
    path = Path(written(two, kind))
    if kind == "tar":
        captions = [b"picture a", json.dumps({"caption": "picture b"}).encode()]
        admission = [(two / "in" / record["image"]).read_bytes() for record in RECORDS]
        marked = [codecs.BOM_UTF8 + caption for caption in captions]
        tarred(path, [{"png": admission[0], "txt": marked[0]}, {"png": admission[1], "json": marked[1]}])
    for file in [*path.glob("*/*.txt")] if kind == "folder" else [path] if kind != "tar" else []:
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    ingested(two, source="captioned", train={"path": str(path), "root": None})
    assert table(two, "images")["caption"].tolist() == ["picture a", "picture b"]


def test_a_byte_order_mark_is_no_part_of_the_first_file_a_list_of_labels_names(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(codecs.BOM_UTF8 + b"label_1.json\n\n label_2.json \n")
    assert [record.name for record in lists.labelled(f"{tmp_path}/train.txt")] == ["label_1.json", "label_2.json"]


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_a_picture_is_one_whatever_the_case_of_its_suffix(tmp_path: Path, suffix: str, kind: str) -> None:
    for place, written_as in enumerate((suffix, suffix.upper(), suffix.capitalize())):
        name = f"{place}{written_as}"
        if kind == "tar":
            extra = {"TXT": b"sky"} if place else {"Json": b'{"caption": "sky"}'}
            path = tmp_path / f"{place}.tar"
            tarred(path, [{written_as.removeprefix("."): encoded(), **extra}])
            (record,) = lists.captioned(str(path), None)
        else:
            folder = tmp_path / str(place)
            folder.mkdir()
            (folder / name).write_bytes(encoded())
            (folder / f"{place}.txt").write_text("sky")
            (record,) = lists.captioned(str(folder), None)
        loaded = record.load()
        assert isinstance(loaded, records.Loaded)
        assert (loaded.encoded, loaded.caption) == (encoded(), "sky")


def test_relative_paths_start_where_the_list_lies_or_at_the_root_and_others_stay(two: Path) -> None:
    far = f"{two}/in/b/same.png"
    (two / "list.json").write_text(json.dumps([RECORDS[0], {"image": far, "caption": ""}]))
    (two / "in" / "list.json").write_text((two / "list.json").read_text())
    here = lists.captioned(f"{two}/in/list.json", None)
    elsewhere = lists.captioned(f"{two}/list.json", f"{two}/in/")
    for listed in (here, elsewhere):
        assert [record.url for record in listed if isinstance(record, records.File)] == [f"{two}/in/a/same.png", far]


def test_a_record_with_a_null_in_its_list_is_a_reason(tmp_path: Path) -> None:
    pd.DataFrame({"image": ["a.png", None, ""], "caption": ["sky", "sky", "sky"]}).to_parquet(tmp_path / "list.parquet")
    read = lists.captioned(f"{tmp_path}/list.parquet", None)
    assert [type(record) for record in read] == [records.File, records.Wrong, records.Wrong]
    assert [record.name for record in read[1:]] == [f"{tmp_path}/list.parquet: record {number}" for number in (1, 2)]


def test_every_record_is_a_picture_or_a_reason(two: Path) -> None:
    (two / "in" / "zero.png").write_bytes(b"")
    records = [*RECORDS, RECORDS[0], {"image": "gone.png", "caption": ""}, {"image": "zero.png", "caption": ""}, 7, {}]
    (two / "in" / "list.json").write_text(json.dumps(records))
    counts = ingested(two, source="captioned", train={"path": f"{two}/in/list.json", "root": None})
    lost = table(two, "ledger", LEDGER)
    assert counts["train_pictures"] + len(lost) == len(records)
    assert lost["detail"][1].startswith("zero.png: ")
    assert set(table(two, "images")["group"]) == {"mixed"}
    assert lost["reason"].tolist() == ["missing_file", "empty_file", "bad_record", "bad_record"]
    assert lost["key"].is_unique
    assert table(two, "images")["key"].is_unique  # the same picture twice is two records


def test_text_that_is_none_and_stores_that_are_unknown_cost_no_other_record(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(url: str, mode: str) -> None:
        raise ImportError("Please install it")

    half = "\ud800"  # of a character, as JSON may spell it
    (two / "in" / "list.json").write_text(json.dumps([{"image": f"{half}.png", "caption": ""}, RECORDS[0]]))
    source = {"source": "captioned", "train": {"path": f"{two}/in/list.json", "root": None}}
    assert ingested(two, **source)["train_failed_unreadable_file"] == 1
    (two / "in" / "list.json").write_text(json.dumps([{**RECORDS[0], "caption": f"a {half} kite"}, RECORDS[1]]))
    assert ingested(two, **source)["train_failed_bad_text"] == 1
    assert table(two, "images")["caption"].tolist() == ["picture b"]
    monkeypatch.setattr(records.fsspec, "open", missing)
    refused = records.File("one", "store://one.png", "").load()
    assert isinstance(refused, Failure)
    assert refused == ("unreadable_file", "store://one.png: Please install it")


def test_records_that_failed_are_tried_again_by_reason_and_no_other_is_read_again(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_size", lambda record: None)  # as of files in a store
    records = [*RECORDS, {"image": "late.png", "caption": "late"}]
    (two / "in" / "list.json").write_text(json.dumps(records))
    source = {"source": "captioned", "train": {"path": f"{two}/in/list.json", "root": None}}
    assert ingested(two, **source)["train_failed_missing_file"] == 1
    (two / "in" / "late.png").write_bytes(encoded())
    (two / "in" / "a" / "same.png").unlink()
    assert ingested(two, **source)["train_failed_missing_file"] == 1
    retry = {**WORK.model_dump(), "retry": ("missing_file",)}
    assert ingested(two, **source, work=retry)["train_pictures"] == 3
    assert table(two, "images")["caption"].tolist() == ["picture a", "picture b", "late"]
    assert len(pictures(two / "out")) == 3
    assert not (two / "out" / ".images.parts").exists()


def test_a_damaged_tar_gives_what_stands_before_the_damage(tmp_path: Path) -> None:
    tarred(tmp_path / "whole.tar", [{"png": encoded(), "txt": b"x"}] * 3)
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:8000])
    counts = ingested(tmp_path, source="captioned", train={"path": f"{tmp_path}/*.tar", "root": None})
    assert counts["train_failed_broken_tar"] == 1
    assert 3 < counts["train_pictures"] < 6


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("list.json", b"{", "list.json: not a readable JSON file"),
        ("list.json", b"{}", "list.json: expected a list"),
        ("list.csv", b"image,text\n", "list.csv: column 'caption' is missing"),
        ("list.csv", b"\xff\xfe\xff", "list.csv: not a readable CSV"),
        ("list.parquet", b"PAR1", "list.parquet: not a readable Parquet"),
        ("nowhere", None, "nowhere: no such folder"),
        ("nowhere.json", None, "nowhere.json: no such file"),
        ("list.csv", b"", "list.csv: column 'image' is missing; there are none"),
        ("none-*.tar", None, "no such tar"),
        ("list.json", b"[]", "the source of training pictures is empty"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        ingested(tmp_path, source="captioned", train={"path": f"{tmp_path}/{name}", "root": None})
    assert not (tmp_path / "out").exists() or contents(tmp_path / "out") == {}


@pytest.mark.parametrize(("share", "train", "val"), [(0.0, 2, 0), (0.5, 1, 1)])
def test_the_held_out_share_is_of_the_training_pictures(two: Path, share: float, train: int, val: int) -> None:
    counts = ingested(two, source="captioned", train={"path": written(two, "json"), "root": None}, val_share=share)
    assert (counts["train_pictures"], counts["val_pictures"]) == (train, val)


def test_pictures_for_validation_alone_are_all_of_them_and_none_is_held_out(two: Path) -> None:
    sources = {split: {"path": written(two, kind), "root": None} for split, kind in (("train", "json"), ("val", "csv"))}
    counts = ingested(two, source="captioned", **sources, val_share=1.0)
    assert (counts["train_pictures"], counts["val_pictures"]) == (2, 2)
    for split, kind in (("train", ".tar"), ("val", ".png")):
        assert {path.suffix for path in (two / "out" / "pictures" / split).iterdir()} == {kind}
    (two / "in" / "list.csv").write_text("image,caption\ngone.png,sky\n")
    with pytest.raises(ValueError, match="none of the 1 records of the source"):
        ingested(two, source="captioned", **sources)
    (two / "in" / "list.csv").write_text("image,caption\n")
    with pytest.raises(ValueError, match="the source of validation pictures is empty"):
        ingested(two, source="captioned", **sources)


def test_the_limits_of_pictures_reach_ingest(two: Path) -> None:
    source = {"source": "captioned", "train": {"path": written(two, "json"), "root": None}}
    for limits, reason in (
        ({"min_side": 24, "max_pixels": 10_000}, "small"),
        ({"min_side": 8, "max_pixels": 767}, "large"),
    ):
        counts = ingested(two, **source, limits=limits)  # one picture of 32x24, one of 32x23
        assert (counts["train_pictures"], counts[f"train_failed_too_{reason}"]) == (1, 1)


def test_which_pictures_are_held_out_is_the_same_from_version_to_version() -> None:
    assert [number for number in range(16) if ingest._held_out(f"k{number}", 0.5)] == [4, 7, 9, 11, 14, 15]


def test_each_tar_is_a_pack_and_another_caption_or_label_under_the_same_name_is_read(tmp_path: Path) -> None:
    source = {"source": "captioned", "train": {"path": f"{tmp_path}/*.tar", "root": None}}
    for caption in (b"one", b"two"):
        for name in "ab":
            tarred(tmp_path / f"{name}.tar", [{"png": PNG, "txt": caption}])
        ingested(tmp_path, **source)
        assert table(tmp_path, "images")["caption"].tolist() == [caption.decode()] * 2
    assert len(list((tmp_path / "out" / "pictures" / "train").iterdir())) == 2
    for caption in ("sky", "blue sky"):
        label = {"image": base64.b64encode(PNG).decode(), "caption": caption, "annos": []}
        (tmp_path / "label.json").write_text(json.dumps(label))
        ingested(tmp_path, source="labelled", train=str(tmp_path))
        assert table(tmp_path, "images")["caption"].tolist() == [caption]


def test_a_store_whose_package_is_not_there_is_one_sentence(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(lists, "captioned", missing)
    with pytest.raises(ValueError, match="the store of the source cannot be read: Install s3fs"):
        ingested(two, source="captioned", train={"path": "s3://a/list.json", "root": None})


def test_a_retry_ends_in_the_bytes_of_a_run_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_size", lambda record: None)  # as of files in a store
    crowd, kept = anno(1, iscrowd=1), anno(2, image_id=8)
    page = {"images": [IMAGE, {**IMAGE, "id": 8, "file_name": "film.gif"}]}
    source = coco_files(tmp_path, [anno(0), kept, {**crowd, "image_id": 8}], **page)
    (tmp_path / "in" / "film.gif").write_bytes(encoded("GIF"))
    (tmp_path / "in" / "same.png").rename(tmp_path / "late.png")
    common = {"source": "coco", "train": source, "val": source}
    counts = ingested(tmp_path, **common)
    assert counts["train_failed_missing_file"] == counts["val_failed_missing_file"] == 1
    (tmp_path / "late.png").rename(tmp_path / "in" / "same.png")
    counts = ingested(tmp_path, **common, work={**WORK.model_dump(), "retry": ("missing_file",)})
    assert (counts["train_converted_format"], counts["train_failed_crowd"], counts["val_instances"]) == (1, 1, 2)
    retried = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "before")
    assert ingested(tmp_path, **common) == counts
    assert contents(tmp_path / "out") == retried


def test_a_share_is_held_out_by_key_whatever_the_order(tmp_path: Path) -> None:
    files = [records.File(f"{number}.png", "", "") for number in range(200)]
    jobs = ingest.keyed(files)
    held = {key for key, _ in jobs if ingest._held_out(key, 0.25)}
    assert 25 < len(held) < 75
    assert held == {key for key, _ in ingest.keyed(files[::-1]) if ingest._held_out(key, 0.25)}


PNG = encoded()


@pytest.mark.parametrize(
    ("members", "captions", "reasons"),
    [
        ([("a.png", PNG), ("a.txt", b"1"), ("a.png", PNG), ("a.txt", b"2")], ["1", "2"], []),
        ([("a.png", PNG), ("a.txt", b"1"), ("a.txt", b"2")], ["1"], ["bad_record"]),
        (
            [("b.png", PNG), ("b.txt", b"0"), ("a.txt", b"1"), ("a.png", PNG), ("a.png", PNG)],
            ["0", "1"],
            ["no_caption"],
        ),
        ([("._a.png", b"mac"), ("a.png", PNG), ("._a.txt", b"mac"), ("a.txt", b"1")], ["1"], []),
        ([("__MACOSX/a.png", b"mac"), ("a.png", PNG), (".DS_Store", b""), ("a.txt", b"1")], ["1"], []),
        ([("v1.0/a.b.PNG", PNG), ("v1.0/a.b.TXT", b"1")], ["1"], []),
        ([("a.05.png", PNG), ("a.05.txt", b"1"), ("a.06.png", PNG), ("a.06.txt", b"2")], ["1", "2"], []),
        ([("a.jfif", encoded("JPEG")), ("a.txt", b"1"), ("b.jpe", encoded("JPEG")), ("b.txt", b"2")], ["1", "2"], []),
        ([("a.avif", encoded("AVIF")), ("a.json", b'\xef\xbb\xbf{"caption": "1"}')], ["1"], []),
        ([("a.png.gz", gzip.compress(PNG)), ("a.json.gz", gzip.compress(b'{"caption": "1"}'))], ["1"], []),
        ([("b.png", PNG), ("b.txt", b"0"), ("a.png.gz", b"\x1f\x8bno"), ("a.txt", b"1")], ["0"], ["unreadable_file"]),
        ([("b.png", PNG), ("b.txt", b"0"), ("a.png", PNG), ("a.txt", b"caf\xe9")], ["0"], ["bad_text"]),
        ([("b.png", PNG), ("b.txt", b"0"), ("a.heic", b"?"), ("a.txt", b"1")], ["0"], ["bad_record"]),
        ([("b.png", PNG), ("b.txt", b"0"), ("a.png", "b.png"), ("a.txt", b"1")], ["0"], ["bad_record"]),
        (
            [("c.png", PNG), ("c.txt", b"0"), ("a.png", PNG), ("b.png", PNG), ("a.txt", b"1"), ("b.txt", b"2")],
            ["0"],
            ["no_caption", "no_caption", "bad_record", "bad_record"],
        ),
    ],
)
def test_every_member_of_a_tar_is_in_a_record_or_a_reason(
    tmp_path: Path, members: list[tuple[str, bytes]], captions: list[str], reasons: list[str]
) -> None:
    archived(tmp_path / "some.tar", members)
    images, lost = taken(lists.captioned(f"{tmp_path}/some.tar", None))
    assert [image["caption"] for image in images] == captions
    assert [reason for _, reason, _ in lost] == reasons


def test_a_picture_of_a_tar_is_named_by_tar_and_key_and_by_what_tells_it_from_others_of_its_sample(
    tmp_path: Path,
) -> None:
    pairs = ["v1.0/", "v1.0/a.05", "v1.0/a.06", "not__MACOSX/b"]
    members = [(f"{name}.{kind}", PNG if kind == "png" else b" sky\n") for name in pairs[1:] for kind in ("png", "txt")]
    archived(tmp_path / "some.tar", [("v1.0/", b""), *members, ("c.v2.png", PNG), ("c.txt", b"sky")])
    read = lists.captioned(f"{tmp_path}/some.tar", None)
    names = ["v1.0/a.05", "v1.0/a.06", "not__MACOSX/b", "c"]
    assert [record.name for record in read] == [f"some.tar/{name}" for name in names]
    assert [getattr(record, "caption", None) for record in read] == ["sky"] * 4


@pytest.mark.parametrize(
    ("members", "reason", "detail"),
    [
        ([("a.txt", b"1")], "bad_record", "0 pictures in the sample"),
        (
            [("a.png", PNG), ("a.txt", b"1"), ("b.png", PNG), ("b.txt", b"2"), ("a.json", b"{}")],
            "bad_record",
            "0 pictures in the sample: its members must stand one after the other (tar --sort=name)",
        ),
        (
            [("a.png", PNG), ("a.txt", b"1"), ("a.png", PNG), ("a.jpg", PNG), ("a.txt", b"1")],
            "bad_record",
            "2 pictures in the sample",
        ),
        ([("a.heic", b"?"), ("a.txt", b"1")], "bad_record", ".heic is not read; convert it to PNG or JPEG"),
        ([("a.png", "b.png"), ("a.txt", b"1")], "bad_record", "a.png is a link or a sparse file"),
        ([("a.png", PNG)], "no_caption", "neither .txt nor a caption in .json stands beside it"),
        (
            [("a.png", PNG), ("a.json", b'["sky"]')],
            "no_caption",
            "neither .txt nor a caption in .json stands beside it",
        ),
        ([("a.png", PNG), ("a.json", b"{")], "bad_text", ".json: not a readable JSON file"),
        ([("a.png", PNG), ("a.txt.gz", b"\x1f\x8bno")], "bad_text", ""),
        ([("a.png", PNG), ("a.txt.gz", gzip.compress(b"sky")[:12])], "bad_text", ""),
        ([("a.png.gz", gzip.compress(PNG)[:99]), ("a.txt", b"1")], "unreadable_file", ""),
        ([("a.png.gz", gzip.compress(PNG)[:20] + b"\xff" * 99), ("a.txt", b"1")], "unreadable_file", ""),
    ],
)
def test_what_is_wrong_with_a_sample_is_said_and_what_to_do(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: str, detail: str
) -> None:
    archived(tmp_path / "some.tar", members)
    _, ((_, why, says),) = taken(lists.captioned(f"{tmp_path}/some.tar", None))
    assert why == reason and says.startswith(f"some.tar/a: {detail}")
    assert reason in {"bad_text", "unreadable_file"} or says.endswith(detail)


def test_a_text_of_a_tar_is_read_to_a_million_bytes_and_a_picture_to_the_limit_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, large = b"x" * (tars._MAX_TEXT + 9), bytes(2_000_000)
    samples = [{"png": PNG, "txt": long}, {"png.gz": gzip.compress(large), "txt.gz": gzip.compress(long)}]
    tarred(tmp_path / "some.tar", samples)
    first, second = (record.load() for record in lists.captioned(f"{tmp_path}/some.tar", None))
    assert isinstance(first, records.Loaded) and isinstance(second, records.Loaded)
    assert len(first.caption) == len(second.caption) == 2**20
    assert second.encoded == large
    monkeypatch.setattr(records, "MAX_PICTURE", 7)
    cut = lists.captioned(f"{tmp_path}/some.tar", None)[1].load()
    assert isinstance(cut, records.Loaded) and cut.encoded == large[:7]


def test_what_a_folder_hides_is_not_read_and_what_stands_above_it_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / ".data" / "in"
    for name in ("a", "deep/.trash/b", "deep/__MACOSX/c", "deep/d"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
        path.with_suffix(".txt").write_text(" sky\n")
    for written_as in (str(folder), f"{folder}/"):
        read = lists.captioned(written_as, None)
        assert [record.name for record in read] == ["a.png", "deep/d.png"]
        assert {image["caption"] for image in taken(read)[0]} == {"sky"}


@pytest.mark.parametrize(
    ("root", "name", "place"),
    [("r", "a/b", "r/a/b"), ("r/", "a", "r/a"), ("", "a", "a"), ("r", "/a", "/a"), ("r", "s3://b/a", "s3://b/a")],
)
def test_a_name_starts_at_its_root_unless_it_is_whole(root: str, name: str, place: str) -> None:
    assert urls.join(root, name) == place


def test_the_kind_of_a_list_is_known_whatever_the_case_of_its_suffix(two: Path) -> None:
    for kind in ("json", "csv", "parquet", "tar"):
        path = Path(written(two, kind))
        assert len(lists.captioned(str(path.rename(path.with_suffix(f".{kind.upper()}"))), None)) == 2
    (two / "LABELS.TXT").write_text("in/label.json\n")
    for name in ("label.JSON", "other.json", "note.md"):
        (two / "in" / name).touch()
    assert [record.url for record in lists.labelled(f"{two}/LABELS.TXT")] == [f"{two}/in/label.json"]
    (two / "in" / "list.JSON").unlink()
    assert [record.name for record in lists.labelled(f"{two}/in")] == ["label.JSON", "other.json"]


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a café".encode(), "a café"),
        ("a café".encode("utf-8-sig"), "a café"),
        ("a café".encode("utf-16"), "a café"),
        ("a café".encode("utf-16-be"), None),  # no byte order mark: NUL characters, not words
        ("a café".encode("cp1252"), None),
        (b"a \xf0\x9f kite", None),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "tar", "csv"])
def test_one_rule_reads_the_texts_of_every_source(tmp_path: Path, kind: str, text: bytes, caption: str | None) -> None:
    path = tmp_path / "in"
    path.mkdir()
    for name in ("good.png", "odd.png"):
        (path / name).write_bytes(PNG)
    if kind == "folder":
        (path / "good.txt").write_text("good")
        (path / "odd.txt").write_bytes(text)
    elif kind == "tar":
        path = tmp_path / "some.tar"
        archived(path, [("good.png", PNG), ("good.txt", b"good"), ("odd.png", PNG), ("odd.txt", text)])
    else:
        path, marked = path / "list.csv", text.startswith(codecs.BOM_UTF16)
        before = "image,caption\ngood.png,good\nodd.png,"
        path.write_bytes(
            f"{before}{caption}".encode("utf-16") if marked else before.encode() + text.removeprefix(codecs.BOM_UTF8)
        )
        if caption is None:
            with pytest.raises(ValueError, match=r"list\.csv: not a readable CSV file"):
                lists.captioned(str(path), None)
            return
    images, lost = taken(lists.captioned(str(path), None))
    assert [image["caption"] for image in images] == (["good"] if caption is None else ["good", caption])
    assert [reason for _, reason, _ in lost] == (["bad_text"] if caption is None else [])


def test_every_file_of_a_folder_is_in_a_record_or_a_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jfif", "c.AVIF", "d.heic", "._a.png", "g.jp2", "h.svg"):
        kind = {"jfif": "JPEG", "AVIF": "AVIF", "jp2": "JPEG2000"}.get(name.rpartition(".")[2], "PNG")
        (tmp_path / "in" / name).write_bytes(encoded(kind))
    for name in ("a.txt", "b.Txt", "c.txt", "d.txt", "e.txt", "._a.txt", "g.txt"):
        (tmp_path / "in" / name).write_text(name)
    images, lost = taken(lists.captioned(f"{tmp_path}/in", None))
    assert [image["caption"] for image in images] == ["a.txt", "b.Txt", "c.txt", "g.txt"]
    assert [reason for _, reason, _ in lost] == ["not_a_picture", "no_picture", "not_a_picture"]


def test_a_source_of_which_nothing_can_be_taken_is_an_error_that_names_the_main_reason(two: Path) -> None:
    (two / "in" / "list.json").write_text(json.dumps([{"image": "a/same.png"}, *RECORDS]))
    source = {"source": "captioned", "train": {"path": f"{two}/in/list.json", "root": f"{two}/elsewhere"}}
    said = "none of the 3 records of the source could be taken: 2 are missing_file, as .*elsewhere/a/same.png: "
    with pytest.raises(ValueError, match=said):
        ingested(two, **source)
    assert contents(two / "out") == {}
    (two / "in").rename(two / "elsewhere")
    (two / "in").mkdir()
    (two / "in" / "list.json").write_text(json.dumps([*RECORDS, {"image": "a/same.png"}]))
    assert ingested(two, **source)["train_pictures"] == 2


def test_a_caption_with_commas_of_its_own_is_never_cut(two: Path) -> None:
    (two / "in" / "list.csv").write_text("image,caption\na/same.png,a dog, on grass\nb/same.png,a cat\n")
    counts = ingested(two, source="captioned", train={"path": f"{two}/in/list.csv", "root": None})
    assert counts["train_failed_bad_record"] == 1
    assert table(two, "images")["caption"].tolist() == ["a cat"]


@pytest.mark.parametrize("name", ["list.jsonl", "pictures.zip", "some.tar.gz"])
def test_a_file_that_exists_is_not_a_folder_that_does_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(ValueError, match="is a file, and not of a kind that is read"):
        ingested(tmp_path, source="captioned", train={"path": f"{tmp_path}/{name}", "root": None})


# ---- coco and labelled ----------------------------------------------------------------------------------------------

SQUARE = [4.0, 2.0, 12.0, 2.0, 12.0, 10.0, 4.0, 10.0]
IMAGE = {"id": 7, "file_name": "same.png", "width": 32, "height": 24}


def anno(number: int, **change: Any) -> dict[str, Any]:
    plain = {"id": number, "image_id": 7, "category_id": 3, "bbox": [4, 2, 8, 8], "segmentation": [SQUARE]}
    return {**plain, "iscrowd": 0, **change}


def coco_files(root: Path, annotations: list[Any], pixels: Any = PIXELS, **page: Any) -> dict[str, str]:
    """One picture with two captions in COCO's files, fields of which may be others."""
    (root / "in").mkdir(exist_ok=True)
    (root / "in" / "same.png").write_bytes(encoded(pixels=pixels))
    whole = {"images": [IMAGE], "categories": [{"id": 3, "name": "kite"}], "annotations": annotations, **page}
    captions = {
        "annotations": [{"id": 9, "image_id": 7, "caption": "later"}, {"id": 2, "image_id": 7, "caption": "sky "}]
    }
    (root / "in" / "instances.json").write_text(json.dumps(whole))
    (root / "in" / "captions.json").write_text(json.dumps(captions))
    return {"pictures": f"{root}/in", **{name: f"{root}/in/{name}.json" for name in ("instances", "captions")}}


def coco(root: Path, annotations: list[dict[str, Any]], work: Any = None, **page: Any) -> Mapping[str, float]:
    return ingested(root, source="coco", train=coco_files(root, annotations, **page), work=work or WORK.model_dump())


def test_coco_keeps_categories_boxes_and_masks_and_names_its_crowds(tmp_path: Path) -> None:
    runs = {"size": [24, 32], "counts": [0, 24 * 8, 24 * 24]}
    counts = coco(tmp_path, [anno(1), anno(2, iscrowd=1), anno(3, segmentation=runs, bbox=[0, 0, 8, 24])])
    rows = table(tmp_path, "given", GIVEN_CAPTIONED)
    assert rows["index"].tolist() == [0, 1]
    assert rows["category"].tolist() == ["kite", "kite"]
    assert rows["box"][0].tolist() == [4 / 32, 2 / 24, 12 / 32, 10 / 24]
    expected = np.zeros((24, 32), bool)
    expected[2:10, 4:12] = True
    assert np.array_equal(masks.decode(Rle(size=(24, 32), counts=rows["mask"][0])), expected)
    assert masks.decode(Rle(size=(24, 32), counts=rows["mask"][1]))[:, :8].all()
    assert table(tmp_path, "images")["caption"].tolist() == ["sky"]
    assert counts["train_failed_crowd"] == 1


@given(st.integers(0, 31), st.integers(0, 23), st.integers(1, 32), st.integers(1, 24))
def test_a_polygon_and_runs_of_whole_pixels_are_these_pixels(x: int, y: int, across: int, down: int) -> None:
    right, bottom = min(32, x + across), min(24, y + down)
    expected = np.zeros((24, 32), bool)
    expected[y:bottom, x:right] = True
    polygon = [float(edge) for edge in (x, y, x + across, y, x + across, y + down, x, y + down)]
    flat = expected.T.ravel().astype(int)
    starts = np.flatnonzero(np.diff(flat, prepend=0, append=-1))
    runs = {"size": [24, 32], "counts": np.diff(starts, prepend=0).tolist()}
    annotation = Annotation("one", None, [x, y, across, down], None, None, False)
    annotations = [
        annotation._replace(segmentation=mask)
        for mask in ([polygon], runs, masks.encode(expected).model_dump(mode="json"))
    ]
    rows, failures = instances.rows_of(annotations, "k", 24, 32)
    assert failures == []
    for row in rows:
        assert np.array_equal(masks.decode(Rle(size=(24, 32), counts=row["mask"])), expected)
        assert np.allclose(row["box"], masks.box_of(expected), atol=1e-12)
    assert [row["index"] for row in rows] == [0, 1, 2]


def test_three_points_are_a_polygon() -> None:
    annotation = Annotation("one", None, [0, 0, 20, 10], [[0.0, 0.0, 20.0, 0.0, 0.0, 10.0]], None, False)
    ((row,), failures) = instances.rows_of([annotation], "k", 24, 32)
    assert failures == []
    mask = masks.decode(Rle(size=(24, 32), counts=row["mask"]))
    assert (mask[1, 2], mask[8, 18], mask[:, 21:].any(), mask[11:].any()) == (True, False, False, False)
    assert 80 <= mask.sum() <= 120


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [1, 2, 5, 0]},
        {"bbox": [32, 2, 5, 5]},
        {"bbox": [1, 24, 5, 5]},
        {"bbox": [1, 2, 5]},
        {"bbox": [1, 2, 5, True]},
        {"bbox": [1, 2, 5, "5"]},
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
        {"segmentation": [[1, 2, 3, 4, 5, True]]},
        {"segmentation": {"size": [32, 24], "counts": [0, 768]}},
        {"segmentation": {"size": [24, 32], "counts": [0, 767]}},
        {"bbox": None},
        {"bbox": [1, 2, 0, 5]},
        {"bbox": [40, 2, 5, 5]},
        {"bbox": [1, 2, float("nan"), 5]},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": {"size": [24, 31], "counts": "a"}},
        {"segmentation": {"size": [24, 32], "counts": "\x00"}},
        {"segmentation": {"size": [24, 32], "counts": [5, -5, 768]}},
        {"segmentation": 7},
    ],
)
def test_a_bad_annotation_is_a_reason_and_costs_no_other(tmp_path: Path, change: dict[str, Any]) -> None:
    counts = coco(tmp_path, [anno(1, **change), anno(2)])
    assert (counts["train_failed_bad_annotation"], counts["train_instances"]) == (1, 1)
    (lost,) = table(tmp_path, "ledger", LEDGER).to_dict("records")
    assert lost["index"] == 0
    assert "annotation 1:" in lost["detail"]


def test_a_picture_that_changed_before_a_retry_is_stored_as_its_row_says(tmp_path: Path) -> None:
    """The row of a picture that is done again is of the new bytes, and so is the file; its neighbour keeps its own."""
    other = {"id": 8, "file_name": "other.png", "width": 32, "height": 24}
    page = {"images": [IMAGE, other]}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "other.png").write_bytes(encoded(pixels=PIXELS // 2))
    bad = [anno(1), anno(2, bbox=None)]
    assert coco(tmp_path, bad, **page)["train_failed_bad_annotation"] == 1
    before = {row["caption"]: row["sha256"] for row in table(tmp_path, "images").to_dict("records")}
    again = WORK.model_copy(update={"retry": ("bad_annotation",)}).model_dump()
    coco(tmp_path, bad, pixels=255 - PIXELS, work=again, **page)
    images = table(tmp_path, "images")
    for row in images.to_dict("records"):
        assert hashlib.sha256(stored(tmp_path, row["key"])).hexdigest() == row["sha256"]
    after = dict(zip(images["caption"], images["sha256"], strict=True))
    assert after[""] == before[""]
    assert after["sky"] == hashlib.sha256(encoded(pixels=255 - PIXELS)).hexdigest() != before["sky"]


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ({"images": [IMAGE, {**IMAGE, "file_name": "b.png"}]}, r"images\.1: id 7 stands twice \(images\.0 has it"),
        ({"images": [IMAGE, {**IMAGE, "id": "7", "file_name": "b.png"}]}, r"images\.1: id 7 stands twice"),
        ({"images": [IMAGE, {**IMAGE, "id": 7.0, "file_name": "b.png"}]}, r"images\.1: id 7 stands twice"),
        ({"annotations": [anno(1), anno(2), anno(1)]}, r"annotations\.2: id 1 stands twice \(annotations\.0"),
        ({"annotations": [anno(1), anno("1")]}, r"annotations\.1: id 1 stands twice"),
        ({"categories": [{"id": 3, "name": "kite"}, {"id": 3, "name": "cat"}]}, "categories: 3 stands twice, as 'cat'"),
        ({"categories": [{"id": "3", "name": "kite"}, {"id": 3, "name": "cat"}]}, "categories: 3 stands twice"),
        ({"categories": [{"id": 3, "name": None}]}, r"categories\.0: name: "),
    ],
)
def test_an_id_that_stands_twice_is_refused(tmp_path: Path, page: dict[str, Any], says: str) -> None:
    files = coco_files(tmp_path, page.pop("annotations", [anno(1)]), **page)
    with pytest.raises(ValueError, match=says):
        lists.coco(**files)


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"category_id": 0}, "unknown_category", "annotation 5: category_id 0 is not among the categories"),
        ({"category_id": "4"}, "unknown_category", "annotation 5: category_id 4 is not among"),
        ({"category_id": "kite"}, "bad_annotation", "annotation 5: category_id: 'kite' is not a whole number"),
        ({"category_id": None}, "bad_annotation", "annotation 5: category_id: "),
        ({"image_id": 8}, "no_picture", "annotation 5: image_id 8 is not among the images"),
        ({"image_id": "same"}, "bad_record", "annotation 5: image_id: 'same' is not a whole number"),
        ({"image_id": True}, "bad_record", "annotation 5: image_id: True is not a whole number"),
        ({"id": "five"}, "bad_annotation", "annotation five: id: 'five' is not a whole number"),
        ({"iscrowd": 2}, "bad_annotation", "annotation 5: iscrowd: "),
        ({"iscrowd": "maybe"}, "bad_annotation", "annotation 5: iscrowd: "),
        ({"iscrowd": "1"}, "crowd", "annotation 5 marks a crowd"),
        ({"iscrowd": "True"}, "crowd", "annotation 5 marks a crowd"),
    ],
)
def test_every_annotation_that_is_not_taken_is_a_row_with_its_id(
    tmp_path: Path, change: dict[str, Any], reason: str, detail: str
) -> None:
    files = coco_files(tmp_path, [anno(1), {**anno(5), **change}, anno(2)])
    (image,), ((index, why, says),) = taken(lists.coco(**files))
    assert (len(image["given"]), why) == (2, reason)
    assert detail in says
    assert reason == "crowd" or says.startswith(f"{files['instances']}: annotations.1: ")
    assert index == (-1 if reason in {"no_picture", "bad_record"} else 1)


def test_numbers_as_text_are_read_and_fields_that_nobody_needs_stop_nothing(tmp_path: Path) -> None:
    records = [
        anno("1", image_id="7", category_id="3", iscrowd="0"),
        anno(2, iscrowd="false", area="large"),
        anno(3, iscrowd=None, area=-1),
        anno(4, iscrowd=False, score="high"),
    ]
    unused = [{"id": 3, "name": "kite"}, {"id": 9, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": None}, 5]
    for info in (None, [], "exported", {"comparable": 3}):
        files = coco_files(tmp_path, records, categories=unused, info=info, licenses=7)
        (image,), lost = taken(lists.coco(**files))
        assert (len(image["given"]), lost) == (4, [])


FLAT = [4.0, 2.0, 12.0, 2.0, 12.0, 10.0]


@pytest.mark.parametrize(
    ("segmentation", "same_as", "stray"),
    [
        ([[]], None, 1),
        ([SQUARE, [5.0, 5.0]], [SQUARE], 1),
        ([[5.0, 5.0, 6.0, 6.0], SQUARE, [], [5.0, 5.0]], [SQUARE], 3),
        ([[5.0, 5.0, 6.0, 6.0]], None, 1),
        ([[1, 2, 3, 4]], None, 1),
        (SQUARE, [SQUARE], 0),
        (np.reshape(FLAT, (-1, 2)).tolist(), [FLAT], 0),
        ([np.reshape(SQUARE, (-1, 2)).tolist(), [[5.0, 5.0]]], [SQUARE], 1),
        ([], None, 0),
        (None, None, 0),
    ],
)
def test_stray_pieces_of_polygons_go_counted_and_the_instance_stays(
    tmp_path: Path, segmentation: Any, same_as: Any, stray: int
) -> None:
    files = coco_files(tmp_path, [anno(1, segmentation=segmentation), anno(2, segmentation=same_as)])
    (image,), lost = taken(lists.coco(**files))
    first, second = [row["mask"] for row in image["given"]]
    assert first == second
    assert (first is None) == (same_as is None)
    pieces = "1 piece" if stray == 1 else f"{stray} pieces"
    went = f"annotation 1: {pieces} of fewer than three points went, the instance stays"
    assert lost == ([(0, "stray_polygon", went)] if stray else [])


def test_crowds_alone_are_remarked_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest._remark_on_crowds({"train_instances": 0, "val_instances": 0})  # of pictures with nothing but captions
    assert capsys.readouterr().err == ""
    coco(tmp_path, [anno(1, iscrowd=1), anno(2, iscrowd="1")])
    assert "all 2 annotations of train are marked iscrowd 1" in capsys.readouterr().err
    coco(tmp_path, [anno(1, iscrowd=1), anno(2)])
    assert "iscrowd" not in capsys.readouterr().err
    (tmp_path / "val").mkdir()
    val = coco_files(tmp_path / "val", [anno(1, iscrowd=1)])
    ingested(tmp_path, source="coco", train=coco_files(tmp_path, [anno(1)]), val=val)
    assert "all 1 annotations of val are marked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("captions", "caption", "reasons"),
    [
        ([{"id": 1, "image_id": 7, "caption": None}], "", []),
        ([{"id": 1, "image_id": 7, "caption": None}, {"id": 2, "image_id": "7", "caption": "sky"}], "sky", []),
        ([{"id": 1, "image_id": 7}], "", []),
        ([{"id": 1, "image_id": 7, "caption": 5}], "", ["bad_caption"]),
        (
            [{"id": 1, "image_id": 7, "caption": ["sky"]}, {"id": 3, "image_id": 7, "caption": "sea"}],
            "sea",
            ["bad_caption"],
        ),
    ],
)
def test_a_caption_that_is_absent_is_no_word(
    tmp_path: Path, captions: list[Any], caption: str, reasons: list[str]
) -> None:
    files = coco_files(tmp_path, [anno(1)])
    (tmp_path / "in" / "captions.json").write_text(json.dumps({"annotations": captions}))
    (image,), lost = taken(lists.coco(**files))
    assert image["caption"] == caption
    assert [reason for _, reason, _ in lost] == reasons
    assert all("captions.json: annotations.0: annotation 1: caption: " in detail for _, _, detail in lost)


@pytest.mark.parametrize("content", [b"[]", b'{"annotations": null}', b"{", b"caf\xe9"])
def test_a_fault_in_the_captions_names_the_captions(tmp_path: Path, content: bytes) -> None:
    files = coco_files(tmp_path, [anno(1)])
    (tmp_path / "in" / "captions.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"captions\.json: "):
        lists.coco(**files)


def test_a_files_name_may_have_the_separators_of_another_system(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.png").write_bytes(encoded())
    files = coco_files(tmp_path, [anno(1)], images=[{**IMAGE, "file_name": "deep\\a.png"}])
    assert len(taken(lists.coco(**files))[0]) == 1


def test_coco_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    for page, says in (
        ({"images": None}, r"instances\.json: images: a list is expected"),
        ({"categories": {}}, r"instances\.json: categories: a list is expected"),
        ({"images": [{"id": 1}]}, r"1 are bad_record, as .*instances\.json: images\.0: image 1: file_name: "),
    ):
        with pytest.raises(ValueError, match=says):
            coco(tmp_path, [], **page)


def test_the_references_own_labels_are_read(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), bool)
    mask[2:10, 4:12] = True
    rle = masks.encode(mask)
    annotation = {"bbox": [4, 2, 8, 8], "mask": {"size": [24, 32], "counts": rle.counts}, "category_name": "kite"}
    label = {
        "image": base64.b64encode(encoded("JPEG")).decode(),
        "caption": "sky",
        "annos": [{**annotation, "caption": "a red kite"}, {**annotation, "caption": ""}],
    }
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "label_1.json").write_text(json.dumps(label))
    (tmp_path / "labels" / "label_2.json").write_text(json.dumps({**label, "image": "not base64!"}))
    (tmp_path / "labels" / "label_3.json").write_text("[]")
    (tmp_path / "labels" / "label_4.json").write_text(json.dumps({**label, "caption": None, "annos": []}))
    (tmp_path / "labels" / "label_5.json").write_text(json.dumps({**label, "caption": 7}))
    counts = ingested(tmp_path, source="labelled", train=f"{tmp_path}/labels")
    rows = table(tmp_path, "given", GIVEN_CAPTIONED)
    assert rows["caption"].tolist() == ["a red kite", None]
    assert rows["mask"].tolist() == [rle.counts, rle.counts]
    assert table(tmp_path, "images")["caption"].tolist() == ["sky", ""]  # absent text is no word
    assert stored(tmp_path, table(tmp_path, "images")["key"][0]) == encoded("JPEG")
    assert (counts["train_failed_unreadable_file"], counts["train_failed_bad_record"]) == (1, 2)


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"annos": None}, "bad_record", "not a label file ("),
        ({"annos": [{}]}, "bad_record", "the field 'bbox' is missing"),
        ({"caption": 7}, "bad_record", "caption: 7 is not text"),
        ({"image": "a b!"}, "unreadable_file", ""),
    ],
)
def test_a_label_that_is_none_says_what_is_wrong_and_one_that_is_has_words_without_space_around_them(
    tmp_path: Path, change: dict[str, Any], reason: str, says: str
) -> None:
    path = tmp_path / "label.json"
    annos = [{"bbox": [1, 2, 3, 4], "category_name": " kite\n", "caption": " "}]
    label = {"image": base64.b64encode(PNG).decode(), "caption": " sky ", "annos": annos}
    path.write_text(json.dumps(label))
    expected = (Annotation("anno 0", "kite", [1, 2, 3, 4], None, None, False),)
    assert records.Label("a", str(path)).load() == (PNG, "sky", None, expected)
    path.write_text(json.dumps({**label, **change}))
    refused = records.Label("a", str(path)).load()
    assert isinstance(refused, Failure)
    assert refused.reason == reason and refused.detail.startswith(f"{path}: {says}")


def test_a_picture_of_coco_has_the_size_that_its_file_says_and_its_own_caption_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    files: dict[str, Any] = coco_files(
        tmp_path, [anno(1, phrase=" a red kite ")], images=[{**IMAGE, "caption": " own "}]
    )
    (image,), lost = taken(lists.coco(**{**files, "captions": None}))
    assert (image["caption"], [row["caption"] for row in image["given"]], lost) == ("own", ["a red kite"], [])
    files = coco_files(tmp_path, [anno(1)], images=[{**IMAGE, "width": 33}])
    images, lost = taken(lists.coco(**files))
    assert (images, lost) == ([], [(-1, "size_mismatch", "same.png: 32x24, but annotated at 33x24")])


@pytest.mark.parametrize("field", ["category", "caption"])
def test_half_a_character_in_a_word_of_an_instance_is_a_reason(field: str) -> None:
    whole = Annotation("one", "kite", [4, 2, 8, 8], None, "a kite", False)
    rows, ((place, failure),) = instances.rows_of([whole, whole._replace(**{field: "\ud800"})], "k", 24, 32)
    assert len(rows) == place == 1
    assert failure == ("bad_annotation", f"one: {field}: holds half a character (a lone surrogate)")
    rows, ((_, failure),) = instances.rows_of([whole._replace(bbox=[40, 2, 8, 9])], "k", 24, 32)
    assert failure.detail == "one: bbox 40, 2, 8, 9 covers nothing of the picture"


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(bbox=any_json, segmentation=any_json | st.lists(st.lists(st.floats(), min_size=6, max_size=8), max_size=2))
def test_whatever_an_annotation_holds_it_is_a_row_or_a_reason(bbox: Any, segmentation: Any) -> None:
    rows, failures = instances.rows_of([Annotation("one", None, bbox, segmentation, None, False)], "k", 24, 32)
    assert len(rows) + len(failures) == 1
    rows, failures = instances.rows_of([Annotation("one", None, [1, 1, 9, 9], segmentation, None, False)], "k", 24, 32)
    assert len(rows) + sum(failure.reason != "stray_polygon" for _, failure in failures) == 1


def test_workers_change_nothing(two: Path) -> None:
    source = {"source": "captioned", "train": {"path": written(two, "json"), "root": None}}
    ingested(two, **source)
    alone = contents(two / "out")
    ingested(two, **source, work=TWO.model_dump())
    assert contents(two / "out") == alone
