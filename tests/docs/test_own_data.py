"""One's own pictures with COCO's annotations, by `experiment=my-coco`: from the files to a short training and a table.

The stages run in one process, in the order of dvc.yaml, with the command lines that it gives them.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from instdiff import stage
from instdiff.config import compose, values
from instdiff.layouts import masks
from instdiff.world import scenes

ROOT = Path(__file__).parents[2]
SMALL = [
    "ingest.val_share=0.3",
    "ingest.work.workers.executor=here",
    "shard.samples_per_shard=16",
    "train.batch_size=4",
    "train.optimisation.steps=2",
    "train.optimisation.save_every=1",
    "train.optimisation.log_every=1",
    "generate.steps=2",
    "score.num_resamples=20",
    "score.num_resamples_parts=10",
    "score.sets.num_resamples=5",
    "score.sets.kid_subsets=2",
    "~rows.mask",
    "~rows.point",
    "~rows.scribble",
    "~rows.hybrid",
    "~rows.box_mis",
    "~rows.mask_mis",
]


def write(folder: Path, count: int, **changes: Any) -> None:
    """Painted scenes as a person would have them: a folder of pictures and one file of COCO's."""
    (folder / "pictures").mkdir(parents=True)
    names: list[str] = []
    images, annotations = [], []
    for number in range(count):
        scene = scenes.scene(7, number, "mixed")
        Image.fromarray(scene.picture).save(folder / "pictures" / f"{number}.png")
        height, width = scene.picture.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for one in scene.instances:
            names += [one.category] if one.category not in names else []
            rle = masks.encode(np.asarray(one.mask))
            rows, columns = np.nonzero(one.mask)
            box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
            annotation = {
                "id": len(annotations),
                "image_id": number,
                "category_id": names.index(one.category),
                "bbox": [int(side) for side in box],
                "area": int(np.asarray(one.mask).sum()),
                "segmentation": rle.model_dump(mode="json"),
                "iscrowd": 0,
            }
            annotations.append(annotation | changes)
    categories = [{"id": place, "name": name} for place, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


def lines(graph: dict[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each stage and its words on the command line, as dvc.yaml gives them."""
    known = {f"path.{name}": place for name, place in graph["vars"][0]["path"].items()}
    known |= {"shipped": found["shipped"], **{f"kept.{name}": place for name, place in found["kept"].items()}}
    for name, entry in graph["stages"].items():
        todo = entry.get("do", entry)
        (item, options), *_ = [*entry.get("matrix", {"": [""]}).items()]
        for one in found["rows"] if "foreach" in entry else options:
            told = known | {"key": one, f"item.{item}": one}
            yield name, shlex.split(re.sub(r"\$\{([^}]+)\}", lambda word: str(told[word[1]]), todo["cmd"]))[2:]  # noqa: B023


def rebuild(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], *, last: str) -> None:
    """Run every stage up to `last`."""
    for name, (module, *words) in lines(yaml.safe_load((ROOT / "dvc.yaml").read_text()), found):
        loaded = import_module(module)
        params = loaded.Params.model_validate(values.section(found, name))
        monkeypatch.setattr(sys, "argv", [name, *words])
        options = vars(stage.parser(loaded.run).parse_args())
        stats: Path = options.pop("stats")
        counts = loaded.run(**options, params=params)
        stage.refuse_nothing(counts)
        stats.parent.mkdir(parents=True, exist_ok=True)
        stats.write_text(json.dumps(counts))
        if name == last:
            return


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def composed(*overrides: str) -> dict[str, Any]:
    text = compose.composed(["experiment=my-coco", "my=mine", *SMALL, *overrides], ROOT / "configs")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.slow
def test_a_folder_of_ones_own_goes_from_its_files_to_a_table(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree / "mine", 30)
    rebuild(monkeypatch, composed(), last="report")
    table = json.loads((tree / "metrics-my.json").read_text())
    assert set(table) == {"real", "reconstructed", "none", "box"}
    assert table["real"]["box_ap50"]["value"] > 0.5  # the detector knows what the pictures show
    index = json.loads((tree / "data/stats/shard.json").read_text())
    assert index["instances"] > 30
    assert (tree / "report.html").stat().st_size > 0


def test_a_stage_that_leaves_nothing_names_the_reason_and_what_to_do(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree / "mine", 8, segmentation=[])
    with pytest.raises(ValueError, match=r"not one of \d+ instances is left: \d+ are no_mask: .*segment=sam"):
        rebuild(monkeypatch, composed(), last="annotate")
