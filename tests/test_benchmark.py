"""COCO's benchmark, held by the reference's own output, and rebuilt to the same bytes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import coco_world
import numpy as np
import pytest

from eval.benchmark import coco_benchmark
from eval.inputs import coco, ground_truth_files
from eval.inputs import pictures as shown
from instdiff import __main__ as command
from instdiff import tables
from instdiff.layouts import files, masks
from instdiff.tables import ANNOTATED, IMAGES

GOLDEN = json.loads((Path(__file__).parent / "golden" / "eval_meta.json").read_text())


def _option(flags: list[str], name: str, default: int) -> int:
    return int(flags[flags.index(name) + 1]) if name in flags else default


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: " ".join(case["flags"]) or "plain")
def test_prompts_phrases_places_and_jobs_are_the_references(case: dict[str, Any], tmp_path: Path) -> None:
    for name in ("instances", "captions"):
        (tmp_path / name).write_text(json.dumps(GOLDEN[name]))
    flags = case["flags"]
    attributes = [one for one in coco_benchmark.WORDS if f"--add_random_{one.replace('our', 'or')}s" in flags]
    request = coco_benchmark.Request(
        size=512,
        attributes=tuple(attributes),
        compat="reference",
        seed=0,
        subset=None,
        job=(_option(flags, "--job_index", 0), _option(flags, "--num_jobs", 1)),
    )
    instances = coco.read_instances(tmp_path / "instances")
    captions = coco.read_captions(tmp_path / "captions") if "--use_captions" in flags else None
    made = coco_benchmark.built(instances, captions, request)
    names = {one.id: one.name for one in instances.categories}
    assert [one.image["file_name"] for one in made] == [one["file_name"] for one in case["pictures"]]
    for one, expected in zip(made, case["pictures"], strict=True):
        _, rows = coco_benchmark.rows(one, names, seed=0, compat="reference")
        assert one.image["caption"] == expected["prompt"]
        assert [row["caption"] for row in rows] == expected["phrases"][:30]
        assert len(rows) == expected["n_locations"]
        heads = len(expected["locations_head"])
        assert np.reshape([row["box"] for row in rows][:heads], (-1, 4)) == pytest.approx(
            np.reshape(expected["locations_head"], (-1, 4))
        )
        assert np.reshape([row["point"] for row in rows][:heads], (-1, 2)) == pytest.approx(
            np.reshape(expected["points_head"], (-1, 2))
        )


def _built(folder: Path, name: str, *more: str) -> Path:
    instances, captions = folder / "instances_val.json", folder / "captions_val.json"
    if not instances.is_file():
        coco_world.write(folder)
    out = folder / name
    command.main(
        ["coco", "--instances", str(instances), "--captions", str(captions), "--out", str(out), "--size", "96", *more]
    )
    return out


def test_built_twice_it_is_the_same_bytes(tmp_path: Path) -> None:
    one, other = _built(tmp_path, "one"), _built(tmp_path, "other")
    for path in sorted(one.iterdir()):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_the_ground_truth_keeps_every_annotation_and_the_layouts_the_first_thirty(tmp_path: Path) -> None:
    out = _built(tmp_path, "whole")
    truth = ground_truth_files.read(out / "annotations.json", None, None)
    content = coco_world.instances()
    assert len(truth.instances) == len(content["annotations"])
    assert truth.instances["crowd"].sum() == 1
    counts = Counter(tables.read(out / "annotated.parquet", ANNOTATED)["key"])
    assert max(counts.values()) == 30
    assert [one.key for one in files.read(out / "layouts.json")] == list(truth.images["key"])
    assert list(truth.images["key"]) == sorted(truth.images["key"])  # by id
    assert (truth.images[["width", "height"]] == 96).all(axis=None)


def test_masks_and_boxes_are_stretched_alike(tmp_path: Path) -> None:
    out = _built(tmp_path, "whole")
    truth = ground_truth_files.read(out / "annotations.json", None, None)
    for row in truth.instances.to_dict("records"):
        mask_HW = masks.decode(masks.Rle(size=(96, 96), counts=row["mask"]))
        assert np.abs(np.array(masks.box_of(mask_HW)) - row["box"]).max() <= 1.5 / 96


def test_strokes_lie_in_their_masks_and_hang_on_the_key_alone(tmp_path: Path) -> None:
    whole = tables.read(_built(tmp_path, "whole") / "annotated.parquet", ANNOTATED).set_index(["key", "index"])
    part = tables.read(_built(tmp_path, "part", "--job", "1/3") / "annotated.parquet", ANNOTATED)
    assert 0 < len(part) < len(whole)
    for row in part.to_dict("records"):
        whole_row = whole.loc[(row["key"], row["index"])]
        assert list(row["scribble"]) == list(whole_row["scribble"])
        rows, columns = (np.round(np.reshape(row["scribble"], (-1, 2)) * 96).astype(int)).T[::-1]
        assert masks.decode(masks.Rle(size=(96, 96), counts=row["mask"]))[rows, columns].all()


def test_the_jobs_together_are_the_whole(tmp_path: Path) -> None:
    whole = tables.read(_built(tmp_path, "whole") / "images.parquet", IMAGES)
    parts = [tables.read(_built(tmp_path, f"{n}", "--job", f"{n}/4") / "images.parquet", IMAGES) for n in range(4)]
    assert [key for one in parts for key in one["key"]] == list(whole["key"])


def test_a_space_stands_between_caption_and_phrases_unless_the_reference_is_asked_for() -> None:
    assert coco_benchmark.prompt("A horse.", ["person", "horse"], "reference") == "A horse.person, horse"
    assert coco_benchmark.prompt("A horse. ", ["person", "horse"], "ours") == "A horse. person, horse"
    assert coco_benchmark.prompt("A horse.", [], "ours") == "A horse."
    assert coco_benchmark.prompt("", ["person"], "ours") == "person"


def test_a_subset_keeps_the_shares_of_full_and_empty_pictures_and_says_it_does_not_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco_world.write(tmp_path)
    instances = coco.read_instances(tmp_path / "instances_val.json")
    counts = Counter(one.image_id for one in instances.annotations.values())
    chosen = coco_benchmark.subset(instances, 10, seed=0)
    assert len(set(chosen)) == 10
    halves = Counter(counts[image] > 2 for image in chosen)
    assert abs(halves[True] - sum(count > 2 for count in counts.values()) / 2) <= 1
    assert coco_benchmark.subset(instances, 10, seed=0) == chosen != coco_benchmark.subset(instances, 10, seed=1)
    out = _built(tmp_path, "few", "--subset", "10")
    assert not json.loads((out / "annotations.json").read_text())["info"]["comparable"]


def test_real_pictures_are_stretched_beside_it(tmp_path: Path) -> None:
    content = coco_world.instances()
    coco_world.paint(tmp_path / "painted", content, 100)
    (tmp_path / "real").mkdir()
    for image in content["images"]:
        name = Path(image["file_name"])
        (tmp_path / "painted" / f"{name.stem}.png").rename(tmp_path / "real" / name.name)
    out = _built(tmp_path, "bench", "--pictures", str(tmp_path / "real"))
    truth = ground_truth_files.read(out / "annotations.json", None, None)
    assert set(shown.find(tmp_path / "bench-real", truth.images, None).sizes) == {(96, 96)}


@pytest.mark.parametrize("job", ["3", "4/4", "-1/2", "a/b"])
def test_a_job_that_is_none_is_refused(tmp_path: Path, job: str) -> None:
    with pytest.raises(SystemExit):
        _built(tmp_path, "none", "--job", job)
    assert not (tmp_path / "none").exists()


def test_an_image_without_a_caption_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, captions = coco_world.write(tmp_path)
    content = json.loads(captions.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 107]
    captions.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        _built(tmp_path, "none")
    assert "captions_val.json: image 107 has no caption" in capsys.readouterr().err


def test_only_the_reference_shows_a_pictures_only_mask_as_its_uppermost_row_in_every_row(tmp_path: Path) -> None:
    content = coco_world.instances()
    alone = {image for image, count in Counter(one["image_id"] for one in content["annotations"]).items() if count == 1}
    assert alone
    keys = {f"{number:012d}" for number in alone}
    ours = tables.read(_built(tmp_path, "ours") / "annotated.parquet", ANNOTATED)
    theirs = tables.read(_built(tmp_path, "theirs", "--compat", "reference") / "annotated.parquet", ANNOTATED)
    for one, other in zip(ours.to_dict("records"), theirs.to_dict("records"), strict=True):
        mask, shown = (masks.decode(masks.Rle(size=(96, 96), counts=row["mask"])) for row in (one, other))
        assert np.array_equal(shown, np.tile(mask[0], (96, 1)) if one["key"] in keys else mask)
        assert list(one["scribble"]) == list(other["scribble"])


def test_a_file_of_a_stock_name_that_is_another_is_said_not_to_compare_and_no_other_may_take_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instances, _ = coco_world.write(tmp_path)
    stock = instances.rename(tmp_path / "instances_val2017.json")
    words = ["coco", "--instances", str(stock), "--out", str(tmp_path / "out"), "--size", "96"]
    command.main(words)
    assert "instances_val2017.json is not COCO's own, which has 19,987,840 bytes" in capsys.readouterr().out
    assert not json.loads((tmp_path / "out" / "annotations.json").read_text())["info"]["comparable"]
    stock.write_text(json.dumps(coco_world.instances() | {"images": coco_world.instances()["images"], "licenses": []}))
    with pytest.raises(SystemExit):
        command.main(words)
    assert "was built from another instances_val2017.json" in capsys.readouterr().err
