"""`experiment=sd15` from COCO's files to the report, as dvc.yaml draws it, on small random weights of the same classes.

Stages are called one after the other in this process, with the paths and in the order of dvc.yaml.
"""

import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import coco_world
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny_pipeline import TOKENIZER
from weight_forms import clip_of, one_file, released, sizes, yolo

from eval.scoring.columns import SCORES
from instdiff import stage
from instdiff.app import import_weights as importer
from instdiff.config import compose
from instdiff.config import values as values_of
from instdiff.files import provenance, tables
from instdiff.layouts.columns import ANNOTATED
from instdiff.model.unet import WEIGHTS_FILE
from instdiff.sampling import generate
from instdiff.work.ledger import LEDGER

ROOT = Path(__file__).parents[3]
GENERATES = {
    "pictures": "pictures/val",
    "images": "images/val",
    "annotated": "annotated/val",
    "text": "foundation/clip/text",
    "vae": "foundation/vae",
    "unet": "foundation/unet",
    "instance": "instance",
    "generated": "again/box",
}
ROWS = ("real", "none", "box", "mask")
SMALL = (  # nothing else differs from the experiment
    *("shipped=weights", "ingest.limits.min_side=16", "ingest.work.workers.executor=here"),
    *("ingest.train.pictures=coco/train2017", "ingest.train.instances=coco/train.json"),
    "ingest.train.captions=coco/captions_val.json",
    *("ingest.val.pictures=coco/val2017", "ingest.val.instances=coco/instances_val.json"),
    *("ingest.val.captions=coco/captions_val.json", "layout.num_scribble_points=4", "layout.num_outline_points=8"),
    *("train.unifusion.text_width=16", "train.unifusion.token_width=16", "train.unifusion.hidden_width=16"),
    *("train.unifusion.mask_size=32", "train.unifusion.mask_widths=[4,8]", "train.unifusion.mask_depths=[1,1]"),
    *("train.batch_size=2", "train.optimisation.steps=2", "train.optimisation.warmup=1", "generate.steps=2"),
    "generate.batch_size=1",
    *("train.start.kind=layers", "train.start.weights=weights/instance/layers"),
    *("detect.square=16", "score.num_resamples=20", "score.num_resamples_parts=5", "score.sets.features=judge"),
    *("score.sets.kid_subsets=2", "score.sets.kid_subset_size=5"),
)


def coco(folder: Path) -> None:
    """The sample as validation set, and its first pictures as training set."""
    coco_world.write(folder)
    content = json.loads((folder / "instances_val.json").read_text())
    coco_world.paint(folder / "painted", content, 100)
    few = content | {"images": content["images"][:6]}
    ids = {image["id"] for image in few["images"]}
    few["annotations"] = [annotation for annotation in content["annotations"] if annotation["image_id"] in ids]
    (folder / "train.json").write_text(json.dumps(few))
    for split, part in (("train2017", few), ("val2017", content)):
        (folder / split).mkdir()
        for image in part["images"]:
            name = Path(image["file_name"])
            with Image.open(folder / "painted" / f"{name.stem}.png") as picture:
                picture.save(folder / split / name.name, quality=95)


def weights(folder: Path) -> None:
    """Every published file, small, through the importer."""
    clip_of(folder / "hf")
    more = ("--detector", str(yolo(folder / "yolov8n-seg.pt")), "--image-size", "64", "--judge", str(folder / "hf"))
    base = ("--base", str(one_file(folder)), "--instance", str(released(folder)), "--tokenizer", str(TOKENIZER))
    importer.main(["--out", "weights", *base, *more], sizes())


