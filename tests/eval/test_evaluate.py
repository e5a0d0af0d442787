"""`instdiff evaluate` on a foreign model's pictures: pycocotools' numbers, and every mix-up refused by name."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coco_world
import eval_world
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from eval import detect, evaluate
from eval.inputs import coco, coco_results, ground_truth, pictures
from eval.scoring import features
from eval.scoring.columns import SCORES
from eval.scoring.features import Judges
from instdiff import __main__ as command
from instdiff.files import provenance, tables
from instdiff.layouts import files as layout_files
from instdiff.layouts import from_tables
from instdiff.layouts.columns import ANNOTATED, IMAGES
from instdiff.networks import detector
from instdiff.networks.finders import choice
from instdiff.networks.finders.closed import ClosedFinder

PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's files, real pictures, drawn pictures, detections of each, and values quick to compute."""
    folder = tmp_path_factory.mktemp("coco")
    instances, _ = coco_world.write(folder)
    content = json.loads(instances.read_text())
    for name, background in (("real", 100), ("drawn", 180), ("other", 30)):
        coco_world.paint(folder / name, content, background)
        (folder / f"{name}.json").write_text(json.dumps(coco_world.results_of(content, background)))
    values = PARAMS | {"score": PARAMS["score"] | {"num_resamples": 20, "num_resamples_parts": 5}}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return folder


def _evaluate(sample: Path, out: Path, name: str, *more: str) -> Path:
    command.main(
        [
            "evaluate",
            *("--pictures", str(sample / name), "--layouts", str(sample / "instances_val.json")),
            *("--detections", str(sample / f"{name}.json"), "--params", str(sample / "params.yaml")),
            *("--out", str(out), "--row", name, *more),
        ]
    )
    return out / name


def _refused(capsys: pytest.CaptureFixture[str], sample: Path, out: Path, name: str, *more: str) -> str:
    with pytest.raises(SystemExit) as stop:
        _evaluate(sample, out, name, *more)
    assert stop.value.code == 2
    assert not (out / name).exists()
    return capsys.readouterr().err


def _copied(sample: Path, tmp_path: Path) -> Path:
    """Drawn pictures that a test may spoil, beside the sample's files."""
    copy = tmp_path / "sample"
    shutil.copytree(sample, copy)
    return copy


