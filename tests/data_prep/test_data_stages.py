import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from data_world import (
    ANNOTATE,
    CAPTION,
    FORMATS,
    GROUND,
    INGEST,
    SEGMENT,
    SHARD,
    SKETCH,
    TWO,
    annotated,
    contents,
    ingested,
    ledger,
    pictures,
    prepared,
    read,
    sharded,
    sizes,
    sources,
    write,
)
from data_world import tables as tables_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from data_prep import annotate, caption, ground, segment, shard, sketch
from data_prep.annotators import blip, grounding_dino
from data_prep.annotators.grounded import ScoredBox
from data_prep.annotators.instances import Instance, WithInstances
from data_prep.columns import CAPTIONS, GIVEN, INSTANCES, MASKS, PICTURES, STROKES
from data_prep.sources import scenes as scenes_of_source
from instdiff.files import tables
from instdiff.layouts import masks
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.layouts.geometry import pixel
from instdiff.schema import Box, Layout, Rle
from instdiff.work import packs, parts
from instdiff.work.ledger import LEDGER, Ledger
from instdiff.work.outcomes import Failure, outcomes
from instdiff.work.pictures import Picture

World = tuple[Path, dict[str, Mapping[str, float]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    return root, prepared(root)


# ---- ingest ---------------------------------------------------------------------------------------------------------


def test_ingest_does_not_depend_on_the_number_of_workers(world: World, tmp_path: Path) -> None:
    root, _ = world
    ingested(tmp_path, INGEST.model_copy(update={"work": TWO}))
    for name in ("pictures", "images", "given"):
        assert contents(tmp_path / name) == contents(root / name)


def test_more_training_pictures_leave_the_first_and_the_validation_as_they_were(world: World, tmp_path: Path) -> None:
    root, _ = world
    ingested(tmp_path, INGEST.model_copy(update={"num_train": 6}))
    first, (before, after) = "train/00000", (contents(root / "pictures"), contents(tmp_path / "pictures"))
    assert {name for name in before if before[name] != after.get(name)} == {"train/00002.tar"}  # which was not full
    assert first + ".tar" in before
    for split in ("train", "val"):
        ours, theirs = (
            {key: picture.encoded() for key, picture in pictures(each, split).items()} for each in (root, tmp_path)
        )
        assert ours.items() <= theirs.items()
        assert len(theirs) - len(ours) == (split == "train")


def test_the_tables_describe_the_pictures(world: World) -> None:
    root, counts = world
    for split in ("train", "val"):
        images = read(root, "images", IMAGES, split)
        assert counts["ingest"][f"{split}_pictures"] == len(images)
        for row in images.to_dict("records"):
            with Image.open(io.BytesIO(pictures(root, split)[row["key"]].encoded())) as picture:
                assert picture.size == (row["width"], row["height"])
    assert read(root, "images", IMAGES, "val")["group"].tolist() == ["crowded", "small"]


def test_masks_are_the_visible_pixels_and_boxes_hold_them_tightly(world: World) -> None:
    root, _ = world
    for row in read(root, "given", GIVEN).to_dict("records"):
        mask = masks.decode(Rle(size=sizes(root)[row["key"]], counts=row["mask"]))
        assert masks.box_of(mask) == tuple(row["box"])


def test_train_and_val_share_no_picture(tmp_path: Path) -> None:
    ingested(tmp_path, INGEST.model_copy(update={"val_groups": {"mixed": 5}}))
    train, val = (set(read(tmp_path, "images", IMAGES, split)["sha256"]) for split in ("train", "val"))
    assert len(train) == len(val) == 5
    assert not train & val


def test_scenes_that_differ_in_seed_split_group_or_index_are_other_scenes() -> None:
    first = [("mixed", range(1))]
    plain = scenes_of_source.orders_of("train", [("mixed", range(2)), ("crowded", range(1))], 3)
    others = [*scenes_of_source.orders_of("val", first, 3), *scenes_of_source.orders_of("train", first, 4)]
    painted = [scenes_of_source.painted(order) for order in (*plain, *others)]
    assert len({answer.rows[0]["sha256"] for answer in painted}) == 5
    assert [order.key for order in plain] == ["train-mixed-000000", "train-mixed-000001", "train-crowded-000000"]


def test_each_value_of_scenes_reaches_ingest(tmp_path: Path) -> None:
    params = INGEST.model_copy(update={"num_train": 1, "val_groups": {"large": 2, "small": 1}})
    counts = ingested(tmp_path, params)
    assert (counts["train_pictures"], counts["val_pictures"]) == (1, 3)
    images = read(tmp_path, "images", IMAGES, "val")
    assert images["group"].tolist() == ["large", "large", "small"]
    assert images["key"].tolist() == ["val-large-000000", "val-large-000001", "val-small-000000"]
    ingested(tmp_path / "other", params.model_copy(update={"seed": 4}))
    other = read(tmp_path / "other", "images", IMAGES, "val")
    assert not set(other["sha256"]) & set(images["sha256"])


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ValueError, match="no such group of scenes: crowd;"):
        scenes_of_source.refuse_unknown({"crowd": 1})


# ---- the same bytes, or nothing -------------------------------------------------------------------------------------


def test_every_stage_run_again_writes_the_same_bytes(world: World, tmp_path: Path) -> None:
    root, _ = world
    prepared(tmp_path)
    for folder in (root, tmp_path):
        sharded(folder)
    assert contents(root) == contents(tmp_path)


def test_batches_change_nothing(world: World, tmp_path: Path) -> None:
    root, _ = world
    update = {"batch_size": 1}
    prepared(
        tmp_path,
        ground=GROUND.model_copy(update=update),
        segment=SEGMENT.model_copy(update=update),
        caption=CAPTION.model_copy(update=update),
    )
    assert contents(root / "annotated") == contents(tmp_path / "annotated")
    assert contents(root / "masks") == contents(tmp_path / "masks")


@pytest.mark.parametrize("after", [0, 1, 4])
def test_ingest_stopped_in_the_middle_leaves_whole_parts_and_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    painted = scenes_of_source.painted
    done: list[scenes_of_source.Order] = []

    def interrupted(order: scenes_of_source.Order) -> parts.Answer:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(order)
        return painted(order)

    monkeypatch.setattr(scenes_of_source, "painted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingested(tmp_path)
    left = contents(tmp_path)
    assert all(name.startswith(".images.parts/") for name in left)
    assert sum(Path(name).name == "@.tar" for name in left) == after // 2  # two pictures a pack


def test_shard_killed_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path)
    sharded(tmp_path)
    before = contents(tmp_path)
    write_shard, packed = shard.write_shard, list[Path]()

    def stopped(path: Path, entries: Sequence[shard.Entry]) -> list[dict[str, Any]]:
        packed.append(path)
        return write_shard(path, entries[: 1 // (2 - len(packed)) * len(entries)])

    monkeypatch.setattr(shard, "write_shard", stopped)
    with pytest.raises(ZeroDivisionError):
        sharded(tmp_path, SHARD.model_copy(update={"megabytes_per_shard": 2}))  # so that none is taken over
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert [Path(name).name for name in after.keys() - before.keys() if name.endswith(".tar")] == ["@.tar"]


# ---- annotators -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(1, 10))
def test_batches_are_full_but_the_last_and_in_order(count: int, batch_size: int) -> None:
    batches: list[list[int]] = []

    def work(batch: Sequence[int]) -> Sequence[int]:
        batches.append(list(batch))
        return [2 * number for number in batch]

    assert list(outcomes(range(count), work, batch_size)) == [(number, 2 * number) for number in range(count)]
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert [number for batch in batches for number in batch] == list(range(count))


@pytest.mark.parametrize("stage", [ground, segment])
def test_pictures_are_asked_about_in_batches(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: ModuleType
) -> None:
    root, _ = world
    batch_sizes: list[int] = []

    def recorded(items: Sequence[Any], work: Any, batch_size: int) -> Any:
        batch_sizes.append(batch_size)
        return outcomes(items, work, batch_size)

    monkeypatch.setattr(stage, "outcomes", recorded)
    to = {**tables_of(tmp_path, "train", "instances"), "ledger": ledger(tmp_path, "any")}
    if stage is segment:
        to |= {**tables_of(root, "train", "instances"), **tables_of(tmp_path, "train", "masks")}
    params = GROUND if stage is ground else SEGMENT
    stage.run(**sources(root), **to, params=params.model_copy(update={"batch_size": 3}))
    assert set(batch_sizes) == {3}


def halves(numbers: Sequence[int]) -> list[int | Failure]:
    if any(number < 0 for number in numbers):
        raise ValueError("negative")
    return [Failure("odd", "") if number % 2 else number // 2 for number in numbers]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_one_failure_costs_no_other(batch_size: int) -> None:
    done = dict(outcomes([0, 3, -1, 4, 6], halves, batch_size))
    assert [done[number] for number in (0, 4, 6)] == [0, 2, 3]
    assert done[3].reason == "odd"
    assert done[-1].reason == "failed"
    assert re.fullmatch(r"ValueError: negative \[traceback [0-9a-f]{8}\]", done[-1].detail)


def test_a_fault_of_ours_is_not_a_row() -> None:
    with pytest.raises(KeyError):
        list(outcomes([1], lambda _: {}["typo"], 1))


def test_a_ledger_counts_by_reason(tmp_path: Path) -> None:
    noted = Ledger()
    for index, reason in enumerate(["a", "b", "a"]):
        noted.add("k", index, Failure(reason, "why"))
    noted.write(tmp_path / "ledger.parquet")
    assert noted.counts() == {"failed_a": 2, "failed_b": 1}
    assert tables.read(tmp_path / "ledger.parquet", LEDGER)["reason"].tolist() == ["a", "b", "a"]


def test_given_instances_are_the_sources_own(world: World) -> None:
    root, counts = world
    source_rows, instances = read(root, "given", GIVEN), read(root, "instances", INSTANCES)
    for name in ("key", "index", "category"):
        assert instances[name].tolist() == source_rows[name].tolist()
    assert np.array_equal(np.stack(instances["box"]), np.stack(source_rows["box"]))
    assert read(root, "masks", MASKS)["mask"].tolist() == source_rows["mask"].tolist()
    assert set(instances["score"]) == set(read(root, "masks", MASKS)["score"]) == {1.0}
    assert (counts["ground"]["instances"], counts["ground"]["pictures"]) == (len(source_rows), 5)


def test_the_order_of_given_rows_changes_no_instance(world: World, tmp_path: Path) -> None:
    root, _ = world
    path = write(root, "given", read(root, "given", GIVEN)[::-1], GIVEN, to=tmp_path / "given")
    to = {**tables_of(tmp_path, "train", "instances"), "ledger": ledger(tmp_path, "ground")}
    ground.run(**{**sources(root), "given": path}, **to, params=GROUND)
    assert contents(tmp_path / "instances") == contents(root / "instances")


WEIGHTY: dict[ModuleType, Any] = {
    ground: {"backend": "grounding_dino", "detector": {"tags": {"source": "caption"}, "box_threshold": 0.5,
             "text_threshold": 0.5, "nms_iou": 0.5, "device": "cpu"}},
    segment: {"backend": "sam"},
    caption: {"backend": "transformers", "model": {"python": None, "prompt": "", "num_beams": 1, "max_tokens": 1,
              "precision": "float32", "min_area": 1, "name_category": True, "device": "cpu"}},
}  # fmt: skip


def of_network(stage: ModuleType, weights: Path) -> Any:
    """Parameters of a stage that asks a network."""
    plain = {ground: GROUND, segment: SEGMENT, caption: CAPTION}[stage].model_dump()
    change = {name: {**value, "weights": weights} if isinstance(value, dict) else value
              for name, value in WEIGHTY[stage].items()}  # fmt: skip
    return stage.Params.model_validate({**plain, **change, **({"weights": weights} if stage is segment else {})})


@pytest.mark.parametrize(
    ("stage", "backend"),
    [(ground, ground.grounder), (segment, segment.segmenter), (caption, caption.captioner)],
    ids=lambda each: each.__name__,
)
def test_a_network_is_loaded_once_for_all_packs_and_anew_when_its_digest_is_another(
    stage: ModuleType, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in ((grounding_dino, "GroundingDino"), (blip, "Blip"), (segment, "_model")):
        monkeypatch.setattr(place, name, lambda *_: object())
    params = of_network(stage, Path("weights"))
    first, second, other = (
        backend(params, Path(pack), digest) for pack, digest in (("0", "one"), ("1", "one"), ("1", "other"))
    )
    assert first is second is not other


@pytest.mark.parametrize("stage", WEIGHTY, ids=lambda stage: stage.__name__)
def test_parts_are_of_these_weights_and_inputs_and_of_no_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: ModuleType
) -> None:
    root, _ = world
    digests: list[tuple[str, ...]] = []
    monkeypatch.setattr(packs, "update", lambda jobs, to, work: digests.append(tuple(job.digest for job in jobs)) or {})
    schemas = {"images": PICTURES, "given": GIVEN, "instances": INSTANCES}
    read_here = {name: write(root, name, read(root, name, schemas[name]), schemas[name], to=tmp_path / name)
                 for name in schemas}  # fmt: skip
    (tmp_path / "weights").write_bytes(b"1")
    params = of_network(stage, tmp_path / "weights")
    written = {ground: "instances", segment: "masks", caption: "captions"}[stage]
    paths = {**read_here, written: tmp_path / "out", "ledger": tmp_path / "ledger", "pictures": root / "pictures/train"}

    def run() -> None:
        stage.run(**paths, params=params)

    run()
    run()
    assert digests[0] == digests[1]
    (tmp_path / "weights").write_bytes(b"2")
    run()
    assert set(digests[2]).isdisjoint(digests[1])
    for name in (name for name in schemas if name != written):
        write(root, name, read(root, name, schemas[name])[:-1], schemas[name], to=read_here[name])
        run()
        assert [before == after for before, after in zip(*digests[-2:], strict=True)] == [True, True, False], name


def test_a_picture_without_instances_is_in_the_ledger(tmp_path: Path) -> None:
    ingested(tmp_path)
    source_rows = read(tmp_path, "given", GIVEN)
    bare = source_rows["key"].iloc[0]
    write(tmp_path, "given", source_rows[source_rows["key"] != bare], GIVEN)
    to = {**tables_of(tmp_path, "train", "instances"), "ledger": ledger(tmp_path, "ground")}
    counts = ground.run(**sources(tmp_path), **to, params=GROUND)
    assert counts["failed_nothing_found"] == 1
    assert tables.read(to["ledger"], LEDGER)[["key", "index"]].to_numpy().tolist() == [[bare, -1]]


@pytest.mark.parametrize("change", [{"index": 7}, {"box": None}], ids=str)
def test_a_picture_whose_instances_are_not_numbered_or_have_no_box_is_not_grounded(
    world: World, tmp_path: Path, change: dict[str, Any]
) -> None:
    root, _ = world
    rows = read(root, "given", GIVEN).to_dict("records")
    first = [row for row in rows if row["key"] == rows[0]["key"]]
    table = pd.DataFrame([*first[:-1], {**first[-1], **change}])
    tables.write(tmp_path / "given.parquet", table, GIVEN)
    grounder = ground.grounder(GROUND, tmp_path / "given.parquet", "")
    pictured, empty = list(pictures(root).values())[:2]
    bad, none = grounder.ground([pictured, empty])
    assert isinstance(bad, Failure) and isinstance(none, Failure)
    assert (bad.reason, none.reason) == ("bad_given", "nothing_found")


def test_a_backend_of_a_network_without_its_values_is_one_sentence() -> None:
    for stage, params, lacking in (
        (ground, GROUND.model_copy(update={"backend": "grounding_dino"}), "backend grounding_dino needs detector"),
        (caption, CAPTION.model_copy(update={"backend": "lavis"}), "backend lavis needs model"),
    ):
        with pytest.raises(ValueError, match=lacking):
            stage._model(params, "")


def test_a_picture_in_which_a_network_finds_nothing_is_a_reason_and_others_keep_their_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [ScoredBox("kite", Box(0.0, 0.0, 0.5, 1.0), 0.25), ScoredBox("cat", Box(0.5, 0.0, 1.0, 0.5), 0.75)]
    finder = SimpleNamespace(ground=lambda batch: [[], boxes][: len(batch)])
    monkeypatch.setattr(ground, "grounder", lambda *_: finder)
    todo, pack = list(pictures(world[0]).values())[:2], packs.Pack("00000", {"given": Path()}, "")
    none, found = ground.ground(todo, pack, GROUND, "")
    assert (none.key, none.rows) == (todo[0].key, [])
    assert none.failures == [(-1, ("nothing_found", "no box above the threshold"))]
    assert found == (
        todo[1].key,
        [
            {"key": todo[1].key, "index": 0, "category": "kite", "box": [0.0, 0.0, 0.5, 1.0], "score": 0.25},
            {"key": todo[1].key, "index": 1, "category": "cat", "box": [0.5, 0.0, 1.0, 0.5], "score": 0.75},
        ],
        [],
        (),
    )


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("mask", None, "no_mask"), ("mask", "12", "bad_mask"), ("box", [0.0, 0.0, 1.0, 1.0], "not_given")],
)
def test_an_instance_that_cannot_be_segmented_stays_with_a_null_and_a_reason(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    prepared(tmp_path)
    source_rows = read(tmp_path, "given", GIVEN)
    source_rows[column] = [value, *source_rows[column][1:]]
    write(tmp_path, "given", source_rows, GIVEN)
    to = {**tables_of(tmp_path, "train", "instances", "masks"), "ledger": ledger(tmp_path, "segment")}
    counts = segment.run(**sources(tmp_path), **to, params=SEGMENT)
    assert counts == {"instances": len(source_rows), "kept": len(source_rows) - 1, "failed": 1, f"failed_{reason}": 1}
    assert tables.read(to["ledger"], LEDGER)["reason"].tolist() == [reason]
    encoded_masks = read(tmp_path, "masks", MASKS)["mask"]
    assert encoded_masks[0] is None
    assert encoded_masks[1:].notna().all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"index": 1}, "not_given"),
        ({"box": None}, "not_given"),
        ({"box": [0.0, 0.0, 1.0, 0.5]}, "not_given"),
        ({"mask": None}, "no_mask"),
        ({"mask": "12"}, "bad_mask"),
    ],
    ids=str,
)
def test_a_mask_of_the_source_is_that_of_the_instance_with_this_number_and_box(
    tmp_path: Path, change: dict[str, Any], reason: str | None
) -> None:
    picture, mask = Picture("k", Path(), 4, 6, ""), masks.encode(np.ones((4, 6), bool)).counts
    row = {"key": "k", "index": 0, "box": [0.0, 0.0, 1.0, 1.0], "mask": mask}
    row |= dict.fromkeys(("category", "colour", "texture")) | change
    tables.write(tmp_path / "given.parquet", pd.DataFrame([row], dtype=object), GIVEN)
    instance = Instance(picture, 0, None, Box(0.0, 0.0, 1.0, 1.0))
    ((answer,),) = segment.FromSource(tmp_path / "given.parquet").segment([WithInstances(picture, (instance,))])
    assert (answer.reason if isinstance(answer, Failure) else None) == reason
    assert reason is not None or answer == (mask, 1.0)


