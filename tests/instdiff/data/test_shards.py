import gzip
import hashlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import hypothesis.extra.numpy as some
import numpy as np
import pytest
import webdataset
from data_world import SHARD, picture, prepared, put, read, sharded, sizes, write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep import shard
from data_prep.columns import PICTURES
from instdiff.data import shards
from instdiff.files import tables
from instdiff.layouts import from_tables, masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.schema import Box, Instance, Layout, Point, Rle
from instdiff.work.pictures import Picture

SIZE = (3, 4)  # of the masks
finite = st.floats(0, 1)
points = st.lists(st.builds(Point, finite, finite), min_size=1, max_size=4).map(tuple)
instances = st.builds(
    Instance,
    phrase=st.text(max_size=5),
    category=st.none() | st.text(max_size=3),
    box=st.none() | st.builds(Box, finite, finite, finite, finite),
    point=st.none() | st.builds(Point, finite, finite),
    scribble=st.none() | points,
    mask=st.none() | some.arrays(np.bool_, SIZE).map(masks.encode),
    outline=st.none() | points,
)


World = tuple[Path, Mapping[str, float]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    prepared(root)
    return root, sharded(root)


@settings(max_examples=50)
@given(st.lists(instances, max_size=3).map(tuple))
def test_a_layout_survives_its_sample_and_absent_stays_absent(instances: tuple[Instance, ...]) -> None:
    sample = shards.Sample("k", b"bytes", "jpg", Layout(key="k", prompt="p", instances=instances))
    once = shards.decode("k", shards.encode(sample))
    for before, after in zip(instances, once.layout.instances, strict=True):
        assert before.model_copy(update=BARE) == after.model_copy(update=BARE)
        for name in shards.LONG:
            points, points_after = getattr(before, name), getattr(after, name)
            assert (points is None) == (points_after is None)
            assert np.allclose(points or (), points_after or (), rtol=0, atol=2**-15)
    assert shards.decode("k", shards.encode(once)) == once


BARE = dict.fromkeys(shards.LONG)


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_whole_pixels_of_a_mask_come_back_bit_for_bit_and_others_to_a_hundredth_at_512(
    height: int, width: int, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, width)), data.draw(st.integers(0, height))
    between = data.draw(st.builds(Point, finite, finite))
    strokes = (Point(x / width, y / height), between)
    instance = Instance(phrase="", mask=Rle(size=(height, width), counts=""), scribble=strokes)
    sample = shards.Sample("k", b"", "png", Layout(key="k", prompt="", instances=(instance,)))
    (back,) = shards.decode("k", shards.encode(sample)).layout.instances
    assert back.scribble[0] == strokes[0]
    far = max(abs(back.scribble[1].x - between.x) * width, abs(back.scribble[1].y - between.y) * height)
    assert far <= max(height, width) * 2**-16


def test_a_stroke_outside_the_picture_is_refused() -> None:
    instance = Instance(phrase="a kite", scribble=(Point(0.5, 1.5),))
    with pytest.raises(ValueError, match="a stroke of 'a kite' leaves the picture"):
        shards.encode(shards.Sample("k", b"", "png", Layout(key="k", prompt="", instances=(instance,))))


def test_shards_hold_every_picture_and_layout_in_order(world: World) -> None:
    root, counts = world
    images = tables.read(root / "images" / "train", IMAGES)
    expected = from_tables.from_tables(images, tables.read(root / "annotated" / "train", ANNOTATED))
    samples = list(shards.read(root / "shards"))
    assert [sample.layout for sample in samples] == expected
    assert [sample.picture for sample in samples] == [picture(root, key) for key in images["key"]]
    assert counts["samples"] == len(samples) == 5
    assert counts["shards"] == 3
    assert counts["instances"] == sum(len(layout.instances) for layout in expected)


def test_webdataset_reads_the_same(world: World) -> None:
    root, _ = world
    tars = sorted(map(str, (root / "shards").glob("*.tar")))
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False))
    for sample, ours in zip(theirs, shards.read(root / "shards"), strict=True):
        members = {name: content for name, content in sample.items() if not name.startswith("__")}
        assert shards.decode(sample["__key__"], members) == ours
        with Image.open(io.BytesIO(sample["png"])) as picture:
            assert picture.size[::-1] == sizes(root)[sample["__key__"]]


def test_any_sample_is_read_alone(world: World) -> None:
    root, _ = world
    index = shards.read_index(root / "shards")
    for row, sample in zip(index.to_dict("records"), shards.read(root / "shards"), strict=True):
        assert shards.read_one(root / "shards", row) == sample
        assert row["num_instances"] == len(sample.layout.instances)


