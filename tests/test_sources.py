"""Real pictures at the door: where they come from, what becomes of the odd ones, and that nobody is lost."""

import base64
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data_world import TWO, WORK, contents
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import ingest
from data_prep.columns import GIVEN_CAPTIONED
from data_prep.sources import admission, instances, records
from data_prep.sources.records import Annotation
from instdiff import tables
from instdiff.layouts import masks
from instdiff.schema import Rle
from instdiff.tables import IMAGES, LEDGER
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


def table(root: Path, name: str, schema: Any = IMAGES) -> pd.DataFrame:
    return tables.read(root / "out" / name / "train.parquet", schema)


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_ordinary_pictures_are_kept_byte_for_byte(kind: str, suffix: str) -> None:
    admitted = admission.admit(encoded(kind), None, LIMITS)
    assert isinstance(admitted, admission.Admitted)
    assert (admitted.encoded, admitted.kind, admitted.converted) == (encoded(kind), suffix, None)


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
    made = {why: admission.admit(given, None, LIMITS) for why, given in outcomes.items()}
    for why, one in made.items():
        assert decoded(one).shape == (24, 32, 3)
        assert isinstance(one, admission.Admitted)
        assert (one.converted, one.kind) == (why, "png")
    assert (decoded(made["mode_I_16"]) == 0x80).all()
    assert (decoded(made["mode_RGBA"]) == 255).all()
    assert (decoded(made["animated"]) == 10).all()


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
    ("given", "size", "reason"),
    [
        (b"", None, "empty_file"),
        (b"<html>404</html>", None, "not_a_picture"),
        (encoded("PNG")[:900], None, "broken_picture"),
        (encoded("JPEG", np.zeros((24, 32, 3), np.uint8))[:300], None, "broken_picture"),
        (encoded("PNG", np.zeros((101, 100), np.uint8)), None, "too_large"),
        (encoded("PNG", np.zeros((7, 100), np.uint8)), None, "too_small"),
        (encoded("TIFF", np.zeros((24, 32), np.float32)), None, "unusual_depth"),
        (encoded("PNG"), (33, 24), "size_mismatch"),
    ],
)
def test_what_cannot_be_used_has_a_reason(given: bytes, size: tuple[int, int] | None, reason: str) -> None:
    refused = admission.admit(given, size, LIMITS)
    assert isinstance(refused, Failure)
    assert refused.reason == reason


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
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for kind, content in sample.items():
                member = tarfile.TarInfo(f"{number:09d}.{kind}")
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
            files = [(root / "in" / one["image"]).read_bytes() for one in RECORDS]
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
    assert [(two / "out" / "pictures" / "train" / file).read_bytes() for file in images["file"]] == [
        (two / "in" / one["image"]).read_bytes() for one in RECORDS
    ]
    assert counts == {"train_pictures": 2, "train_instances": 0, "val_pictures": 0, "val_instances": 0}


def test_every_record_is_a_picture_or_a_reason(two: Path) -> None:
    (two / "in" / "zero.png").write_bytes(b"")
    records = [*RECORDS, RECORDS[0], {"image": "gone.png", "caption": ""}, {"image": "zero.png", "caption": ""}, 7, {}]
    (two / "in" / "list.json").write_text(json.dumps(records))
    counts = ingested(two, source="captioned", train={"path": f"{two}/in/list.json", "root": None})
    lost = table(two, "ledger", LEDGER)
    assert counts["train_pictures"] + len(lost) == len(records)
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
    (two / "in" / "list.json").write_text(json.dumps([{**RECORDS[0], "caption": f"a {half} kite"}]))
    ingested(two, **source)
    assert table(two, "images")["caption"].tolist() == ["a ? kite"]
    monkeypatch.setattr(records.fsspec, "open", missing)
    refused = records.File("one", "store://one.png", "").load()
    assert isinstance(refused, Failure)
    assert refused == ("unreadable_file", "store://one.png: Please install it")


def test_records_that_failed_are_tried_again_by_reason_and_no_other_is_read_again(two: Path) -> None:
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
    assert len(list((two / "out" / "pictures" / "train").iterdir())) == 3
    assert not list((two / "out").glob(".images.parts-*"))


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
        ("list.csv", b"\xff\xfe", "list.csv: not a readable CSV"),
        ("list.parquet", b"PAR1", "list.parquet: not a readable Parquet"),
        ("nowhere", None, "nowhere: no such folder"),
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


def test_a_share_is_held_out_by_key_whatever_the_order(tmp_path: Path) -> None:
    files = [records.File(f"{number}.png", "", "") for number in range(200)]
    jobs = ingest.keyed(files)
    held = {key for key, _ in jobs if ingest._held_out(key, 0.25)}
    assert 25 < len(held) < 75
    assert held == {key for key, _ in ingest.keyed(files[::-1]) if ingest._held_out(key, 0.25)}


# ---- coco and labelled ----------------------------------------------------------------------------------------------

