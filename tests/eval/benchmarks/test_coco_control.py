"""COCO's benchmark, held by the reference's own output, and rebuilt to the same bytes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import coco_world
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eval.benchmarks import build_coco_control as build
from eval.benchmarks import coco_control as coco_benchmark
from eval.inputs import coco, ground_truth_files
from eval.inputs import pictures as picture_folders
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts import coco as coco_files
from instdiff.layouts import files, masks
from instdiff.layouts.columns import ANNOTATED, IMAGES

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "eval_meta.json").read_text())


def _option(flags: list[str], name: str, default: int) -> int:
    return int(flags[flags.index(name) + 1]) if name in flags else default


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: " ".join(case["flags"]) or "plain")
def test_prompts_phrases_places_and_jobs_are_the_references(case: dict[str, Any], tmp_path: Path) -> None:
    for name in ("instances", "captions"):
        (tmp_path / name).write_text(json.dumps(GOLDEN[name]))
    flags = case["flags"]
    attributes = [
        attribute for attribute in coco_benchmark.WORDS if f"--add_random_{attribute.replace('our', 'or')}s" in flags
    ]
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
    pictures = coco_benchmark.built(instances, captions, request)
    names = {category.id: category.name for category in instances.categories}
    assert [picture.image["file_name"] for picture in pictures] == [
        picture["file_name"] for picture in case["pictures"]
    ]
    for picture, expected in zip(pictures, case["pictures"], strict=True):
        _, rows = coco_benchmark.rows(picture, names, seed=0, compat="reference")
        assert picture.image["caption"] == expected["prompt"]
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
    first_seed, second_seed = _built(tmp_path, "one"), _built(tmp_path, "other")
    for path in sorted(first_seed.iterdir()):
        assert path.read_bytes() == (second_seed / path.name).read_bytes(), path.name


def test_the_ground_truth_keeps_every_annotation_and_the_layouts_the_first_thirty(tmp_path: Path) -> None:
    out = _built(tmp_path, "whole")
    truth = ground_truth_files.read(out / "annotations.json", None, None)
    content = coco_world.instances()
    assert len(truth.instances) == len(content["annotations"])
    assert truth.instances["crowd"].sum() == 1
    counts = Counter(tables.read(out / "annotated.parquet", ANNOTATED)["key"])
    assert max(counts.values()) == 30
    assert [layout.key for layout in files.read(out / "layouts.json")] == list(truth.images["key"])
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
    assert [key for part in parts for key in part["key"]] == list(whole["key"])


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
    counts = Counter(annotation.image_id for annotation in instances.annotations.values())
    chosen = coco_benchmark.subset(instances, 10, seed=0)
    assert len(set(chosen)) == 10
    halves = Counter(counts[image] > 2 for image in chosen)
    assert abs(halves[True] - sum(count > 2 for count in counts.values()) / 2) <= 1
    assert coco_benchmark.subset(instances, 10, seed=0) == chosen != coco_benchmark.subset(instances, 10, seed=1)
    out = _built(tmp_path, "few", "--subset", "10")
    assert not json.loads((out / "annotations.json").read_text())["info"]["comparable"]


def _instances(counts: list[int]) -> coco.Instances:
    """Pictures with so many instances."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 20, "height": 10} for n in range(len(counts))]
    of = [image for image, count in enumerate(counts) for _ in range(count)]
    annotations = [{"id": n, "image_id": image, "category_id": 1, "bbox": [0, 0, 1, 1]} for n, image in enumerate(of)]
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
    return coco_files.read(whole, "instances", coco.CocoInstance)


@pytest.mark.parametrize("seed", range(8))
def test_a_subset_takes_of_pictures_with_none_one_two_three_five_and_ten_instances_alike(seed: int) -> None:
    counts = [0, 0, 1, 1, 2, 2, 3, 4, 5, 9, 10, 30]
    chosen = coco_benchmark.subset(_instances(counts), 6, seed)
    assert [image // 2 for image in chosen] == [0, 1, 2, 3, 4, 5]


def test_a_subset_is_one_picture_or_more_and_all_at_most() -> None:
    instances = _instances([0, 1, 2, 7])
    assert len(coco_benchmark.subset(instances, 1, 0)) == 1
    assert coco_benchmark.subset(instances, 4, 0) == [0, 1, 2, 3]
    for count in (-1, 0, 5):
        with pytest.raises(ValueError, match=f"--subset {count}: there are 4 pictures"):
            coco_benchmark.subset(instances, count, 0)


@given(st.integers(0, 60), st.integers(1, 20))
def test_jobs_of_any_number_split_any_number_of_pictures(count: int, num_jobs: int) -> None:
    parts = [list(range(count))[coco_benchmark.part(count, job, num_jobs)] for job in range(num_jobs)]
    assert [place for part in parts for place in part] == list(range(count))
    assert len(parts[0]) == min(count, count // num_jobs + 1)


def _request(**changed: Any) -> coco_benchmark.Request:
    return coco_benchmark.Request(100, (), "ours", 0, None, (0, 1))._replace(**changed)


def _picture(width: int, height: int, *annotations: dict[str, Any]) -> tuple[coco.Instances, dict[int, str]]:
    own = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], **annotation}
        for n, annotation in enumerate(annotations, start=8)
    ]
    image = {"id": 1, "file_name": "a.jpg", "width": width, "height": height}
    whole = {"images": [image], "annotations": own, "categories": [{"id": 1, "name": "dog"}]}
    return coco_files.read(whole, "instances", coco.CocoInstance), {1: "dog"}