def _metrics(row: Path) -> dict[str, dict[str, float]]:
    content: dict[str, dict[str, float]] = json.loads((row / "metrics.json").read_text())
    return content


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_numbers_are_those_of_pycocotools_on_the_files_themselves(sample: Path, tmp_path: Path, kind: str) -> None:
    metrics = _metrics(_evaluate(sample, tmp_path, "drawn"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(sample / "instances_val.json")
        evaluation = COCOeval(truth, truth.loadRes(str(sample / "drawn.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    name = {"bbox": "box", "segm": "mask"}[kind]
    ours = [metrics[f"{name}_{part}"]["value"] for part in ("ap", "ap50", "ap75", "ar")]
    assert ours == pytest.approx([evaluation.stats[place] for place in (0, 1, 2, 8)], abs=1e-12)
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    for place, category in enumerate(coco_world.CATEGORIES):
        of_category = metrics[f"{name}_ap/category/{category['name']}"]["value"]
        assert of_category == pytest.approx(precision[:, :, place].mean(), abs=1e-12)


def test_every_instance_has_its_line_crowds_and_all_and_the_result_says_where_it_comes_from(
    sample: Path, tmp_path: Path
) -> None:
    row = _evaluate(sample, tmp_path, "drawn", "--real", str(sample / "real"), "--protocol", "box")
    content = json.loads((sample / "instances_val.json").read_text())
    scores = tables.read(row / "instances.parquet", SCORES)
    assert len(scores) == len(content["annotations"])
    assert set(scores["key"]) == {
        Path(image["file_name"]).stem
        for image in content["images"]
        if any(annotation["image_id"] == image["id"] for annotation in content["annotations"])
    }
    source = json.loads((row / "provenance.json").read_text())
    assert source["protocol"] == {"name": "box", "formats": ["box"], "mis": 0.0}
    assert source["detected_by"]["pictures"] is None  # and nobody claims that it was known
    assert source["sets"]["real"]["count"] == coco_world.NUM_PICTURES


def test_a_result_repeats_what_the_record_beside_the_pictures_says_of_their_weights(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = _copied(sample, tmp_path)
    pictures_of = [
        provenance.picture_line(own / "drawn", path.name, path.stem) for path in sorted((own / "drawn").iterdir())
    ]
    for digest in ("one", "another"):
        provenance.write(own / "drawn", pictures_of, weights={"unet": digest})
        row = _evaluate(own, tmp_path / "out", "drawn")
        assert json.loads((row / "provenance.json").read_text())["drawn_by"]["weights"] == {"unet": digest}
    assert _metrics(row) == _metrics(_evaluate(sample, tmp_path / "without", "drawn"))
    assert json.loads((tmp_path / "without/drawn/provenance.json").read_text())["drawn_by"] is None
    Image.new("RGB", Image.open(own / "drawn" / pictures_of[2]["file"]).size).save(
        own / "drawn" / pictures_of[2]["file"]
    )
    sentence = _refused(capsys, own, tmp_path / "later", "drawn")
    assert f"{pictures_of[2]['file']} is not the picture that was drawn then" in sentence
    (own / "drawn" / provenance.RECORD).write_text('{"made": "elsewhere"}')
    assert "no record of how pictures were drawn" in _refused(capsys, own, tmp_path / "later", "drawn")


def test_the_real_pictures_are_refused_in_another_row(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    shutil.rmtree(spoilt / "drawn")
    shutil.copytree(spoilt / "real", spoilt / "drawn")
    assert "are the real ones" in _refused(capsys, spoilt, tmp_path / "out", "drawn", "--real", str(spoilt / "real"))


def test_real_pictures_compressed_anew_are_refused_too(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    shutil.rmtree(spoilt / "drawn")
    (spoilt / "drawn").mkdir()
    for path in (spoilt / "real").iterdir():
        Image.open(path).save(spoilt / "drawn" / f"{path.stem}.jpg", quality=70)
    assert "look like the real ones" in _refused(
        capsys, spoilt, tmp_path / "out", "drawn", "--real", str(spoilt / "real")
    )


def test_detections_of_the_real_pictures_are_an_alarm_whatever_the_pictures(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    _evaluate(spoilt, tmp_path / "out", "real", "--real", str(spoilt / "real"))
    shutil.copy(spoilt / "real.json", spoilt / "drawn.json")
    assert "exactly as in the row 'real'" in _refused(capsys, spoilt, tmp_path / "out", "drawn")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "1 missing pictures: 000000000100"),
        (lambda path: shutil.copy(path, path.with_name("more.png")), "1 extra pictures: more.png"),
        (lambda path: shutil.copy(path, path.with_suffix(".jpg")), "duplicate pictures"),
        (lambda path: Image.new("RGB", (64, 64)).save(path), "000000000100.png is 64x64"),
        (lambda path: shutil.copy(path.with_name("000000000121.png"), path), "have the pixels of another of their set"),
        (lambda path: path.write_bytes(b"no picture"), "000000000100.png: not a readable picture"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_by_name(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, sentence: str
) -> None:
    spoilt = _copied(sample, tmp_path)
    spoil(spoilt / "drawn" / "000000000100.png")
    assert sentence in _refused(capsys, spoilt, tmp_path / "out", "drawn")


def test_class_positions_in_place_of_category_ids_are_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    detections = json.loads((spoilt / "drawn.json").read_text())
    (spoilt / "drawn.json").write_text(json.dumps([detection | {"category_id": 0} for detection in detections]))
    sentence = _refused(capsys, spoilt, tmp_path / "out", "drawn")
    assert "drawn.json: 0: category_id 0 is not among the ground truth's categories" in sentence


def test_masks_of_the_size_of_other_pictures_are_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    detections = json.loads((spoilt / "drawn.json").read_text())
    detections[0]["segmentation"] = {"size": [480, 640], "counts": "0"}
    (spoilt / "drawn.json").write_text(json.dumps(detections))
    assert "segmentation.size (480, 640) is not the picture's" in _refused(capsys, spoilt, tmp_path / "out", "drawn")


def test_a_detector_without_masks_is_judged_by_its_boxes(sample: Path, tmp_path: Path) -> None:
    spoilt = _copied(sample, tmp_path)
    detections = json.loads((spoilt / "drawn.json").read_text())
    (spoilt / "drawn.json").write_text(
        json.dumps([{k: v for k, v in detection.items() if k != "segmentation"} for detection in detections])
    )
    metrics = _metrics(_evaluate(spoilt, tmp_path / "out", "drawn"))
    assert metrics["box_ap"] == _metrics(_evaluate(sample, tmp_path / "with", "drawn"))["box_ap"]
    assert not {"mask_ap", "mask_miou", "pim", "pim_paper_point"} & metrics.keys()


def test_the_ends_of_the_scale_are_scored_beside_a_result_and_said_to_lack_where_they_do(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [("--real", "real"), ("--real-detections", "real.json"), ("--none", "other")]
    arguments = [word for option, name in files for word in (option, str(sample / name))]
    _evaluate(sample, tmp_path, "drawn", *arguments)
    output = " ".join(capsys.readouterr().out.split())
    assert sorted(path.parent.name for path in tmp_path.glob("*/metrics.json")) == ["drawn", "real"]
    assert "there is no row 'none'" in output
    assert "the detections do not say on which pictures they were made" in output
    assert "there is no row 'real'" not in output
    _evaluate(sample, tmp_path, "drawn", *arguments, "--none-detections", str(sample / "other.json"))
    assert "there is no row" not in capsys.readouterr().out
    assert json.loads((tmp_path / "none" / "provenance.json").read_text())["protocol"]["formats"] == []


def test_with_the_real_pictures_given_their_detections_are_an_alarm_at_once(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _copied(sample, tmp_path)
    shutil.copy(spoilt / "real.json", spoilt / "drawn.json")
    real = ("--real", str(spoilt / "real"), "--real-detections", str(spoilt / "real.json"))
    assert "exactly as in the row 'real'" in _refused(capsys, spoilt, tmp_path / "out", "drawn", *real)


def test_detections_made_here_are_served_again_only_for_the_same_pictures_by_the_same_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {}, 90)
    eval_world.write_detector(tmp_path / "detector", b"one")
    values = PARAMS | {"score": PARAMS["score"] | {"num_resamples": 20, "num_resamples_parts": 5}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    detect._loaded.cache_clear()
    loaded, calls, write = [], [], detect.write
    monkeypatch.setattr(detector, "load", lambda folder, where: loaded.append(folder) or eval_world.PixelDetector())
    monkeypatch.setattr(detect, "write", lambda *arguments: calls.append(arguments) or write(*arguments))
    layouts_in = ("--layouts", str(tmp_path / "annotated.parquet"), "--images", str(tmp_path / "images.parquet"))
    more = ("--detector", str(tmp_path / "detector"), "--params", str(tmp_path / "params.yaml"))

    def average_precision() -> float:
        out = ("--row", "box", "--out", str(tmp_path / "out"))
        command.main(["evaluate", "--pictures", str(tmp_path / "drawn"), *layouts_in, *more, *out])
        return _metrics(tmp_path / "out" / "box")["box_miou"]["value"]

    assert (average_precision(), average_precision()) == (1.0, 1.0)
    assert (len(calls), len(loaded)) == (1, 1)
    shutil.rmtree(tmp_path / "drawn")
    eval_world.draw(tmp_path / "drawn", {("b", 0): None}, 90)
    assert average_precision() == pytest.approx(6 / 7)
    assert (len(calls), len(loaded)) == (2, 1)
    (tmp_path / "detector" / "weights").write_bytes(b"another")
    average_precision()
    assert (len(calls), len(loaded)) == (3, 2)


def test_several_seeds_are_one_row_each_and_their_spread(sample: Path, tmp_path: Path) -> None:
    command.main(
        [
            "evaluate",
            *("--pictures", str(sample / "drawn"), str(sample / "other"), "--row", "box"),
            *("--layouts", str(sample / "instances_val.json"), "--params", str(sample / "params.yaml")),
            *("--detections", str(sample / "drawn.json"), str(sample / "other.json"), "--out", str(tmp_path)),
        ]
    )
    values = [_metrics(tmp_path / f"box@{name}")["box_ap"]["value"] for name in ("drawn", "other")]
    spread = json.loads((tmp_path / "box.seeds.json").read_text())["metrics"]["box_ap"]
    assert spread["value"] == pytest.approx(sum(values) / 2)
    assert spread["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert (spread["min"], spread["max"], spread["seeds"]) == (min(values), max(values), 2)
    assert spread["low"] < spread["value"] < spread["high"]


def test_layouts_and_tables_of_one_ground_truth_give_the_same_scores(tmp_path: Path) -> None:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {("b", 0): None}, 90)
    images, annotated = tmp_path / "images.parquet", tmp_path / "annotated.parquet"
    wanted = from_tables.from_tables(tables.read(images, IMAGES), tables.read(annotated, ANNOTATED))
    layout_files.write(tmp_path / "layouts.json", wanted)
    judged = pictures.find(tmp_path / "drawn", ground_truth.load(images, annotated).images, None)
    eval_world.detected(tmp_path / "found.json", judged)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    shared = ["evaluate", "--pictures", str(tmp_path / "drawn"), "--detections", str(tmp_path / "found.json")]
    shared += ["--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out")]
    command.main([*shared, "--row", "tables", "--layouts", str(annotated), "--images", str(images)])
    command.main([*shared, "--row", "layouts", "--layouts", str(tmp_path / "layouts.json")])
    scores, other_scores = (
        tables.read(tmp_path / "out" / name / "instances.parquet", SCORES) for name in ("tables", "layouts")
    )
    compared = ["key", "index", "category", "area", "box_iou", "mask_iou", "pim_point", "pim_scribble"]
    assert scores[compared].equals(other_scores[compared])


def _truth(**columns: list[str | None]) -> ground_truth.GroundTruth:
    blank: dict[str, list[Any]] = {"category": ["ring", "star"], "colour": [None, None], "texture": [None, None]}
    return ground_truth.GroundTruth(pd.DataFrame(), pd.DataFrame(blank | columns), {})


@pytest.mark.parametrize(
    ("columns", "judged"),
    [
        ({}, ["shape"]),
        ({"category": ["ring", "dog"]}, []),  # shapes are judged only where the judge knows them all
        ({"category": ["dog", "dog"], "colour": ["red", None]}, ["colour"]),
        ({"colour": [None, "red"], "texture": ["glass", "glass"]}, ["colour", "texture", "shape"]),
        ({"texture": [None, "glass"]}, ["texture", "shape"]),
    ],
)
def test_an_attribute_is_judged_where_an_instance_asks_for_it(
    columns: dict[str, list[str | None]], judged: list[str]
) -> None:
    params = evaluate.read_settings(DEFAULTS, None).score
    fitted = evaluate.fitting(params, _truth(**columns))
    assert sorted(fitted.words) == sorted(judged)
    assert all(fitted.words[name] == params.words[name] for name in judged)
    every = list(params.words["shape"])
    whole = _truth(category=every, colour=[None] * len(every), texture=[None] * len(every))
    assert "shape" in evaluate.fitting(params, whole).words  # all of them


def test_the_table_shows_the_ends_of_the_scale_first_and_leaves_out_what_does_not_compare(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, row in (("drawn", "b"), ("other", "a"), ("real", "real")):
        _evaluate(sample, tmp_path, name, "--row", row)
    shutil.copytree(tmp_path / "b", tmp_path / "none")
    shutil.copytree(tmp_path / "b", tmp_path / "z")
    source = json.loads((tmp_path / "z" / "provenance.json").read_text())
    (tmp_path / "z" / "provenance.json").write_text(json.dumps(source | {"layouts": "others"}))
    capsys.readouterr()
    evaluate.show(tmp_path, ["a"])
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "±" in line]
    assert rows == ["real", "none", "a", "b"]


class Judging:
    """What reached the judging of each row, by the row's name; nothing is scored."""

    def __init__(self) -> None:
        self.out, self.params, self.rows = Path(), evaluate.read_settings(DEFAULTS, None).score, {}
        self.loaded: list[Path] = []

    def __call__(self, out: Path, name: str, inputs: Any, looked: Any, params: Any, protocol: Any) -> None:
        self.out, self.params, self.looked = out, params, looked
        self.rows[name] = (inputs, protocol)

    def load(self, chosen: Any, folder: Path, _: object) -> ClosedFinder:
        """In place of loading a finder."""
        self.finder = chosen
        self.loaded.append(folder)
        return ClosedFinder(eval_world.PixelDetector())

    @property
    def last(self) -> Any:
        return list(self.rows.values())[-1][0]

    def folder(self, row: str) -> str:
        return str(self.rows[row][0].pictures.paths[0].parent.name)


DEFAULTS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def asked_for(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, layouts, pictures of several makers, detections of each, a detector, a judge and two files of values."""
    world = tmp_path_factory.mktemp("options")
    eval_world.write(world)
    for name, background in (("drawn", 90), ("other", 60), ("bare", 30), ("squares", 10)):
        eval_world.draw(world / name, {}, background)
    for path in (world / "squares").iterdir():
        Image.open(path).resize((64, 64)).save(path)
    images, rows = tables.read(world / "images.parquet", IMAGES), tables.read(world / "annotated.parquet", ANNOTATED)
    tables.write(world / "few.parquet", rows.iloc[:5], ANNOTATED)
    tables.write(world / "renamed.parquet", images.assign(caption="another"), IMAGES)
    wanted = from_tables.from_tables(images, rows.assign(mask=None))
    layout_files.write(world / "layouts.json", wanted)  # boxes alone: they do not say how large the pictures are
    for name in ("real", "drawn", "other", "bare"):
        picture_set = pictures.find(world / name, images, None)
        eval_world.detected(world / f"{name}.json", picture_set, name)
    shutil.copy(world / "drawn.json", world / "fewer.json")
    content = json.loads((world / "drawn.json").read_text())
    (world / "fewer.json").write_text(json.dumps(content | {"annotations": content["annotations"][:2]}))
    eval_world.write_detector(world / "detector", b"detector")
    (world / "judge").mkdir()
    (world / "judge" / "weights").write_text("judge")
    (world / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    values = PARAMS | {"score": PARAMS["score"] | {"min_score": 0.125}}
    (world / "others.yaml").write_text(yaml.safe_dump(values))
    return world


BASE = {
    "--pictures": ["drawn"],
    "--layouts": ["annotated.parquet"],
    "--images": ["images.parquet"],
    "--detections": ["drawn.json"],
    "--params": ["params.yaml"],
    "--out": ["out"],
}
ENDS = {"--real": ["real"], "--none": ["bare"]}
Check = tuple[dict[str, list[str] | None], Callable[[Judging], object], object]
OPTIONS: dict[str, Check] = {
    "--pictures": (
        {"--pictures": ["drawn", "other"], "--detections": ["drawn.json", "other.json"], "--row": ["box"]},
        lambda seen: {name: seen.folder(name) for name in seen.rows},
        {"box@drawn": "drawn", "box@other": "other"},
    ),
    "--layouts": ({"--layouts": ["few.parquet"]}, lambda seen: len(seen.last.truth.instances), 5),
    "--images": (
        {"--images": ["renamed.parquet"]},
        lambda seen: set(seen.last.truth.images["caption"]),
        {"another"},
    ),
    "--detections": ({"--detections": ["fewer.json"]}, lambda seen: len(seen.last.detections.annotations), 2),
    "--detector": (
        {"--detections": None, "--detector": ["detector"]},
        lambda seen: ([path.name for path in seen.loaded], len(seen.last.detections.annotations)),
        (["detector"], 7),
    ),
    "--finder": (
        {"--detections": None, "--finder": ["owlv2"], "--finder-weights": ["detector"]},
        lambda seen: seen.finder.finder,
        "owlv2",
    ),
    "--finder-weights": (
        {"--detections": None, "--finder": ["grounding_dino"], "--finder-weights": ["detector"]},
        lambda seen: seen.finder.finders.grounding_dino.weights.name,
        "detector",
    ),
    "--phrases": (
        {"--detections": None, "--finder": ["owlv2"], "--finder-weights": ["detector"], "--phrases": ["own"]},
        lambda seen: seen.finder.phrases,
        "own",
    ),
    "--marker": (
        {"--detections": None, "--detector": ["detector"], "--marker": ["sam2"], "--marker-weights": ["judge"]},
        lambda seen: seen.finder.marker.backend,
        "sam2",
    ),
    "--marker-weights": (
        {"--detections": None, "--detector": ["detector"], "--marker": ["sam"], "--marker-weights": ["judge"]},
        lambda seen: seen.finder.marker.weights.name,
        "judge",
    ),
    "--judge": (
        {"--judge": ["judge"]},
        lambda seen: ([path.name for path in seen.loaded], seen.looked is not None),
        (["judge"], True),
    ),
    "--metrics": (
        {"--judge": ["judge"], "--metrics": ["cmmd", "hps"], "--real": ["real"]},
        lambda seen: (seen.params.sets.beside, seen.params.preferences),
        (("cmmd",), ("hps",)),
    ),
    "--real": (
        {"--real": ["real"]},
        lambda seen: ([*seen.rows], seen.last.real.paths[0].parent.name),
        (["drawn"], "real"),  # judged itself only where its detections are there
    ),
    "--real-detections": (
        {**ENDS, "--real-detections": ["real.json"]},
        lambda seen: ([*seen.rows], seen.folder("real"), seen.rows["real"][0].detections.provenance["detector"]),
        (["real", "drawn"], "real", "real"),
    ),
    "--none": (
        {"--none": ["bare"], "--detections": None, "--detector": ["detector"]},
        lambda seen: ([*seen.rows], seen.folder("none")),
        (["none", "drawn"], "bare"),
    ),
    "--none-detections": (
        {**ENDS, "--none-detections": ["bare.json"]},
        lambda seen: ([*seen.rows], seen.folder("none"), seen.rows["none"][0].detections.provenance["detector"]),
        (["none", "drawn"], "bare", "bare"),
    ),
    "--protocol": (
        {"--protocol": ["mask"]},
        lambda seen: [(name, protocol.name) for name, (_, protocol) in seen.rows.items()],
        [("mask", "mask")],
    ),
    "--row": ({"--row": ["mine"], "--protocol": ["mask"]}, lambda seen: [*seen.rows], ["mine"]),
    "--size": (
        {"--size": ["64"], "--pictures": ["squares"], "--detections": None, "--detector": ["detector"]},
        lambda seen: (seen.params.square, set(seen.last.pictures.sizes)),
        (64, {(64, 64)}),
    ),
    "--params": ({"--params": ["others.yaml"]}, lambda seen: seen.params.min_score, 0.125),
    "--out": ({"--out": ["elsewhere"]}, lambda seen: seen.out.name, "elsewhere"),
}


def _judging(asked_for: Path, patch: pytest.MonkeyPatch, at: Path, changed: dict[str, list[str] | None]) -> Judging:
    """Run the command as far as the judging; files are named within the fixture's folder, `--out` is not."""
    seen = Judging()
    patch.chdir(at)
    patch.setattr(evaluate, "judged", seen)
    patch.setattr(evaluate, "show", lambda out, names: None)
    patch.setattr(evaluate.seeds, "write", lambda path, rows, params: None)
    patch.setattr(choice, "load", seen.load)
    detect._loaded.cache_clear()

    def look(folder: Path, digest: str, params: object) -> Judges:
        seen.loaded.append(folder)
        return Judges(eval_world.PixelJudge(), eval_world.PixelJudge(), digest)

    patch.setattr(features, "load_judges", look)
    words = []
    for option, values in (BASE | changed).items():
        plain = option in {"--out", "--row", "--protocol", "--size", "--finder", "--phrases", "--marker", "--metrics"}
        words += [] if values is None else [option, *(value if plain else str(asked_for / value) for value in values)]
    command.main(["evaluate", *words])
    return seen


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_what_it_is_for(
    asked_for: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    changed, reached, expected = OPTIONS[option]
    assert reached(_judging(asked_for, monkeypatch, tmp_path, changed)) == expected


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--finder": ["owlv2"]}, "either read or made"),
        ({"--marker": ["none"]}, "either read or made"),
        ({"--metrics": ["hps"]}, "give --judge, too"),
        ({"--metrics": ["cmmd"], "--judge": ["judge"]}, "cmmd: is a distance to the real pictures"),
        ({"--row": ["a/b"]}, "--row: 'a/b' cannot be the name of a folder"),
        (
            {"--pictures": ["drawn", "drawn"], "--detections": ["drawn.json", "drawn.json"]},
            "--pictures: two folders have one name",
        ),
        ({"--detections": ["drawn.json", "other.json"]}, "--detections: 2 files for 1 folders of pictures"),
        ({"--detections": None, "--detector": ["nowhere"]}, "nowhere: no detector there; give --detector"),
        ({"--params": ["layouts.json"]}, "layouts.json: not a compiled params.yaml"),
        ({"--protocol": ["nothing"]}, "--protocol: there is no 'nothing'; rows has "),
    ],
)
def test_what_would_change_nothing_or_cannot_be_judged_is_refused_in_a_sentence(
    asked_for: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, list[str] | None],
    sentence: str,
) -> None:
    with pytest.raises(SystemExit):
        _judging(asked_for, monkeypatch, tmp_path, changed)
    assert sentence in capsys.readouterr().err


def test_every_option_is_among_those_tried() -> None:
    options = {action.option_strings[-1] for action in evaluate.parser()._actions}
    assert options - {"--help"} == OPTIONS.keys()


def test_the_size_given_is_that_of_layouts_that_do_not_say_theirs(
    asked_for: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"--size": ["64"], "--pictures": ["squares"], "--detections": None, "--detector": ["detector"]}
    seen = _judging(asked_for, monkeypatch, tmp_path, arguments | {"--layouts": ["layouts.json"], "--images": None})
    assert set(seen.last.truth.images[["height", "width"]].itertuples(index=False, name=None)) == {(64, 64)}


def test_the_hash_of_the_judge_is_that_of_its_folder(
    asked_for: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _judging(asked_for, monkeypatch, tmp_path, {"--judge": ["judge"]})
    assert seen.looked.digest == provenance.of_folder(asked_for / "judge")
    assert _judging(asked_for, monkeypatch, tmp_path, {}).looked is None


def test_detections_that_state_other_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eval_world.write(tmp_path)
    eval_world.draw(tmp_path / "drawn", {}, 90)
    eval_world.draw(tmp_path / "later", {}, 91)
    truth = ground_truth.load(tmp_path / "images.parquet", tmp_path / "annotated.parquet")
    judged = pictures.find(tmp_path / "drawn", truth.images, None)
    eval_world.detected(tmp_path / "later.json", judged)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    with pytest.raises(SystemExit):
        command.main(
            [
                *("evaluate", "--pictures", str(tmp_path / "later"), "--layouts", str(tmp_path / "annotated.parquet")),
                *("--images", str(tmp_path / "images.parquet"), "--detections", str(tmp_path / "later.json")),
                *("--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out")),
            ]
        )
    assert "made on other pictures than these" in capsys.readouterr().err


def _with_truth(sample: Path, tmp_path: Path, change: Any) -> Path:
    """A copy of the sample whose ground truth was changed."""
    copy = _copied(sample, tmp_path)
    content = json.loads((copy / "instances_val.json").read_text())
    change(content)
    (copy / "instances_val.json").write_text(json.dumps(content))
    return copy


def test_boxes_are_judged_on_all_instances_and_masks_where_they_are(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pycocotools on the same files, an instance without a mask as a region of its box that does not count."""

    def unmask(content: dict[str, Any]) -> None:
        for place, annotation in enumerate(content["annotations"][:-1]):
            if place % 3 == 0:
                annotation["segmentation"] = ([], None, [[]], [[annotation["bbox"][0], annotation["bbox"][1]]])[
                    place % 4
                ]

    copy = _with_truth(sample, tmp_path, unmask)
    row = _evaluate(copy, tmp_path / "out", "drawn")
    metrics, whole = _metrics(row), _metrics(_evaluate(sample, tmp_path / "whole", "drawn"))
    assert metrics["box_ap"] == whole["box_ap"]
    truth = json.loads((copy / "instances_val.json").read_text())
    for annotation in truth["annotations"]:
        if isinstance(annotation["segmentation"], dict) or (
            annotation["segmentation"] and len(annotation["segmentation"][0]) > 4
        ):
            continue
        x, y, w, h = annotation["bbox"]
        annotation |= {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]], "iscrowd": 1}
    (copy / "ignored.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(copy / "ignored.json")
        evaluation = COCOeval(truth, truth.loadRes(str(copy / "drawn.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert metrics["mask_ap"]["value"] == pytest.approx(evaluation.stats[0], abs=1e-12)
    scores = tables.read(row / "instances.parquet", SCORES)
    num_masked = int(scores["mask_iou"].notna().sum())
    assert metrics["mask_miou"]["n"] == num_masked < metrics["box_miou"]["n"] == len(scores)
    output = capsys.readouterr().out.replace("\n", " ")
    assert f"{num_masked} of {len(scores)} instances have a mask: metrics of masks count those alone" in output
    assert "pieces of polygons with fewer than three points were left out" in output


FIELDS = [
    lambda content: content.update(info=None),
    lambda content: content.update(info=[]),
    lambda content: content.update(info="exported", licenses=None),
    lambda content: content["categories"].extend([{"id": 99, "name": "cat"}, {"id": 99, "name": "dog"}, {"id": None}]),
    lambda content: [
        annotation.update(image_id=str(annotation["image_id"]), iscrowd=str(annotation["iscrowd"]))
        for annotation in content["annotations"]
    ],
    lambda content: [image.update(file_name=f"images\\{image['file_name']}") for image in content["images"]],
]


@pytest.mark.parametrize("change", FIELDS)
def test_what_nobody_needs_stops_nothing_and_numbers_may_be_text(sample: Path, tmp_path: Path, change: Any) -> None:
    copy = _with_truth(sample, tmp_path, change)
    truth, changed = (coco.ground_truth(folder / "instances_val.json") for folder in (sample, copy))
    assert truth.images["key"].equals(changed.images["key"])
    assert (
        truth.instances.drop(columns="scribble")
        .astype(str)
        .equals(changed.instances.drop(columns="scribble").astype(str))
    )
    assert coco.is_comparable(copy / "instances_val.json")


TWICE = [
    (lambda content: content["images"][0].update(id=content["images"][1]["id"]), "stands twice (images.0 has it, too)"),
    (lambda content: content["images"][0].update(id=str(content["images"][1]["id"])), "stands twice (images.0 has it"),
    (lambda content: content["annotations"][1].update(id=5000), "annotations.1: id 5000 stands twice (annotations.0"),
    (lambda content: content["categories"].append({"id": 18, "name": "cat"}), "categories: 18 stands twice, as 'cat'"),
    (lambda content: content["images"][0].update(file_name=f"b/{content['images'][1]['file_name']}"), "rename one"),
    (lambda content: content["annotations"][3].update(image_id=1), "annotations.3: image_id 1 is not among the images"),
    (lambda content: content["annotations"][3].update(category_id=0), "annotations.3: category_id 0 is not among"),
    (
        lambda content: [annotation.update(iscrowd="1") for annotation in content["annotations"]],
        "annotations are crowds (iscrowd 1)",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), TWICE)
def test_records_that_cannot_be_told_apart_or_placed_are_refused_by_name(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, sentence: str
) -> None:
    message = _refused(capsys, _with_truth(sample, tmp_path, change), tmp_path / "out", "drawn")
    assert "instances_val.json: " in message
    assert sentence in message
    assert message.count("\n") == 1


PLACES, IDS = {"0010": 1, "0011": 2, "7": 3, "cat": 4}, {7: "cat", 5: "0011"}


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        (10, "0010"),
        ("10", "0010"),
        ("0010", "0010"),
        (5, "0011"),
        ("5", "0011"),
        (7, "cat"),
        ("cat", "cat"),
        ("7", None),
        (12, None),
        ("dog", None),
        (-1, None),
        ("", None),
    ],
)
def test_a_result_names_its_picture_by_id_or_by_its_files_number_and_never_two(
    image_id: int | str, name: str | None
) -> None:
    if name is not None:
        assert coco_results._name(image_id, PLACES, IDS) == name
    else:
        with pytest.raises(ValueError, match=r"is not one of the 4 pictures|one picture and the id of another"):
            coco_results._name(image_id, PLACES, IDS)


def test_a_result_whose_file_name_is_not_its_ids_is_refused(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = _copied(sample, tmp_path)
    detections = json.loads((copy / "drawn.json").read_text())
    for detection in detections:
        detection["file_name"] = f"val/{detection['image_id']:012d}.png"
    detections[3]["file_name"] = "val/000000000101.png"
    (copy / "drawn.json").write_text(json.dumps(detections))
    assert "drawn.json: 3: file_name 'val/000000000101.png' is not that of image_id" in _refused(
        capsys, copy, tmp_path, "drawn"
    )