def test_boxes_as_masks_fill_their_boxes(world: World, tmp_path: Path) -> None:
    root, _ = world
    to = {**tables_of(root, "train", "instances"), "masks": tmp_path / "masks.parquet", "ledger": tmp_path / "ledger"}
    segment.run(**sources(root), **to, params=SEGMENT.model_copy(update={"backend": "box"}))
    instances = read(root, "instances", INSTANCES).to_dict("records")
    assert set(tables.read(to["masks"], MASKS)["score"]) == {1.0}
    for row, counts in zip(instances, tables.read(to["masks"], MASKS)["mask"], strict=True):
        mask = masks.decode(Rle(size=sizes(root)[row["key"]], counts=counts))
        assert masks.box_of(mask) == tuple(row["box"])
        assert np.isclose(mask.mean(), masks.box_of(mask).area)


def test_captions_say_what_the_source_knows(world: World) -> None:
    root, _ = world
    source_rows, captions = read(root, "given", GIVEN), read(root, "captions", CAPTIONS)
    named = [f"a {row['colour']} {row['texture']} {row['category']}" for row in source_rows.to_dict("records")]
    assert captions["caption"].tolist() == named
    assert set(captions["backend"]) == {"template"}


def test_a_word_the_source_lacks_is_a_reason(tmp_path: Path) -> None:
    prepared(tmp_path)
    source_rows = read(tmp_path, "given", GIVEN)
    source_rows["texture"] = None
    write(tmp_path, "given", source_rows, GIVEN)
    to = {**tables_of(tmp_path, "train", "instances", "captions"), "ledger": ledger(tmp_path, "caption")}
    counts = caption.run(**sources(tmp_path), **to, params=CAPTION)
    assert counts["failed_no_texture"] == len(source_rows)
    assert read(tmp_path, "captions", CAPTIONS)["caption"].isna().all()


