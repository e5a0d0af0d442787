import base64
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from data_world import SHARD, WORK, contents, prepared, sharded
from hypothesis import given
from hypothesis import strategies as st

from data_prep import ingest, shard
from data_prep.columns import GIVEN_CAPTIONED
from data_prep.commands import export_labelled, validate_shards
from instdiff import __main__ as command
from instdiff.data import shards
from instdiff.data.index import INDEX, INDEX_FILE, write
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.schema import Box, Instance, Layout, Point


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    sharded(root)
    return root


def copied(world: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for name, content in contents(world / "shards").items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_bytes(content)
    return to


def test_sound_shards_have_no_fault_and_the_command_says_so(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["validate", "shards", str(world / "shards")])
    assert "3 shards, 5 samples" in capsys.readouterr().out


def rewrite(folder: Path, index: pd.DataFrame) -> None:
    write(folder / INDEX_FILE, [pa.Table.from_pandas(index, schema=INDEX, preserve_index=False)])


def rewritten(folder: Path, name: str, change: Callable[[str, bytes], bytes]) -> None:
    """A tar whose members are changed, and an index that agrees with its bytes."""
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(folder / name) as old:
        for member in old:
            key, _, kind = member.name.partition(".")
            content = old.extractfile(member)
            assert content is not None
            samples.setdefault(key, {})[kind] = change(member.name, content.read())
    (folder / name).unlink()
    places = {row["key"]: row for row in shard.write_members(folder / name, samples.items())}
    index = shards.read_index(folder)
    for column in ("offset", "size", "sha256"):
        index[column] = [
            places[key][column] if of == name else value
            for key, of, value in zip(index["key"], index["shard"], index[column], strict=True)
        ]
    rewrite(folder, index)


def half_picture(name: str, content: bytes) -> bytes:
    return content[: len(content) // 2] if name.endswith(".png") else content


def in_layout(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(".json.gz"):
            return content
        return gzip.compress(gzip.decompress(content).replace(old.encode(), new.encode()))

    return change


def box_outside(name: str, content: bytes) -> bytes:
    if not name.endswith(".json.gz"):
        return content
    written = json.loads(gzip.decompress(content))
    written["instances"][0]["box"] = [0.5, 0.0, 1.5, 1.0]
    return gzip.compress(json.dumps(written).encode())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (half_picture, "the picture cannot be read"),
        (in_layout("[64,96]", "[96,64]"), "mask of 96x64, picture of 64x96"),
        (in_layout('"key":"train-mixed-000000"', '"key":"other"'), "its layout is of other"),
        (box_outside, "instance 0: box 0.5, 0, 1.5, 1 is not a part of the picture"),
    ],
)
def test_what_is_wrong_inside_a_sample_is_named(
    world: Path, tmp_path: Path, change: Callable[[str, bytes], bytes], says: str
) -> None:
    folder = copied(world, tmp_path / "shards")
    rewritten(folder, "00000.tar", change)
    assert any(says in fault and "00000.tar: train-mixed-00000" in fault for fault in validate_shards.faults(folder))


edges = st.sampled_from([-1e-9, 0.0, 0.25, 0.5, 1.0, 1 + 1e-9])


@given(edges, edges, edges, edges)
def test_a_box_is_sound_when_it_has_an_area_and_lies_in_the_picture(x0: float, y0: float, x1: float, y1: float) -> None:
    instance = Instance(phrase="kite", box=Box(x0, y0, x1, y1))
    sound = min(x0, y0) >= 0 and max(x1, y1) <= 1 and x1 - x0 > 0 and y1 - y0 > 0
    assert bool(list(validate_shards._of_instance(instance, (64, 96)))) != sound


@given(st.sampled_from(["point", "scribble", "outline"]), edges, edges)
def test_a_point_is_sound_in_the_picture_and_on_its_border(name: str, x: float, y: float) -> None:
    inside = Point(0.5, 0.5)
    location = Point(x, y) if name == "point" else (inside, Point(x, y), inside)
    faults = list(validate_shards._of_instance(Instance(phrase="kite", **{name: location}), (64, 96)))
    assert faults == ([] if 0 <= x <= 1 and 0 <= y <= 1 else [f"{name} leaves the picture"])


def test_an_empty_mask_and_one_of_the_exchanged_size_are_faults() -> None:
    mask = np.zeros((64, 96), dtype=bool)
    for pixels, size, says in (
        (0, (64, 96), ["mask is empty"]),
        (1, (64, 96), []),
        (1, (96, 64), ["mask of 64x96, picture of 96x64"]),
    ):
        mask.flat[:pixels] = True
        instance = Instance(phrase="kite", mask=masks.encode(mask))
        assert list(validate_shards._of_instance(instance, size)) == says


def test_the_order_of_the_index_is_no_fault(world: Path, tmp_path: Path) -> None:
    folder = copied(world, tmp_path / "shards")
    rewrite(folder, shards.read_index(folder)[::-1])
    assert list(validate_shards.faults(folder)) == []


def test_a_gap_between_samples_and_a_count_that_differs_are_named(world: Path, tmp_path: Path) -> None:
    folder = copied(world, tmp_path / "shards")
    index = shards.read_index(folder)
    assert index["shard"].tolist()[:2] == ["00000.tar"] * 2
    rewrite(folder, index[1:].assign(num_instances=index["num_instances"][1:] + 1))
    faults = list(validate_shards.faults(folder))
    gap = f"00000.tar: {index['key'][1]} starts at byte {index['offset'][1]}, the sample before it ends at 0"
    assert sum(fault.endswith(gap) for fault in faults) == 1
    assert sum("instances, " in fault for fault in faults) == len(index) - 1
    rewrite(folder, pd.concat([index, index[:1]]))
    assert f"{folder}: {index['key'][0]} stands in the index more than once" in list(validate_shards.faults(folder))


def test_what_is_wrong_with_tars_and_index_is_named(world: Path, tmp_path: Path) -> None:
    folder = copied(world, tmp_path / "shards")
    (folder / "00001.tar").unlink()
    (folder / "extra.tar").write_bytes(b"")
    (folder / "00002.tar").write_bytes((folder / "00002.tar").read_bytes()[:700])
    index = shards.read_index(folder)
    rewrite(folder, index[index["key"] != "train-mixed-000001"])
    report = "\n".join(validate_shards.faults(folder))
    assert "00001.tar: in the index, but not there" in report
    assert "extra.tar: not in the index" in report
    assert "00000.tar: goes on after the last sample" in report
    assert "00002.tar: train-mixed-000004: the bytes are not those" in report
    with pytest.raises(SystemExit) as ended:
        validate_shards.main([str(folder)])
    assert ended.value.code == 1


def test_a_shard_is_full_by_samples_or_by_megabytes(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(shards.read(world / "shards"))
    largest = max(len(sample.picture) for sample in samples)
    monkeypatch.setattr(shard, "MEGABYTE", largest)
    sharded(world, SHARD.model_copy(update={"samples_per_shard": 100, "megabytes_per_shard": 2}))
    index = shards.read_index(world / "shards")
    assert index["key"].tolist() == [sample.key for sample in samples]
    of = {sample.key: len(sample.picture) for sample in samples}
    for _, keys in index.groupby("shard")["key"]:
        assert sum(of[key] for key in list(keys)[:-1]) < 2 * largest
    assert 1 < index["shard"].nunique() < 5
    monkeypatch.undo()
    sharded(world)


def test_what_is_exported_for_the_reference_comes_back_as_it_was(world: Path, tmp_path: Path) -> None:
    def features(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text))] * 768 for text in texts])

    assert export_labelled.export(world / "shards", features, tmp_path / "labels") == 5
    source = {"source": "labelled", "train": f"{tmp_path}/labels/train.txt", "val": None, "val_share": 0.0}
    limits = {"min_side": 1, "max_pixels": 10**6}
    params = ingest.Params.model_validate({**source, "limits": limits, "work": WORK.model_dump()})
    folders = {name: tmp_path / name for name in ("pictures", "images", "given", "ledger")}
    ingest.run(**folders, params=params)
    rows = tables.rows_of(tables.read(tmp_path / "given" / "train", GIVEN_CAPTIONED))
    for sample, instance_rows in zip(shards.read(world / "shards"), rows.values(), strict=True):
        for instance, row in zip(sample.layout.instances, instance_rows, strict=True):
            assert (instance.phrase, instance.category, instance.mask.counts) == (
                row["caption"],
                row["category"],
                row["mask"],
            )
            assert masks.box_of(masks.decode(instance.mask)) == instance.box == tuple(row["box"])
    first = json.loads((tmp_path / "labels" / "label_train-mixed-000000.json").read_text())
    for sample in shards.read(world / "shards"):
        label = json.loads((tmp_path / "labels" / f"label_{sample.key}.json").read_text())
        for anno, instance in zip(label["annos"], sample.layout.instances, strict=True):
            for name, text in (("text_embedding_before", instance.category), ("blip_clip_embeddings", instance.phrase)):
                assert np.frombuffer(base64.b64decode(anno[name]), "<f4").tolist() == [len(text)] * 768
            assert (anno["category_name"], anno["caption"]) == (instance.category, instance.phrase)
            columns, rows = np.reshape(anno["scribbles"], (-1, 2)).round().astype(int).T
            assert masks.decode(instance.mask)[rows, columns].all()
    anno = first["annos"][0]
    assert len(anno["scribbles"]) == 40
    assert anno["area"] == anno["bbox"][2] * anno["bbox"][3]
    assert len(anno["blip_clip_embeddings"]) == 768 * 4 * 4 / 3