def test_every_place_of_an_annotation_is_stretched_with_the_sides_of_its_picture() -> None:
    runs = {"size": [20, 50], "counts": [100, 200, 700]}  # columns 5 to 15 of 50
    polygon = [[10, 4, 20, 4, 20, 8]]
    places = {"bbox": [5, 4, 10, 8], "point": [10, 5], "area": 7.5}
    instances, _ = _picture(50, 20, {**places, "segmentation": polygon}, {**places, "segmentation": runs})
    (picture,) = coco_benchmark.built(instances, None, _request())
    first, second = picture.annotations  # 2 times as wide, 5 times as high
    assert first["segmentation"] == [[20, 20, 40, 20, 40, 40]]
    assert masks.box_of(masks.decode(masks.Rle(**second["segmentation"]))) == pytest.approx([0.1, 0, 0.3, 1])
    for annotation in (first, second):
        assert (annotation["bbox"], annotation["point"], annotation["area"]) == ([10, 20, 20, 40], [20, 25], 75)
    _, rows = coco_benchmark.rows(picture, {1: "dog"}, 0, "ours")
    for row in rows:
        assert row["box"] == pytest.approx([0.1, 0.2, 0.3, 0.6])
        assert row["point"] == pytest.approx([0.2, 0.25])


def test_strokes_hang_on_the_seed_the_picture_and_the_place_in_it_and_on_nothing_else() -> None:
    square = {"segmentation": [[40, 40, 50, 40, 50, 50, 40, 50]]}  # outlines of few pixels are drawn at random, too
    instances, names = _picture(100, 100, square, square)
    (original,) = coco_benchmark.built(instances, None, _request())
    again = original._replace(image=original.image | {"file_name": "b.jpg"})

    def strokes_of(picture: coco_benchmark.ControlPicture, seed: int) -> list[tuple[list[float], list[float]]]:
        return [(row["scribble"], row["outline"]) for row in coco_benchmark.rows(picture, names, seed, "ours")[1]]

    assert strokes_of(original, 0) == strokes_of(original, 0)
    (first, second), others, elsewhere = strokes_of(original, 0), strokes_of(original, 1), strokes_of(again, 0)
    for stroke in (0, 1):
        assert len({tuple(row[stroke]) for row in (first, second, *others, *elsewhere)}) == 6


def test_the_references_only_mask_is_its_uppermost_row_and_no_other() -> None:
    instances, names = _picture(100, 100, {"segmentation": [[20, 0, 60, 0, 60, 1, 20, 1]]})  # the first row alone
    (picture,) = coco_benchmark.built(instances, None, _request())
    _, (row,) = coco_benchmark.rows(picture, names, 0, "reference")
    columns = masks.decode(masks.Rle(size=(100, 100), counts=row["mask"]))
    assert columns.all(0).nonzero()[0].tolist() == list(range(20, 60))
    assert columns.sum() == 40 * 100


OPTIONS = {  # words, the part of the request they are, and its value
    "--size": (["64"], "size", 64),
    "--attributes": (["texture"], "attributes", ("texture",)),
    "--compat": (["reference"], "compat", "reference"),
    "--seed": (["7"], "seed", 7),
    "--subset": (["5"], "subset", 5),
    "--job": (["1/3"], "job", (1, 3)),
}
PATHS = {"--instances", "--captions", "--out", "--pictures"}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_what_is_built_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    words, name, expected = OPTIONS[option]
    written: list[tuple[Any, ...]] = []
    write = build.write
    monkeypatch.setattr(build, "write", lambda *arguments: written.append(arguments) or write(*arguments))
    out = _built(tmp_path, "out", option, *words)
    request = written[0][-1]
    assert request == _request(size=96)._replace(**{name: expected})
    info = json.loads((out / "annotations.json").read_text())["info"]
    assert info["request"] == json.loads(json.dumps(request._asdict()))
    pictures, instances = written[0][1], coco.read_instances(tmp_path / "instances_val.json")
    assert pictures == coco_benchmark.built(instances, coco.read_captions(tmp_path / "captions_val.json"), request)
    annotated = [
        coco_benchmark.rows(
            picture, {category.id: category.name for category in instances.categories}, request.seed, request.compat
        )[1]
        for picture in pictures
    ]
    expected_rows = [row for rows in annotated for row in rows]
    there = tables.read(out / "annotated.parquet", ANNOTATED)
    assert [list(row) for row in there["outline"]] == [pytest.approx(row["outline"]) for row in expected_rows]
    assert there["mask"].tolist() == [row["mask"] for row in expected_rows]


