"""Formats of other tools: what is written stands there as they read it, and what a format holds comes back."""

import base64
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from data_world import WORK, prepared, sharded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep import ingest
from data_prep.columns import GIVEN_CAPTIONED
from data_prep.commands import export
from data_prep.exchange.registry import FORMATS, Format
from data_prep.exchange.sample import Held, Sample
from data_prep.sources import instances
from data_prep.sources.records import Loaded, Record
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.schema import Box, Instance, Layout, Point
from instdiff.work.ledger import LEDGER, Ledger
from instdiff.work.outcomes import Failure

ROOT = Path(__file__).parents[3]
WIDTH, HEIGHT = 40, 20

each_format = pytest.mark.parametrize("entry", FORMATS.values(), ids=FORMATS)


def picture(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (90, 60, 30)).save(stream, "png")
    return stream.getvalue()


def block(rows: slice, columns: slice, width: int = WIDTH, height: int = HEIGHT) -> masks.Mask:
    mask_HW = np.zeros((height, width), dtype=np.bool_)
    mask_HW[rows, columns] = True
    return mask_HW


def sample(*own: Instance, key: str = "a", prompt: str = "a dog", width: int = WIDTH, height: int = HEIGHT) -> Sample:
    return Sample(key, picture(width, height), "png", width, height, Layout(key=key, prompt=prompt, instances=own))


DOG = Instance(
    phrase="a brown dog",
    category="dog",
    box=Box(0.25, 0.5, 0.75, 1.0),
    mask=masks.encode(block(slice(12, 20), slice(10, 30))),
    point=Point(0.5, 0.75),
    scribble=(Point(0.5, 0.75), Point(0.6, 0.8)),
)


def written(entry: Format, folder: Path, *samples: Sample) -> Ledger:
    failed = Ledger()
    folder.mkdir()
    entry.write(folder, iter(samples), failed)
    return failed


def came_back(record: Record, key: str = "a") -> tuple[Loaded, list[dict[str, Any]], list[tuple[int, Failure]]]:
    loaded = record.load()
    assert isinstance(loaded, Loaded), loaded
    size = loaded.size or (WIDTH, HEIGHT)
    return loaded, *instances.rows_of(loaded.annotations, key, size[1], size[0])