def labelled(world: Path, **change: Any) -> dict[str, Any]:
    """The label of a picture with one instance, somewhat changed."""
    (sample, *_) = shards.read(world / "shards")
    instance = sample.layout.instances[0].model_copy(update=change)
    layout = Layout(key="k", prompt="p", instances=(instance,))
    return export_labelled.label(shards.Sample("k", sample.picture, "png", layout), lambda texts: torch.zeros(2, 4))


def test_a_label_says_of_what_only_the_reference_knows_that_it_is_a_plain_picture_of_things(world: Path) -> None:
    label = labelled(world)
    (anno,) = label.pop("annos")
    assert base64.b64decode(label.pop("image"))[:4] == b"\x89PNG"
    assert label == {"caption": "p", "file_name": "k.png", "is_det": 0, "dataset_name": "instdiff", "data_id": 1}
    plain = {"isfake": 0, "isreflected": 0, "pred_score": 1.0, "category_id": 0, "data_id": 0}
    plain |= {"is_stuff": 0, "is_thing": 1, "id": 0, "mask_value": 1}
    assert {name: anno[name] for name in plain} == plain


def test_a_label_has_a_scribble_of_the_references_length_or_none_and_an_instance_without_a_category_its_phrase(
    world: Path,
) -> None:
    points = (Point(0.5, 0.25),) * 20
    (anno,) = labelled(world, scribble=points)["annos"]
    assert anno["scribbles"] == [48.0, 16.0] * 20  # x and y in pixels of a picture 96 wide and 64 high
    for other in (points[:-1], (*points, points[0]), None):
        assert "scribbles" not in labelled(world, scribble=other)["annos"][0]
    assert labelled(world, category=None, phrase="a kite")["annos"][0]["category_name"] == "a kite"


def test_the_command_writes_labels_where_nothing_is_and_says_how_many(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features = SimpleNamespace(pooled=lambda texts: torch.zeros(len(texts), 4))
    monkeypatch.setattr(export_labelled, "load_text", lambda path: features)
    words = [str(world / "shards"), "text", str(tmp_path / "labels")]
    export_labelled.main(words)
    assert f"{tmp_path}/labels: 5 pictures" in capsys.readouterr().out
    before = contents(tmp_path / "labels")
    assert len(before) == 5 + 1
    with pytest.raises(ValueError, match="/labels: exists already"):
        export_labelled.main(words)
    assert contents(tmp_path / "labels") == before


def test_an_instance_the_format_cannot_tell_is_left_out(world: Path) -> None:
    (sample, *_) = shards.read(world / "shards")
    bare = tuple(instance.model_copy(update={"mask": None}) for instance in sample.layout.instances)
    without = shards.Sample("k", sample.picture, "png", Layout(key="k", prompt="p", instances=bare))
    assert export_labelled.label(without, lambda texts: torch.zeros(1, 4))["annos"] == []