def test_a_template_names_only_known_words() -> None:
    with pytest.raises(ValidationError, match="no such word: shape"):
        CAPTION.model_validate({**CAPTION.model_dump(), "template": "a {shape}"})


def test_the_strokes_of_an_instance_do_not_depend_on_its_neighbours(world: World, tmp_path: Path) -> None:
    root, _ = world
    mask_rows = read(root, "masks", MASKS)
    to = {**tables_of(root, "train", "images"), "strokes": tmp_path / "strokes", "ledger": tmp_path / "ledger"}
    to["masks"] = write(root, "masks", mask_rows[::-2], MASKS, to=tmp_path / "masks")
    sketch.run(**to, params=SKETCH)
    some, every = tables.read(to["strokes"], STROKES), read(root, "strokes", STROKES)
    for row in some.to_dict("records"):
        (same,) = every[(every["key"] == row["key"]) & (every["index"] == row["index"])].to_dict("records")
        assert all(np.array_equal(row[name], same[name]) for name in ("point", "scribble", "outline"))


FULL, TINY = np.ones((12, 20), dtype=bool), np.zeros((12, 20), dtype=bool)
TINY[4:7, 5:13] = True  # too few pixels for an outline that is not drawn at random


@pytest.mark.parametrize("change", [{"seed": 4}, {"key": "b"}, {"index": 1}], ids=str)
def test_instances_that_differ_in_one_part_of_their_seed_differ_in_their_strokes(change: dict[str, Any]) -> None:
    parts_of_seed = {"seed": SKETCH.seed, "key": "a", "index": 0}
    strokes = [
        sketch.sketch(
            TINY, seed_parts["key"], seed_parts["index"], SKETCH.model_copy(update={"seed": seed_parts["seed"]})
        )
        for seed_parts in (parts_of_seed, parts_of_seed, parts_of_seed | change)
    ]
    for name in ("scribble", "outline"):
        assert np.array_equal(strokes[0][name], strokes[1][name])
        assert not np.array_equal(strokes[0][name], strokes[2][name])