def test_the_numbers_of_each_format_are_those_of_its_readers(tmp_path: Path) -> None:
    for name, entry in FORMATS.items():
        assert written(entry, tmp_path / name, sample(DOG)).rows == []
    assert json.loads((tmp_path / "bbox/a.bbox").read_text()) == [
        {"label": "a brown dog", "bbox": [0.25, 0.5, 0.75, 1.0], "mask_path": "masks/a-0.png"}
    ]
    assert (tmp_path / "bbox/a.txt").read_text() == "a dog"
    coco = json.loads((tmp_path / "coco/instances.json").read_text())
    assert coco["images"] == [{"id": 1, "file_name": "a.png", "width": 40, "height": 20, "caption": "a dog"}]
    (annotation,) = coco["annotations"]
    assert annotation["bbox"] == [10.0, 10.0, 20.0, 10.0]
    assert (annotation["area"], annotation["iscrowd"], annotation["phrase"]) == (160.0, 0, "a brown dog")
    assert annotation["point"] == [20.0, 15.0] and annotation["scribble"] == [20.0, 15.0, 24.0, 16.0]
    assert coco["categories"] == [{"id": annotation["category_id"], "name": "dog"}]
    (row,) = map(json.loads, (tmp_path / "eligen/metadata.jsonl").read_text().splitlines())
    assert (row["prompt"], row["eligen_entity_prompts"]) == ("a dog", ["a brown dog"])
    with Image.open(tmp_path / "eligen" / row["eligen_entity_masks"][0]) as mask:
        assert np.array_equal(np.asarray(mask.convert("L")) == 255, block(slice(12, 20), slice(10, 30)))
    (shown,) = json.loads((tmp_path / "fiftyone/samples.json").read_text())["samples"]
    (detection,) = shown["ground_truth"]["detections"]
    assert (shown["filepath"], detection["label"], detection["caption"]) == ("data/a.png", "dog", "a brown dog")
    assert detection["bounding_box"] == [0.25, 0.5, 0.5, 0.5]
    inside = np.load(io.BytesIO(zlib.decompress(base64.b64decode(detection["mask"]))))
    assert inside.shape == (10, 20) and inside.dtype == np.bool_ and not inside[:2].any() and inside[2:].all()
    (row,) = pq.read_table(tmp_path / "layoutsam/layouts.parquet").to_pylist()
    assert (row["width"], row["height"], row["global_caption"]) == (40, 20, "a dog")
    assert (row["region_captions"], row["detail_region_captions"]) == ("['dog']", "['a brown dog']")
    assert row["bbox_list"] == "[[10.0, 10.0, 30.0, 20.0]]"
    assert (tmp_path / "yolo/labels/a.txt").read_text() == "0 0.5 0.75 0.5 0.5\n"
    assert "names:\n  0: dog\n" in (tmp_path / "yolo/data.yaml").read_text()
    for name in ("coco/pictures", "eligen/images", "fiftyone/data", "layoutsam", "yolo/images", "bbox"):
        assert (tmp_path / name / "a.png").read_bytes() == picture()


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Some pictures of their own sizes; each instance has a box around its mask, or one of both."""
    samples = []
    for number in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(4, 30)), draw(st.integers(4, 30))
        own = []
        for _ in range(draw(st.integers(0, 3))):
            left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
            right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
            has_box, has_mask = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
            mask_HW = block(slice(top, bottom), slice(left, right), width, height)
            mask_HW[top, left] = draw(st.booleans()) or not mask_HW.sum() > 1
            phrase = draw(st.sampled_from(["a red car", "ein Bär, groß", "two words", "it's"]))
            own.append(
                Instance(
                    phrase=phrase,
                    category=draw(st.sampled_from(["car", "bear", None])),
                    box=Box(left / width, top / height, right / width, bottom / height) if has_box else None,
                    mask=masks.encode(mask_HW) if has_mask else None,
                )
            )
        prompt = draw(st.sampled_from(["", "a street", 'quoted "words", a comma']))
        samples.append(sample(*own, key=f"k{number}", prompt=prompt, width=width, height=height))
    return tuple(samples)


@each_format
@given(samples=layouts())
def test_what_a_format_holds_comes_back(
    entry: Format, tmp_path_factory: pytest.TempPathFactory, samples: tuple[Sample, ...]
) -> None:
    folder = tmp_path_factory.mktemp("exchange") / "set"
    failed = written(entry, folder, *samples)
    records = {Path(record.name).stem: record for record in entry.read(str(folder))}
    assert records.keys() == {before.key for before in samples}
    noted = {(row["key"], row["index"], row["reason"]) for row in failed.rows}
    for before in samples:
        loaded, rows, failures = came_back(records[before.key], before.key)
        assert failures == [] and loaded.encoded == before.encoded
        assert loaded.size == (before.width, before.height)
        assert loaded.caption == (before.layout.prompt if "caption" in entry.holds else "")
        assert len(rows) == len(before.layout.instances)
        for index, (row, instance) in enumerate(zip(rows, before.layout.instances, strict=True)):
            assert_same(entry, row, instance, {reason for key, at, reason in noted if (key, at) == (before.key, index)})


def assert_same(entry: Format, row: dict[str, Any], instance: Instance, noted: set[str]) -> None:
    """What the format holds is the same; where something stood in for it, that was noted."""
    if "phrase" in entry.holds:
        assert row["caption"] == instance.phrase
    if "category" in entry.holds:
        assert row["category"] == (instance.category or instance.phrase)
        assert (instance.category is None) == ("category_from_phrase" in noted)
    if "box" in entry.holds and instance.box is not None:
        assert row["box"] == pytest.approx(list(instance.box), abs=1e-8)
    assert ("box_from_mask" in noted) == ("box" in entry.holds and instance.box is None)
    if "mask" in entry.holds and instance.mask is not None:
        assert row["mask"] == instance.mask.counts
    if instance.mask is None:
        assert (row["mask"] is None) != ("mask_from_box" in noted)


@each_format
@pytest.mark.parametrize("box", [None, Box(1.25, 0.0, 1.5, 1.0)], ids=["nowhere", "beyond the picture"])
def test_an_instance_without_a_place_is_not_written_and_noted(entry: Format, tmp_path: Path, box: Box | None) -> None:
    failed = written(entry, tmp_path / "set", sample(Instance(phrase="somewhere", box=box), DOG))
    (record,) = entry.read(str(tmp_path / "set"))
    assert len(came_back(record)[1]) == 1
    ((index, reason),) = [(row["index"], row["reason"]) for row in failed.rows]
    assert (index, reason) == (0, "no_mask" if "box" not in entry.holds else "no_box")


def test_what_of_a_mask_leaves_its_box_is_noted_where_masks_are_cut_to_boxes(tmp_path: Path) -> None:
    beyond = DOG.model_copy(update={"mask": masks.encode(block(slice(0, 20), slice(10, 30)))})
    assert [row["reason"] for row in written(FORMATS["fiftyone"], tmp_path / "set", sample(beyond)).rows] == [
        "mask_cut"
    ]


@each_format
def test_a_copy_of_shards_and_of_their_tables_is_the_same_and_counts_what_is_lost(
    entry: Format, tmp_path: Path, run: Path
) -> None:
    for name, data in (("shards", run / "shards"), ("tables", run)):
        counts = export.export(entry, data, tmp_path / name, "train")
        ledger = tables.read(tmp_path / f"{name}.ledger.parquet", LEDGER)
        reasons = dict(ledger["reason"].value_counts())
        assert {reason: count for reason, count in counts.items() if reason not in {"pictures", "instances"}} == reasons
        assert reasons.keys() == {f"lost_{held}" for held in entry.loses}
        assert counts["pictures"] == 5 and all(
            count == (5 if reason == "lost_caption" else counts["instances"]) for reason, count in reasons.items()
        )
        assert ((ledger["index"] == -1) == (ledger["reason"] == "lost_caption")).all()  # of the whole picture
    own = [
        sorted(path.relative_to(folder) for path in folder.rglob("*"))
        for folder in (tmp_path / "shards", tmp_path / "tables")
    ]
    assert own[0] == own[1] and len(own[0]) > 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    prepared(root)
    sharded(root)
    return root


@each_format
def test_what_was_exported_is_ingested(entry: Format, tmp_path: Path, run: Path) -> None:
    export.export(entry, run / "shards", tmp_path / "set", "train")
    source = {
        "source": "exchanged",
        "format": entry.name,
        "train": str(tmp_path / "set"),
        "val": None,
        "val_share": 0.0,
        "limits": {"min_side": 1, "max_pixels": 10**6},
        "work": WORK.model_dump(),
    }
    folders = {name: tmp_path / name for name in ("pictures", "images", "given", "ledger")}
    counts = ingest.run(**folders, params=ingest.Params.model_validate(source))
    before = tables.read(run / "annotated" / "train", ANNOTATED)
    assert (counts["train_pictures"], counts["train_instances"]) == (5, len(before))
    assert [reason for reason in counts if "failed" in reason] == []
    images = tables.read(tmp_path / "images" / "train", IMAGES)
    rows = tables.read(tmp_path / "given" / "train", GIVEN_CAPTIONED)
    assert sorted(images["sha256"]) == sorted(tables.read(run / "images" / "train", IMAGES)["sha256"])
    held = {"phrase": "caption", "category": "category", "mask": "mask"}
    for name, column in held.items():
        if name in entry.holds:
            assert sorted(rows[column]) == sorted(before[column])


def put(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def filled(name: str, content: str) -> Callable[[Path], None]:
    """A picture and one more file."""

    def fill(folder: Path) -> None:
        put(folder, "a.png", picture())
        put(folder, name, content)

    return fill


def bbox(text: str) -> Callable[[Path], None]:
    return filled("a.bbox", text)


def yolo(line: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        put(folder, "images/a.png", picture())
        put(folder, "labels/a.txt", line)
        put(folder, "classes.txt", "dog\ncat\n")

    return fill


def eligen(**row: Any) -> Callable[[Path], None]:
    whole = {"image": "a.png", "prompt": "", "eligen_entity_prompts": ["dog"], "eligen_entity_masks": ["m.png"]} | row
    return filled("metadata.json", json.dumps([whole]))


def layoutsam(**row: Any) -> Callable[[Path], None]:
    whole = {
        "file_name": "a.png", "width": 40, "height": 20, "global_caption": "",
        "region_captions": "['dog']", "detail_region_captions": "['a dog']", "bbox_list": "[[0, 0, 20, 10]]",
    } | row  # fmt: skip

    def fill(folder: Path) -> None:
        put(folder, "a.png", picture())
        pd.DataFrame([whole]).to_parquet(folder / "some.parquet")

    return fill


def fiftyone(**detection: Any) -> Callable[[Path], None]:
    whole = {"_cls": "Detection", "label": "dog", "bounding_box": [0.0, 0.0, 0.5, 0.5]} | detection
    content = {"samples": [{"filepath": "a.png", "truth": {"_cls": "Detections", "detections": [whole]}}]}
    return filled("samples.json", json.dumps(content))


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def saved(header: str) -> bytes:
    """As numpy saves an array: what it says of itself in a line, then its bytes."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16)


