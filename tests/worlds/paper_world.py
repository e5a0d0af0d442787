"""`make paper` on a COCO sample and small random weights of the released forms, its stages run in this process."""

import json
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import coco_world
import pytest
import yaml
from tiny_pipeline import base
from weight_forms import clip_of, ours, released, sizes, yolo

from flows import paper
from instdiff import __main__ as command
from instdiff import stage
from instdiff.app import import_weights as importer
from instdiff.config import values as values_of
from instdiff.sampling import generate
from instdiff.schema import Layout
from instdiff.work.parts import Answer

ROOT = Path(__file__).parents[2]
SMALL = (  # nothing else differs from what a person runs
    *("benchmark.size=16", "detect.square=16", "detect.batch_size=3", "score.batch_size=4", "score.num_resamples=5"),
    *("score.num_resamples_parts=3", "score.sets.features=judge", "score.sets.kid_subsets=2"),
    *("score.sets.kid_subset_size=5", "score.sets.num_resamples=2", "generate.steps=3", "generate.batch_size=3"),
    *("generate.batch_rows=40", "self_test.expected={box_ap:0.5,mask_ap:0.5}", "self_test.within=1.0"),
    *("paper.gpu_hour=2.5",),
)


def write(root: Path, subset: int | None = None, *overrides: str) -> Path:
    """COCO's files, the weights, and the folder that `make paper` works in, prepared; the caller stands in root."""
    coco_world.write(root / "written")
    content = coco_world.instances()
    coco_world.paint(root / "painted", content, 100)
    (root / "coco" / "annotations").mkdir(parents=True)
    for name in ("instances", "captions"):
        (root / "written" / f"{name}_val.json").rename(root / "coco" / "annotations" / f"{name}_val2017.json")
    (root / "coco" / "val2017").mkdir()
    for image in content["images"]:
        name = Path(image["file_name"])
        (root / "painted" / f"{name.stem}.png").rename(root / "coco" / "val2017" / name.name)
    weights = root / "published"
    weights.mkdir()
    ours(weights / "stable-diffusion-v1-5")
    base().save_pretrained(weights / "stable-diffusion-v1-5" / "unet")
    released(weights).rename(weights / "instancediffusion_sd15.pth")
    clip_of(weights / "CLIP-ViT-L-14-laion2B-s32B-b82K")
    yolo(weights / "yolov8m-seg.pt")
    for name in ("configs", "dvc.yaml", "weights"):
        (root / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper.values, "check", lambda values: None)
        paper.prepare(root / "coco", weights, subset, None, [*SMALL, *overrides], root / "paper")
    return root / "paper"


def commands(folder: Path) -> Iterator[tuple[str, list[str], list[Path]]]:
    """Name, words and outputs of every stage in order, as DVC fills the page in."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    for name, entry in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].items():
        items = _filled(entry["foreach"], values) if "foreach" in entry else {"": None}
        for key, item in items.items():
            variables = values | {"key": key, "item": item}
            own = entry.get("do", entry)
            outs = [next(iter(out)) if isinstance(out, dict) else out for out in own["outs"]]
            yield (
                f"{name}@{key}" if key else name,
                shlex.split(_filled(own["cmd"], variables)),
                [folder / _filled(out, variables) for out in outs],
            )


def _filled(text: str, variables: Mapping[str, Any]) -> Any:
    def value(name: str) -> Any:
        node: Any = variables
        for part in name.split("."):
            node = node[part]
        return node

    if (whole := re.fullmatch(r"\$\{([\w.]+)\}", text)) and not isinstance(value(whole[1]), str):
        return value(whole[1])
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(value(match[1])), text)


def run(folder: Path, only: re.Pattern[str] = re.compile("")) -> None:
    """Every stage whose output is not there, in its order, in this process."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name, words, outs in commands(folder):
            if only.search(name) and not all(out.exists() for out in outs):
                if name == paper.LAST:
                    paper.timed(folder, {"generate@plain-box": 36.0})
                _run_stage(words)
    finally:
        os.chdir(before)


def _run_stage(words: list[str]) -> None:
    if words[2] == "instdiff":
        if words[3] == "import-weights":
            importer.main([*words[4:], "--image-size", "64"], sizes())
        else:
            command.main(words[3:])
        return
    module = import_module(words[2])
    values = yaml.safe_load(Path("params.yaml").read_text())
    options = {
        option.removeprefix("--").replace("-", "_"): value
        for option, value in zip(words[3::2], words[4::2], strict=True)
    }
    stats = Path(options.pop("stats"))
    arguments = {name: kind(options[name]) for name, kind in stage.arguments(module.run).items()}
    params = module.Params.model_validate(values_of.section(values, words[2].rpartition(".")[2]))
    counts = module.run(**arguments, params=params)
    stats.parent.mkdir(parents=True, exist_ok=True)
    stats.write_text(json.dumps(dict(counts)))


class Deadly(generate.BatchDrawing):
    """Kills the process that draws, once for each file of the folder that the environment names."""

    def __call__(self, batch: Sequence[Layout]) -> Iterator[Answer]:
        for path in sorted(Path(os.environ["DEADLY"]).iterdir())[:1]:
            path.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().__call__(batch)