def test_what_was_built_without_captions_may_be_built_with_them(tmp_path: Path) -> None:
    instances, captions = coco_world.write(tmp_path)
    words = ["coco", "--instances", str(instances), "--out", str(tmp_path / "out"), "--size", "64"]
    for more in ([], ["--captions", str(captions)]):
        command.main([*words, *more])
    assert tables.read(tmp_path / "out" / "images.parquet", IMAGES)["caption"].str.contains("A view").all()


def test_each_file_given_is_the_one_read_and_the_command_has_no_other_options(tmp_path: Path) -> None:
    coco_world.write(tmp_path)
    content = coco_world.instances()
    (tmp_path / "few.json").write_text(json.dumps(content | {"annotations": content["annotations"][:9]}))
    few = ["coco", "--instances", str(tmp_path / "few.json"), "--out", str(tmp_path / "few")]
    command.main(few)
    annotations = json.loads((tmp_path / "few" / "annotations.json").read_text())
    assert len(annotations["annotations"]) == 9
    assert {image["width"] for image in annotations["images"]} == {build.SIZE}
    assert annotations["info"]["sources"].keys() == {"few.json"}
    options = {action.option_strings[-1] for action in build.parser()._actions}
    assert options - {"--help"} == OPTIONS.keys() | PATHS


def test_real_pictures_are_stretched_beside_it(tmp_path: Path) -> None:
    content = coco_world.instances()
    coco_world.paint(tmp_path / "painted", content, 100)
    (tmp_path / "real").mkdir()
    for image in content["images"]:
        name = Path(image["file_name"])
        (tmp_path / "painted" / f"{name.stem}.png").rename(tmp_path / "real" / name.name)
    out = _built(tmp_path, "bench", "--pictures", str(tmp_path / "real"))
    truth = ground_truth_files.read(out / "annotations.json", None, None)
    assert set(picture_folders.find(tmp_path / "bench-real", truth.images, None).sizes) == {(96, 96)}
    wide = next(image for image in content["images"] if image["width"] > image["height"])
    pixels = np.asarray(Image.open(tmp_path / "real" / wide["file_name"]).resize((96, 96), Image.Resampling.BICUBIC))
    stretched = picture_folders.read(tmp_path / "bench-real" / f"{Path(wide['file_name']).stem}.png")
    assert np.array_equal(stretched, pixels)


@pytest.mark.parametrize("job", ["3", "4/4", "-1/2", "a/b"])
def test_a_job_that_is_none_is_refused(tmp_path: Path, job: str) -> None:
    with pytest.raises(SystemExit):
        _built(tmp_path, "none", "--job", job)
    assert not (tmp_path / "none").exists()


def test_an_image_without_a_caption_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, captions = coco_world.write(tmp_path)
    content = json.loads(captions.read_text())
    content["annotations"] = [annotation for annotation in content["annotations"] if annotation["image_id"] != 107]
    captions.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        _built(tmp_path, "none")
    assert "captions_val.json: image 107 has no caption" in capsys.readouterr().err


def test_only_the_reference_shows_a_pictures_only_mask_as_its_uppermost_row_in_every_row(tmp_path: Path) -> None:
    content = coco_world.instances()
    alone = {
        image
        for image, count in Counter(annotation["image_id"] for annotation in content["annotations"]).items()
        if count == 1
    }
    assert alone
    keys = {f"{number:012d}" for number in alone}
    ours = tables.read(_built(tmp_path, "ours") / "annotated.parquet", ANNOTATED)
    theirs = tables.read(_built(tmp_path, "theirs", "--compat", "reference") / "annotated.parquet", ANNOTATED)
    for our_row, reference_row in zip(ours.to_dict("records"), theirs.to_dict("records"), strict=True):
        mask, shown_mask = (
            masks.decode(masks.Rle(size=(96, 96), counts=row["mask"])) for row in (our_row, reference_row)
        )
        assert np.array_equal(shown_mask, np.tile(mask[0], (96, 1)) if our_row["key"] in keys else mask)
        assert list(our_row["scribble"]) == list(reference_row["scribble"])


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