SQUARE = "{'descr': '|b1', 'fortran_order': False, 'shape': (4, 4)}\n"
NO_ARRAYS = (
    b"PK\x03\x04 of a zip archive",
    b"a text",
    saved("{'descr': '|b1', 'fortran_order': False, 'shape': (4, 4)}\n")[:40],
    saved("{'descr': '|b1', 'fortran_order': False, 'shape': (1000000, 1000000)}\n"),
    saved("{'descr': '|b1', 'fortran_order': False, 'shape': (-4, 4)}\n"),
    saved("{'descr': '|b1', 'fortran_order': False, 'shape': (4, " + 400 * "9" + ")}\n"),
    saved("{'descr': [1], 'fortran_order': False, 'shape': (4, 4)}\n"),
    saved("{'descr': '|O', 'fortran_order': False, 'shape': (4, 4)}\n"),
    saved("{'descr': " + "[" * 5000 + "\n"),
    saved("{[]: 1}\n"),
    saved("(\n"),
    saved("-" * 9000 + "1\n"),
)

FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("bbox", bbox('[{"label": "dog", "bbox": [1, 2, 30, 40]}]'), r"a\.bbox: entity 0: bbox: .* pixels\?"),
    ("bbox", bbox('[{"label": "dog", "bbox": [0.5, 0, 0.5, 1]}]'), r"a\.bbox: entity 0: bbox: .* covers nothing"),
    ("bbox", bbox('[{"label": "dog", "bbox": [0.5, 0, true, 1]}]'), r"entity 0: bbox: 'True' is no finite number"),
    ("bbox", bbox('{"label": "", "bbox": [0, 0, 1, 1]}'), r"a\.bbox: entity 0: label: text is expected"),
    ("bbox", bbox('[{"label": "dog", "bbox": [0, 0, 1, 1], "mask": "no.png"}]'), r"entity 0: .*no\.png: no such mask"),
    ("bbox", bbox('[{"label": "dog", "bbox": [0, 0, 1, 1], "mask_path": 3}]'), r"entity 0: mask: the name of a file"),
    ("bbox", bbox("dog 0.5 0.5 nan 1"), r"a\.bbox: line 1: bbox: .* no finite numbers"),
    ("bbox", bbox("[{"), r"a\.bbox: not a readable JSON file"),
    ("yolo", yolo("7 0.5 0.5 1 1"), r"a\.txt: line 1: class: '7' is not one of the 2 named classes"),
    ("yolo", yolo("\n \n7 0.5 0.5 1 1"), r"a\.txt: line 3: class: '7' is not one"),
    ("yolo", yolo("0 0.5 0.5 1 1 0.9"), r"a\.txt: line 1: 5 numbers after the class"),
    ("yolo", yolo("0 0.5 0.5 1 x"), r"a\.txt: line 1: box: .* are no numbers"),
    ("eligen", eligen(eligen_entity_masks=[]), r"metadata\.json: record 0: eligen_entity_masks: 0 masks for 1 prompts"),
    *(
        ("eligen", eligen(eligen_entity_prompts=prompts), r"record 0: eligen_entity_prompts: '.{1,60}' is no list$")
        for prompts in ("-" * 200_000 + "1", "[" * 1000, "1" + "+1" * 100_000, "dog")  # Python cannot read them
    ),
    ("eligen", eligen(image=""), r"metadata\.json: record 0: image: text is expected"),
    ("eligen", eligen(image=None), r"metadata\.json: record 0: image: text is expected"),
    ("eligen", eligen(), r"record 0: entity 0: .*m\.png: no such mask picture"),
    ("layoutsam", layoutsam(file_name=""), r"some\.parquet: row 0: file_name: text is expected"),
    ("layoutsam", layoutsam(region_captions="[' ']"), r"row 0: region 0: region_captions: text is expected, not ' '"),
    ("layoutsam", layoutsam(detail_region_captions="[3]"), r"region 0: detail_region_captions: text is expected"),
    ("layoutsam", layoutsam(width=0), r"some\.parquet: row 0: width: pixels are expected, not 0"),
    ("layoutsam", layoutsam(bbox_list="[[0, 0, 20]]"), r"row 0: region 0: bbox_list: 4 numbers are expected"),
    ("layoutsam", layoutsam(bbox_list="import os"), r"row 0: bbox_list: 'import os' is no list"),
    ("layoutsam", layoutsam(region_captions="[]"), r"row 0: bbox_list: 1 boxes for 0 and 1 captions"),
    ("fiftyone", fiftyone(bounding_box=[0, 0, 0.5]), r"samples\.json: sample 0: detection 0: bounding_box: 4 numbers"),
    *(
        ("fiftyone", fiftyone(mask=mask), r"sample 0: detection 0: mask: not an array of numpy's")
        for mask in ("AAAA", *map(packed, NO_ARRAYS), f"!{packed(saved(SQUARE))}")
    ),
    ("fiftyone", fiftyone(mask=packed(saved(SQUARE.replace("4, 4", "16,")))), r"mask: an array of rows and columns"),
    ("fiftyone", fiftyone(mask=3), r"detection 0: mask: text is expected"),
    ("fiftyone", fiftyone(mask_path=3), r"detection 0: mask_path: text is expected"),
    ("fiftyone", filled("samples.json", '{"samples": [{"filepath": ""}]}'), r"sample 0: filepath: text is expected"),
]