def test_each_value_of_sketch_reaches_its_strokes() -> None:
    params = SKETCH.model_copy(update={"num_scribble_points": 7, "num_outline_points": 30, "point": "box_centre"})
    ring = FULL.copy()
    ring[1:-1, 1:-1] = False
    strokes = sketch.sketch(ring, "a", 0, params)
    assert (len(strokes["scribble"]), len(strokes["outline"])) == (7, 30)
    assert strokes["point"].tolist() == [[0.5, 0.5]]  # which no pixel of the ring is
    inside = sketch.sketch(ring, "a", 0, params.model_copy(update={"point": "inside"}))["point"]
    assert ring[pixel(inside, *ring.shape)].all()


def test_strokes_lie_on_their_masks(world: World) -> None:
    root, _ = world
    strokes = read(root, "strokes", STROKES)
    for row, counts in zip(strokes.to_dict("records"), read(root, "masks", MASKS)["mask"], strict=True):
        mask = masks.decode(Rle(size=sizes(root)[row["key"]], counts=counts))
        for name, share in (("point", 1.0), ("scribble", 1.0), ("outline", 0.5)):
            points = np.reshape(row[name], (-1, 2))
            assert mask[pixel(points, *mask.shape)].mean() >= share


def test_strokes_are_counted(world: World, tmp_path: Path) -> None:
    root, _ = world
    mask_rows = read(root, "masks", MASKS)
    mask_rows["mask"] = [None, *mask_rows["mask"][1:]]
    to = {**tables_of(root, "train", "images"), "strokes": tmp_path / "strokes", "ledger": tmp_path / "ledger"}
    to["masks"] = write(root, "masks", mask_rows, MASKS, to=tmp_path / "masks")
    rest = len(mask_rows) - 1
    counts = sketch.run(**to, params=SKETCH)
    assert counts == {"instances": rest + 1, "with_point": rest, "with_scribble": rest, "with_outline": rest}