def commands(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Module and options of every stage of dvc.yaml, each item of a matrix, in order."""
    page = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    path = page["vars"][0]["path"]
    variables = {f"path.{name}": where for name, where in path.items()} | {"shipped": values["shipped"]}
    variables |= {f"kept.{name}": where for name, where in values["kept"].items()}
    for entry in page["stages"].values():
        if "matrix" in entry:
            ((name, items),) = entry["matrix"].items()
            turns = [{f"item.{name}": item} for item in items]
        elif "foreach" in entry:
            turns = [{"key": row} for row in values["rows"]]
        else:
            turns = [{}]
        for turn in turns:
            command = re.sub(
                r"\$\{([\w.]+)\}", lambda match, t=turn: (variables | t)[match[1]], entry.get("do", entry)["cmd"]
            )
            words = shlex.split(command)
            yield words[2], dict(zip(words[3::2], words[4::2], strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all stages have run."""
    folder = tmp_path_factory.mktemp("sd15")
    values = yaml.safe_load(compose.composed(["experiment=sd15", *SMALL], ROOT / "configs"))
    values["rows"] = {row: values["rows"][row] for row in ROWS}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        coco(folder / "coco")
        weights(folder)
        for name, options in commands(values):
            module = import_module(name)
            texts = {option.removeprefix("--").replace("-", "_"): value for option, value in options.items()}
            stats = Path(texts.pop("stats"))
            arguments = {argument: kind(texts[argument]) for argument, kind in stage.arguments(module.run).items()}
            params = module.Params.model_validate(values_of.section(values, name.rpartition(".")[2]))
            stats.parent.mkdir(parents=True, exist_ok=True)
            stats.write_text(json.dumps(dict(module.run(**arguments, params=params))))
        yield folder


def test_every_stage_runs_and_the_report_holds_every_row(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert tuple(metrics) == ROWS
    assert all("box_ap50" in row and "mask_ap50" in row and "fid" in row for row in metrics.values())
    assert (finished / "report.html").stat().st_size > 10_000


def test_pictures_are_drawn_by_the_imported_weights_at_their_size(finished: Path) -> None:
    for row in ("none", "box", "mask"):
        paths = sorted((finished / "data" / "generated" / row).glob("*.png"))
        assert len(paths) == coco_world.NUM_PICTURES
        with Image.open(paths[0]) as picture:
            assert picture.size == (16, 16)
    key = paths[0].name
    first, second = (np.asarray(Image.open(finished / "data" / "generated" / row / key)) for row in ROWS[1:3])
    assert not np.array_equal(first, second)


def test_every_counted_instance_of_coco_is_judged_and_traced_to_the_files_it_comes_from(finished: Path) -> None:
    content = coco_world.instances()
    annotated = tables.read(finished / "data" / "annotated" / "val", ANNOTATED)
    dropped = tables.read(finished / "data" / "ledger" / "annotate-val", LEDGER)
    assert len(annotated) + len(dropped) == sum(not annotation["iscrowd"] for annotation in content["annotations"])
    assert set(dropped["reason"]) <= {"small_mask", "small_box"}
    scores = tables.read(finished / "data" / "scores" / "box" / "instances.parquet", SCORES)
    assert len(scores) == len(annotated)
    source = json.loads((finished / "data" / "scores" / "box" / "provenance.json").read_text())
    assert source["real_pictures"] != source["pictures"]
    drew = {"text": "foundation/clip/text", "vae": "foundation/vae", "unet": "foundation/unet", "instance": "instance"}
    assert source["drawn_by"]["weights"] == {
        name: provenance.of_folder(finished / "data" / at) for name, at in drew.items()
    }
    assert source["drawn_by"]["row"] == "box"
    for name in ("clip/text", "clip/judge", "vae", "unet", "detector"):
        recipe = json.loads((finished / "data" / "foundation" / name / "recipe.json").read_text())
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in recipe["params"]["files"].values())


def test_training_goes_on_from_the_imported_instance_layers(finished: Path) -> None:
    before, after = (
        load_file(finished / folder / "layers" / WEIGHTS_FILE) for folder in ("weights/instance", "data/instance")
    )
    assert before.keys() == after.keys()
    moved = [float((after[name] - tensor).abs().max()) for name, tensor in before.items()]
    assert 0 < max(moved) < 0.01  # two steps of a small rate


def test_pictures_of_other_weights_say_so_and_of_the_same_ones_are_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    values = yaml.safe_load(compose.composed(["experiment=sd15", *SMALL], ROOT / "configs"))
    values = values_of.section(values, "generate")
    paths = {name: Path("data") / where for name, where in GENERATES.items()}
    paths |= {"generated": Path("other"), "instance": Path("weights/instance")}
    generate.run(**paths, row="box", params=generate.Params.model_validate(values))
    record, other = (provenance.read(folder) for folder in (Path("data/generated/box"), Path("other")))
    assert record is not None
    assert other is not None
    assert {name for name in record if record[name] != other[name]} == {"weights"}
    assert {name for name in record["weights"] if record["weights"][name] != other["weights"][name]} == {"instance"}


def test_a_killed_job_goes_on_with_the_pictures_it_has(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    values = yaml.safe_load(compose.composed(["experiment=sd15", *SMALL], ROOT / "configs"))
    values = values_of.section(values, "generate")
    params = generate.Params.model_validate(values)
    paths = {name: Path("data") / where for name, where in GENERATES.items()}
    calls, draw = [], generate.draw

    def killed(*arguments: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return draw(*arguments)

    monkeypatch.setattr(generate, "draw", killed)
    with pytest.raises(KeyboardInterrupt):
        generate.run(**paths, row="box", params=params)
    assert not paths["generated"].exists()
    monkeypatch.setattr(generate, "draw", lambda *arguments: calls.append(1) or draw(*arguments))
    generate.run(**paths, row="box", params=params)
    assert len(calls) == coco_world.NUM_PICTURES  # none twice
    for path in (finished / "data" / "generated" / "box").iterdir():
        assert path.read_bytes() == (paths["generated"] / path.name).read_bytes()
    assert not any((finished / "runs").iterdir())