@pytest.mark.parametrize(("name", "fill", "sentence"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_one_sentence_with_file_record_and_field_and_costs_no_other(
    name: str, fill: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    (record,) = FORMATS[name].read(str(tmp_path))
    loaded = record.load()
    (failure,) = [loaded] if isinstance(loaded, Failure) else [why for _, why in came_back(record)[2]]
    assert re.search(sentence, failure.detail), failure.detail
    assert "\n" not in failure.detail


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bbox", "no .bbox file in this folder"),
        ("yolo", "neither data.yaml nor classes.txt"),
        ("eligen", "0 of metadata.json"),
        ("layoutsam", "no .parquet file"),
        ("fiftyone", "samples.json: no such file"),
        ("coco", "instances.json: no such file"),
    ],
)
def test_a_folder_that_is_not_in_the_format_is_refused_by_name(name: str, sentence: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png", picture())
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        FORMATS[name].read(str(tmp_path))
    assert str(tmp_path) in str(refused.value)


def bboxes(folder: Path) -> None:
    """Two pictures with sidecars and captions."""
    for stem in "ab":
        put(folder, f"{stem}.png", picture())
        put(folder, f"{stem}.bbox", '[{"label": "dog", "bbox": [0, 0, 1, 1]}]')
        put(folder, f"{stem}.txt", "a dog")


def yolos(folder: Path) -> None:
    """Two pictures with labels."""
    put(folder, "classes.txt", "dog\n")
    for stem in "ab":
        put(folder, f"images/{stem}.png", picture())
        put(folder, f"labels/{stem}.txt", "0 0.5 0.5 1 1")


@pytest.mark.parametrize(
    ("name", "fill", "file", "reason"),
    [
        ("bbox", bboxes, "a.bbox", "bad_record"),
        ("bbox", bboxes, "a.txt", "bad_text"),
        ("yolo", yolos, "labels/a.txt", "bad_record"),
    ],
)
def test_a_file_that_is_no_text_costs_its_own_picture_alone(
    name: str, fill: Callable[[Path], None], file: str, reason: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    put(tmp_path, file, b"caf\xe9")
    wrong, right = (record.load() for record in FORMATS[name].read(str(tmp_path)))
    assert isinstance(wrong, Failure) and wrong.reason == reason and f"{tmp_path}/{file}: " in wrong.detail
    assert isinstance(right, Loaded) and len(right.annotations) == 1


@pytest.mark.parametrize(
    ("name", "fill", "picture_file", "file"),
    [("bbox", bboxes, "a.png", "a.bbox"), ("yolo", yolos, "images/a.png", "labels/a.txt")],
)
def test_places_without_a_picture_are_a_reason_that_names_their_file(
    name: str, fill: Callable[[Path], None], picture_file: str, file: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    (tmp_path / picture_file).unlink()
    right, lone = FORMATS[name].read(str(tmp_path))
    assert isinstance(right.load(), Loaded)
    failure = lone.load()
    assert isinstance(failure, Failure) and (lone.name, failure.reason) == (file, "no_picture")
    assert failure.detail.startswith(f"{tmp_path}/{file}: no picture of the same name")


def test_the_classes_of_yolo_are_named_by_a_list_or_by_their_numbers(tmp_path: Path) -> None:
    yolos(tmp_path)
    for text in ("names: [cat, dog]", "names: {0: cat, 2: owl}", "names:\n  0: cat\n"):
        put(tmp_path, "data.yaml", text)  # before classes.txt, which is no label either
        assert [came_back(record)[1][0]["category"] for record in FORMATS["yolo"].read(str(tmp_path))] == ["cat"] * 2
    for text in ("names: {a: cat, 0: dog}", "names: cat", "[cat]", "names:"):
        put(tmp_path, "data.yaml", text)
        with pytest.raises(ValueError, match=r"data\.yaml: names: a list of the classes, or a map from numbers"):
            FORMATS["yolo"].read(str(tmp_path))


def test_the_detections_of_fiftyone_are_its_ground_truth_or_the_only_ones(tmp_path: Path) -> None:
    def labels(*fields: str) -> list[str]:
        detections = {
            field: {"_cls": "Detections", "detections": [{"label": field, "bounding_box": [0.0, 0.0, 0.5, 0.5]}]}
            for field in fields
        }
        filled("samples.json", json.dumps({"samples": [{"filepath": "a.png", **detections}]}))(tmp_path)
        (record,) = FORMATS["fiftyone"].read(str(tmp_path))
        return [row["category"] for row in came_back(record)[1]]

    assert labels() == []
    assert labels("mine") == ["mine"]
    assert labels("mine", "ground_truth", "yours") == ["ground_truth"]
    with pytest.raises(ValueError, match=r"samples\.json: several fields hold detections \(mine, yours\)"):
        labels("yours", "mine")


def test_a_mask_of_fiftyone_is_text_or_what_mongodb_makes_of_bytes_or_a_picture_of_its_box(tmp_path: Path) -> None:
    left, stream = np.zeros((10, 20), np.bool_), io.BytesIO()
    left[:, :5] = True
    np.save(stream, left)
    text = packed(stream.getvalue())
    Image.fromarray(left).save(tmp_path / "left.png")
    for how in (
        {"mask": text},
        {"mask": {"$binary": text}},
        {"mask": {"$binary": {"base64": text}}},
        {"mask_path": "left.png"},
    ):
        fiftyone(**how)(tmp_path)
        (record,) = FORMATS["fiftyone"].read(str(tmp_path))
        ((row,), failures) = came_back(record)[1:]
        assert failures == [] and row["mask"] == masks.encode(block(slice(0, 10), slice(0, 5))).counts, how


def test_a_sidecar_may_be_a_list_lines_of_objects_or_yolos(tmp_path: Path) -> None:
    texts = (
        '[{"label": "dog", "bbox": [0.25, 0.5, 0.75, 1]}]',
        '{"label": "dog", "bbox": [0.25, 0.5, 0.75, 1]}\n{"label": "dog", "bbox": [0.25, 0.5, 0.75, 1]}',
        "dog 0.5 0.75 0.5 0.5",
    )
    for number, text in enumerate(texts):
        put(tmp_path, f"{number}.png", picture())
        put(tmp_path, f"{number}.bbox", text)
    rows = [row for record in FORMATS["bbox"].read(str(tmp_path)) for row in came_back(record)[1]]
    assert [row["box"] for row in rows] == [[0.25, 0.5, 0.75, 1.0]] * 4
    assert {(row["category"], row["caption"]) for row in rows} == {("dog", "dog")}


def test_fractions_are_of_the_upright_picture(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (20, 40)), Image.Exif()
    exif[0x0112] = 6  # held sideways: 40 wide and 20 high once it is turned
    image.save(tmp_path / "a.jpg", exif=exif)
    put(tmp_path, "a.bbox", '[{"label": "dog", "bbox": [0.5, 0, 1, 1]}]')
    (record,) = FORMATS["bbox"].read(str(tmp_path))
    loaded = record.load()
    assert isinstance(loaded, Loaded) and loaded.size == (40, 20)
    (annotation,) = loaded.annotations
    assert not isinstance(annotation, Failure) and annotation.bbox == [20.0, 0.0, 20.0, 20.0]


def test_names_of_other_alphabets_stand_in_yolos_file_as_they_are_written(tmp_path: Path) -> None:
    cafe = Instance(phrase="a café", category="café 咖啡", box=Box(0.25, 0.5, 0.75, 1.0))
    assert written(FORMATS["yolo"], tmp_path / "yolo", sample(cafe)).rows == []
    assert "0: café 咖啡\n" in (tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "layoutsam"])  # whose file is no text
def test_texts_of_other_alphabets_stand_in_the_files_as_people_write_them(name: str, tmp_path: Path) -> None:
    texts = {"caption": "đường phố", "phrase": "un café", "category": "咖啡"}
    cafe = Instance(phrase=texts["phrase"], category=texts["category"], box=DOG.box, mask=DOG.mask)
    written(FORMATS[name], tmp_path / "set", sample(cafe, prompt=texts["caption"]))
    files = [path for path in (tmp_path / "set").rglob("*") if path.is_file() and path.suffix != ".png"]
    whole = "".join(path.read_text(encoding="utf-8") for path in files)
    assert {held for held, text in texts.items() if text in whole} == FORMATS[name].holds & texts.keys()


def test_a_polygon_of_yolo_is_a_mask_and_a_mask_of_another_size_is_resized(tmp_path: Path) -> None:
    yolo("1 0.25 0.5 0.75 0.5 0.75 1 0.25 1")(tmp_path / "yolo")
    (record,) = FORMATS["yolo"].read(str(tmp_path / "yolo"))
    ((row,), _) = came_back(record)[1:]
    assert row["category"] == "cat" and row["box"] == [0.25, 0.5, 0.75, 1.0]
    assert row["mask"] == masks.encode(block(slice(10, 20), slice(10, 30))).counts
    eligen()(tmp_path / "eligen")
    Image.fromarray(block(slice(0, 4), slice(0, 8), 8, 4)).resize((80, 40)).save(tmp_path / "eligen" / "m.png")
    (record,) = FORMATS["eligen"].read(str(tmp_path / "eligen"))
    assert came_back(record)[1][0]["box"] == [0.0, 0.0, 1.0, 1.0]


def test_the_page_says_what_each_format_holds() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|((?: (?:both|out|-) \|)+)$", page, re.MULTILINE))
    expected = {
        name: ["both" if held in entry.holds else "out" if held in entry.shows else "-" for held in get_args(Held)]
        for name, entry in FORMATS.items()
    }
    assert {name: [word.strip() for word in row.strip("|").split("|")] for name, row in rows.items()} == expected
    for name, entry in FORMATS.items():
        assert [held for held, word in zip(get_args(Held), expected[name], strict=True) if word == "-"] == [
            *entry.loses
        ]
    (heads,) = re.findall(r"^\| format \|(.*)\|$", page, re.MULTILINE)
    assert tuple(head.strip() for head in heads.split("|")) == get_args(Held)


def test_the_source_names_the_formats_that_there_are() -> None:
    assert get_args(ingest.Exchanged.model_fields["format"].annotation) == tuple(sorted(FORMATS))


def test_the_command_says_what_was_lost_and_overwrites_nothing(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["export", "yolo", str(run / "shards"), str(tmp_path / "set")])
    output = capsys.readouterr().out
    assert "5 pictures" in output and "lost_caption: 5" in output
    for words, sentence in (
        (["export", "yolo", str(run / "shards"), str(tmp_path / "set")], "exists already"),
        (["export", "yolo", str(tmp_path), str(tmp_path / "other")], "has neither index.arrow"),
        (["export", "yolo", str(run), str(tmp_path / "other"), "--split", "test"], "has neither index.arrow"),
    ):
        with pytest.raises(SystemExit):
            command.main(words)
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(folder: Path, samples: Iterator[Sample], failed: Ledger) -> None:
        put(folder, "half.txt", next(iter(samples)).key)
        raise OSError("the disk is full")

    broken = Format("x", "", FORMATS["yolo"].read, breaks, frozenset())
    with pytest.raises(OSError, match="the disk is full"):
        export.export(broken, run / "shards", tmp_path / "set", "train")
    assert list(tmp_path.iterdir()) == []