def test_the_size_of_shards_changes_no_sample(world: World, tmp_path: Path) -> None:
    root, _ = world
    to = {name: root / name / "train" for name in ("images", "annotated")}
    params = SHARD.model_copy(update={"samples_per_shard": 1})
    out = {name: tmp_path / name for name in ("shards", "ledger")}
    shard.run(pictures=root / "pictures" / "train", **to, **out, params=params)
    assert list(shards.read(tmp_path / "shards")) == list(shards.read(root / "shards"))
    tars = [path.name for path in sorted((tmp_path / "shards").glob("*.tar"))]
    assert tars == ["00000-000.tar", "00000-001.tar", "00001-000.tar", "00001-001.tar", "00002.tar"]
    assert sorted(set(shards.read_index(tmp_path / "shards")["shard"])) == tars


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 5), st.integers(1, 3))
def test_a_shard_is_full_with_exactly_as_much_as_either_limit(halves: list[int], samples: int, megabytes: int) -> None:
    todo = [entry(number, half * shard.MEGABYTE // 2) for number, half in enumerate(halves)]
    cut = shard.cut(todo, SHARD.model_copy(update={"samples_per_shard": samples, "megabytes_per_shard": megabytes}))

    def full(part: Sequence[shard.Entry]) -> bool:
        size = sum(item.length for item in part)
        return len(part) >= samples or size >= megabytes * shard.MEGABYTE

    assert [item for part in cut for item in part] == todo
    assert all(part for part in cut)
    assert all(full(part) for part in cut[:-1])
    assert not any(full(part[:-1]) for part in cut)


def entry(number: int, size: int) -> shard.Entry:
    """A picture whose file has that many bytes."""
    picture = Picture(str(number), Path("none.png"), 2, 3, "")
    return shard.Entry(picture, Layout(key=str(number), prompt="", instances=()), "", size)


def test_the_longest_key_fits_and_a_longer_one_is_named(tmp_path: Path) -> None:
    def written(key: str) -> list[str]:
        stream = io.BytesIO()
        Image.new("RGB", (3, 2)).save(stream, "webp")
        (tmp_path / "a.webp").write_bytes(stream.getvalue())
        digest = hashlib.sha256(stream.getvalue()).hexdigest()
        layout = Layout(key=key, prompt="", instances=())
        picture = Picture(key, tmp_path / "a.webp", 2, 3, "")
        return [row["key"] for row in shard.write_shard(tmp_path / "a.tar", [shard.Entry(picture, layout, digest, 1)])]

    longest = "k" * shard.LONGEST_KEY
    assert written(longest) == [longest]
    for key in (longest + "k", "a/b", "a\\b", "ä"):
        with pytest.raises(ValueError, match="at most 76 ASCII characters without dot or slash"):
            written(key)


def test_a_picture_none_of_whose_instances_was_kept_stays(tmp_path: Path) -> None:
    prepared(tmp_path)
    annotated_rows = read(tmp_path, "annotated", ANNOTATED)
    write(tmp_path, "annotated", annotated_rows[annotated_rows["key"] != "train-mixed-000001"], ANNOTATED)
    assert sharded(tmp_path)["without_instances"] == 1
    bare = [sample for sample in shards.read(tmp_path / "shards") if not sample.layout.instances]
    assert [sample.key for sample in bare] == ["train-mixed-000001"]


def test_a_picture_that_is_not_the_ingested_one_is_named(tmp_path: Path) -> None:
    prepared(tmp_path)
    put(tmp_path, {"train-mixed-000003": picture(tmp_path, "train-mixed-000003") + b"x"})
    with pytest.raises(ValueError, match=r"00001\.tar: train-mixed-000003\.png: not the file that ingest stored"):
        sharded(tmp_path)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("harm", [lambda tar: tar[:2000], lambda tar: tar[:700] + b"?" + tar[701:]])
def test_a_damaged_shard_is_named_with_the_sample(world: World, tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    root, _ = world
    shutil.copytree(root / "shards", tmp_path, dirs_exist_ok=True)
    shard = tmp_path / "00001.tar"
    shard.write_bytes(harm(shard.read_bytes()))
    with pytest.raises(ValueError, match=r"00001\.tar: train-mixed-00000[23]: the bytes are not those"):
        list(shards.read(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"json.gz": None}, "expected a picture, json.gz and strokes"),
        ({"png": None}, "expected a picture"),
        ({"json.gz": gzip.compress(b"{}")}, "validation error"),
        ({"json.gz": b"{}"}, "gzipped"),
        ({"json.gz": gzip.compress(b"{}")[:9]}, "[Cc]ompressed file ended|incomplete"),
        ({"strokes.safetensors.gz": gzip.compress(b"?")}, "[Hh]eader"),
    ],
)
def test_a_sample_with_wrong_members_is_one_sentence(change: dict[str, bytes | None], says: str) -> None:
    good = shards.encode(shards.Sample("k", b"bytes", "png", Layout(key="k", prompt="p", instances=())))
    members = {name: content for name, content in {**good, **change}.items() if content is not None}
    with pytest.raises(ValueError, match=says) as error:
        shards.decode("k", members)
    assert "\n" not in str(error.value)


def test_keys_that_shards_cannot_hold_are_named(tmp_path: Path) -> None:
    prepared(tmp_path)
    path = tmp_path / "images" / "train" / "00000.parquet"
    images = tables.read(path, PICTURES)
    images["key"] = ["a.b", *images["key"][1:]]
    tables.write(path, images, PICTURES)
    with pytest.raises(ValueError, match=r"key 'a\.b'"):
        sharded(tmp_path)