SQUARE = [4.0, 2.0, 12.0, 2.0, 12.0, 10.0, 4.0, 10.0]
IMAGE = {"id": 7, "file_name": "same.png", "width": 32, "height": 24}


def anno(number: int, **change: Any) -> dict[str, Any]:
    plain = {"id": number, "image_id": 7, "category_id": 3, "bbox": [4, 2, 8, 8], "segmentation": [SQUARE]}
    return {**plain, "iscrowd": 0, **change}


def coco(root: Path, annotations: list[dict[str, Any]], **page: Any) -> Mapping[str, float]:
    (root / "in").mkdir(exist_ok=True)
    (root / "in" / "same.png").write_bytes(encoded())
    whole = {"images": [IMAGE], "categories": [{"id": 3, "name": "kite"}], "annotations": annotations, **page}
    said = {"annotations": [{"id": 9, "image_id": 7, "caption": "later"}, {"id": 2, "image_id": 7, "caption": "sky "}]}
    (root / "in" / "instances.json").write_text(json.dumps(whole))
    (root / "in" / "captions.json").write_text(json.dumps(said))
    files = {"pictures": f"{root}/in", **{name: f"{root}/in/{name}.json" for name in ("instances", "captions")}}
    return ingested(root, source="coco", train=files)


def test_coco_keeps_categories_boxes_and_masks_and_names_its_crowds(tmp_path: Path) -> None:
    runs = {"size": [24, 32], "counts": [0, 24 * 8, 24 * 24]}
    counts = coco(tmp_path, [anno(1), anno(2, iscrowd=1), anno(3, segmentation=runs, bbox=[0, 0, 8, 24])])
    rows = table(tmp_path, "given", GIVEN_CAPTIONED)
    assert rows["index"].tolist() == [0, 1]
    assert rows["category"].tolist() == ["kite", "kite"]
    assert rows["box"][0].tolist() == [4 / 32, 2 / 24, 12 / 32, 10 / 24]
    expected = np.zeros((24, 32), bool)
    expected[2:10, 4:12] = True
    assert masks.iou(masks.decode(Rle(size=(24, 32), counts=rows["mask"][0])), expected) == 1
    assert masks.decode(Rle(size=(24, 32), counts=rows["mask"][1]))[:, :8].all()
    assert table(tmp_path, "images")["caption"].tolist() == ["sky"]
    assert counts["train_failed_crowd"] == 1


@pytest.mark.parametrize(
    "change",
    [
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


def test_coco_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    for page in ({"images": None}, {"categories": [{}]}, {"images": [{"id": 1}]}):
        with pytest.raises(ValueError, match=r"instances\.json: not COCO annotations"):
            coco(tmp_path, [], **page)


def test_the_references_own_labels_are_read(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), bool)
    mask[2:10, 4:12] = True
    rle = masks.encode(mask)
    one = {"bbox": [4, 2, 8, 8], "mask": {"size": [24, 32], "counts": rle.counts}, "category_name": "kite"}
    label = {
        "image": base64.b64encode(encoded("JPEG")).decode(),
        "caption": "sky",
        "annos": [{**one, "caption": "a red kite"}, {**one, "caption": ""}],
    }
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "label_1.json").write_text(json.dumps(label))
    (tmp_path / "labels" / "label_2.json").write_text(json.dumps({**label, "image": "not base64!"}))
    (tmp_path / "labels" / "label_3.json").write_text("[]")
    counts = ingested(tmp_path, source="labelled", train=f"{tmp_path}/labels")
    rows = table(tmp_path, "given", GIVEN_CAPTIONED)
    assert rows["caption"].tolist() == ["a red kite", None]
    assert rows["mask"].tolist() == [rle.counts, rle.counts]
    (file,) = table(tmp_path, "images")["file"]
    assert (tmp_path / "out" / "pictures" / "train" / file).read_bytes() == encoded("JPEG")
    assert (counts["train_failed_unreadable_file"], counts["train_failed_bad_record"]) == (1, 1)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(bbox=any_json, segmentation=any_json | st.lists(st.lists(st.floats(), min_size=6, max_size=8), max_size=2))
def test_whatever_an_annotation_holds_it_is_a_row_or_a_reason(bbox: Any, segmentation: Any) -> None:
    rows, failures = instances.given([Annotation("one", None, bbox, segmentation, None, False)], "k", 24, 32)
    assert len(rows) + len(failures) == 1
    rows, failures = instances.given([Annotation("one", None, [1, 1, 9, 9], segmentation, None, False)], "k", 24, 32)
    assert len(rows) + len(failures) == 1


def test_workers_change_nothing(two: Path) -> None:
    source = {"source": "captioned", "train": {"path": written(two, "json"), "root": None}}
    ingested(two, **source)
    alone = contents(two / "out")
    ingested(two, **source, work=TWO.model_dump())
    assert contents(two / "out") == alone