def test_no_mask_no_strokes_and_a_broken_one_is_named(world: World, tmp_path: Path) -> None:
    root, _ = world
    mask_rows = read(root, "masks", MASKS)
    to = {**tables_of(root, "train", "images"), "strokes": tmp_path / "strokes", "ledger": tmp_path / "ledger"}
    mask_rows["mask"] = None
    to["masks"] = write(root, "masks", mask_rows, MASKS, to=tmp_path / "masks")
    counts = sketch.run(**to, params=SKETCH)
    assert counts == {"instances": len(mask_rows), "with_point": 0, "with_scribble": 0, "with_outline": 0}
    mask_rows["mask"] = "12"
    write(root, "masks", mask_rows, MASKS, to=tmp_path / "masks")
    with pytest.raises(ValueError, match=r"masks/00000\.parquet: mask of train-mixed-000000 0: the runs"):
        sketch.run(**to, params=SKETCH)


def test_an_end_while_sketching_costs_the_part_in_flight(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = world
    to = {**tables_of(root, "train", "images", "masks"), "strokes": tmp_path / "strokes", "ledger": tmp_path / "ledger"}
    keys: list[str] = []
    fatal = {"train-mixed-000003"}
    draw = sketch.sketch

    def watched(mask_HW: masks.Mask, key: str, *rest: Any) -> Any:
        keys.append(key)
        if key in fatal:
            raise KeyboardInterrupt
        return draw(mask_HW, key, *rest)

    monkeypatch.setattr(sketch, "sketch", watched)
    with pytest.raises(KeyboardInterrupt):
        sketch.run(**to, params=SKETCH)
    assert not to["strokes"].exists()
    keys.clear()
    fatal.clear()
    sketch.run(**to, params=SKETCH)
    assert sorted(set(keys)) == [f"train-mixed-{number:06d}" for number in (2, 3, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger", "strokes"]
    assert contents(to["strokes"]) == contents(root / "strokes" / "train")


def test_where_there_is_no_picture_every_count_is_there_and_zero(tmp_path: Path) -> None:
    for name in ("pictures", "images", "given", "instances", "masks", "captions", "strokes"):
        (tmp_path / name / "train").mkdir(parents=True)
    to = {**tables_of(tmp_path, "train", "instances"), "ledger": ledger(tmp_path, "ground")}
    assert ground.run(**sources(tmp_path), **to, params=GROUND) == {"pictures": 0, "instances": 0, "failed": 0}
    to = {**tables_of(tmp_path, "train", "images", "masks", "strokes"), "ledger": ledger(tmp_path, "sketch")}
    strokes = {f"with_{name}": 0 for name in ("point", "scribble", "outline")}
    assert sketch.run(**to, params=SKETCH) == {"instances": 0, **strokes}
    assert annotated(tmp_path) == {"instances": 0, "kept": 0, "dropped": 0, "pictures_without_instances": 0}
    assert sharded(tmp_path) == {"shards": 0, "samples": 0, "instances": 0, "without_instances": 0}


# ---- annotate -------------------------------------------------------------------------------------------------------


def test_every_instance_is_kept_or_dropped_for_a_reason(tmp_path: Path) -> None:
    prepared(tmp_path)
    mask_rows = read(tmp_path, "masks", MASKS)
    mask_rows["mask"] = [None, *mask_rows["mask"][1:]]
    write(tmp_path, "masks", mask_rows, MASKS)
    caption_rows = read(tmp_path, "captions", CAPTIONS)
    write(tmp_path, "captions", caption_rows[2:], CAPTIONS)  # the rows are missing altogether
    counts = annotated(tmp_path)
    assert (counts["dropped_no_mask"], counts["dropped_no_caption"]) == (1, 1)
    assert counts["kept"] + counts["dropped"] == counts["instances"] == len(mask_rows)
    annotated_rows, lost = read(tmp_path, "annotated", ANNOTATED), tables.read(ledger(tmp_path, "annotate"), LEDGER)
    both = pd.concat([annotated_rows, lost])[["key", "index"]]
    assert sorted(map(tuple, both.to_numpy())) == sorted(map(tuple, mask_rows[["key", "index"]].to_numpy()))
    assert counts["dropped"] == sum(count for name, count in counts.items() if name.startswith("dropped_"))


def test_what_is_not_required_may_be_missing(tmp_path: Path) -> None:
    prepared(tmp_path)
    mask_rows = read(tmp_path, "masks", MASKS)
    mask_rows["mask"] = None
    write(tmp_path, "masks", mask_rows, MASKS)
    counts = annotated(tmp_path, params=ANNOTATE.model_copy(update={"required": ("box",)}))
    assert counts["kept"] == len(mask_rows)
    assert read(tmp_path, "annotated", ANNOTATED)["mask"].isna().all()


def unfit(row: dict[str, Any], size: tuple[int, int] | None, params: annotate.Params) -> Failure | None:
    """The reason for a single instance in a picture of this height and width."""
    height, width = size or (np.nan, np.nan)
    whole = {"key": "k", "index": 0, **dict.fromkeys(FORMATS), **row, "height": height, "width": width}
    (reason,) = annotate.unfit(pd.DataFrame([whole]), params, Path("masks"))
    return reason


sides = st.tuples(st.integers(1, 8), st.integers(1, 8))


@given(sides, sides, st.sampled_from(["min_box_size", "min_visible_area"]))
def test_an_instance_of_exactly_the_smallest_size_is_kept(
    size: tuple[int, int], extent: tuple[int, int], limit: str
) -> None:
    mask = np.zeros(size, dtype=bool)
    mask[: extent[0], : extent[1]] = True
    box = masks.box_of(mask)
    row = {"key": "k", "index": 0, "box": list(box), "mask": masks.encode(mask).counts}
    share = box.area if limit == "min_box_size" else float(mask.mean())
    reasons = []
    least = [np.nextafter(share, 0), share, *([np.nextafter(share, 1)] if share < 1 else [])]  # no limit is above 1
    for smallest in least:
        params = annotate.Params.model_validate(
            ANNOTATE.model_dump()
            | {"required": ("box", "mask"), "min_visible_area": 0, "min_box_size": 0, limit: smallest}
        )
        failure = unfit(row, size, params)
        reasons.append(failure and failure.reason)
    assert reasons == [None, None, "small_box" if limit == "min_box_size" else "small_mask"][: len(least)]


@pytest.mark.parametrize(
    "change", [{"box": [0.5, 0.25, 0.5, 0.75]}, {"mask": masks.encode(np.zeros((4, 6), bool)).counts}]
)
def test_what_covers_nothing_is_dropped_even_where_any_size_will_do(change: dict[str, Any]) -> None:
    row = {"box": [0.0, 0.0, 1.0, 1.0], "mask": masks.encode(np.ones((4, 6), bool)).counts}
    params = ANNOTATE.model_copy(update={"required": ("box", "mask"), "min_visible_area": 0, "min_box_size": 0})
    assert unfit(row, (4, 6), params) is None
    failure = unfit(row | change, (4, 6), params)
    assert failure is not None
    assert failure.reason == ("small_box" if "box" in change else "small_mask")


@pytest.mark.parametrize("name", FORMATS)
def test_each_thing_that_is_required_is_missed_and_no_other(name: annotate.Needed) -> None:
    row = dict.fromkeys(FORMATS, None)
    params = ANNOTATE.model_copy(update={"required": (name,)})
    failure = unfit(row, (64, 96), params)
    assert failure is not None
    assert failure.reason == f"no_{name}"
    others = tuple(other for other in FORMATS if other != name)
    full = {"box": [0.0, 0.0, 1.0, 1.0], "mask": masks.encode(np.ones((64, 96), bool)).counts}
    present = {**dict.fromkeys(FORMATS, "there"), **full, name: None}
    assert unfit(present, (64, 96), ANNOTATE.model_copy(update={"required": others})) is None
    assert unfit(row, None, params).reason == "no_picture"  # type: ignore[union-attr]


def test_the_order_of_rows_in_the_tables_changes_no_annotation(world: World, tmp_path: Path) -> None:
    root, _ = world
    for name, schema in (("given", GIVEN), ("masks", MASKS), ("captions", CAPTIONS), ("strokes", STROKES)):
        write(root, name, read(root, name, schema)[::-1], schema, to=tmp_path / name / "train")
    for name, schema in (("images", IMAGES), ("instances", INSTANCES)):
        write(root, name, read(root, name, schema), schema, to=tmp_path / name / "train")
    annotated(tmp_path)
    assert contents(tmp_path / "annotated") == contents(root / "annotated")


@pytest.mark.parametrize(("limit", "reason"), [("min_visible_area", "small_mask"), ("min_box_size", "small_box")])
def test_too_small_is_dropped_and_counted(tmp_path: Path, limit: str, reason: str) -> None:
    prepared(tmp_path)
    instances = read(tmp_path, "instances", INSTANCES)
    counts = annotated(tmp_path, params=ANNOTATE.model_copy(update={limit: 1.1}))
    assert counts[f"dropped_{reason}"] == len(instances)
    assert counts["pictures_without_instances"] == 5


def test_boxes_are_cut_to_the_picture_and_one_outside_is_dropped(tmp_path: Path) -> None:
    prepared(tmp_path)
    instances = read(tmp_path, "instances", INSTANCES)
    boxes = [[-0.5, 0.0, 0.5, 1.5], [1.1, 0.0, 1.9, 1.0], *instances["box"][2:]]
    write(tmp_path, "instances", instances.assign(box=boxes), INSTANCES)
    counts = annotated(tmp_path)
    assert counts["dropped_small_box"] == 1
    assert read(tmp_path, "annotated", ANNOTATED)["box"][0].tolist() == [0.0, 0.0, 0.5, 1.0]


OF_INSTANCES = [("masks", MASKS), ("captions", CAPTIONS), ("strokes", STROKES)]


@pytest.mark.parametrize(("name", "schema"), [("instances", INSTANCES), ("given", GIVEN), *OF_INSTANCES])
def test_a_row_twice_is_an_error_that_names_its_table(tmp_path: Path, name: str, schema: pa.Schema) -> None:
    prepared(tmp_path)
    table = read(tmp_path, name, schema)
    write(tmp_path, name, pd.concat([table, table[:1]]), schema)
    with pytest.raises(
        ValueError, match=rf"{name}/train/00000\.parquet: instance 0 of train-mixed-000000 stands there more"
    ):
        annotated(tmp_path)


@pytest.mark.parametrize(("name", "schema"), OF_INSTANCES)
def test_a_row_of_no_instance_is_an_error_that_names_it(tmp_path: Path, name: str, schema: pa.Schema) -> None:
    prepared(tmp_path)
    table = read(tmp_path, name, schema)
    write(tmp_path, name, table.assign(index=[77, *table["index"][1:]]), schema)
    with pytest.raises(
        ValueError, match=rf"{name}/train/00000\.parquet: instance 77 of train-mixed-000000 is not among"
    ):
        annotated(tmp_path)


def test_annotations_are_in_the_order_of_the_images_and_then_of_their_instances(world: World, tmp_path: Path) -> None:
    root, _ = world
    schemas = {"given": GIVEN, "masks": MASKS, "captions": CAPTIONS, "strokes": STROKES}
    for name, schema in schemas.items():
        write(root, name, read(root, name, schema), schema, to=tmp_path / name / "train")
    instances = read(root, "instances", INSTANCES).sort_values("index", kind="stable", ascending=False)
    write(root, "instances", instances, INSTANCES, to=tmp_path / "instances" / "train")
    for part in sorted((root / "images" / "train").glob("*.parquet")):
        tables.write(tmp_path / "images" / "train" / part.name, tables.read(part, IMAGES)[::-1], IMAGES)
    annotated(tmp_path)
    rows = read(tmp_path, "annotated", ANNOTATED)
    assert list(dict.fromkeys(rows["key"])) == read(tmp_path, "images", IMAGES)["key"].tolist()
    for _, own in rows.groupby("key"):
        assert own["index"].tolist() == list(range(len(own)))[::-1]


def entry(length: int, key: str = "k") -> shard.Entry:
    """A sample whose picture has so many bytes."""
    return shard.Entry(Picture(key, Path(), 1, 1, ""), Layout(key=key, prompt="", instances=()), "", length)


@pytest.mark.parametrize(
    ("lengths", "sizes_of_shards"),
    [
        ([1] * 7, [3, 3, 1]),
        ([999_999, 1, 5], [2, 1]),
        ([999_999, 0, 5], [3]),
        ([2_000_000, 1, 1], [1, 2]),
        ([], []),
    ],
)
def test_a_shard_is_full_with_so_many_samples_or_with_all_its_bytes(
    lengths: list[int], sizes_of_shards: list[int]
) -> None:
    params = SHARD.model_copy(update={"samples_per_shard": 3, "megabytes_per_shard": 1})
    assert [len(own) for own in shard.cut([entry(length) for length in lengths], params)] == sizes_of_shards


@pytest.mark.parametrize("key", ["k" * 77, "a.b", "a/b", "a\\b", "é"])
def test_a_key_that_no_member_of_a_tar_can_have_is_refused_by_name(key: str) -> None:
    assert shard._named("k" * 76) == "k" * 76
    with pytest.raises(ValueError, match=f"^key {re.escape(repr(key))}: a sample's key is at most 76 ASCII"):
        shard._named(key)


def test_a_picture_that_is_not_the_one_that_came_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"another")
    wrong = entry(7)._replace(picture=Picture("k", tmp_path / "a.png", 1, 1, ""), sha256="0" * 64)
    with pytest.raises(ValueError, match=r"/a\.png: not the file that ingest stored"):
        shard._sample(wrong)


def test_every_format_is_there_in_the_end(world: World) -> None:
    root, counts = world
    annotated_rows = read(root, "annotated", ANNOTATED)
    assert counts["annotate"]["kept"] == len(annotated_rows) > 0
    assert annotated_rows[list(FORMATS)].notna().all().all()
    assert counts["annotate"]["pictures_without_instances"] == 5 - annotated_rows["key"].nunique()
    assert json.dumps(dict(counts["annotate"]))
