"""One's own pictures, by `experiment=my-coco` and `my-captioned`: from the files to a short training and a table.

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

import own_folder
import pytest
import tiny_models
import yaml

from data_prep.annotators.tags import noun_phrases
from instdiff import stage
from instdiff.config import compose, values
from instdiff.files import tables
from instdiff.layouts.columns import ANNOTATED

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


def lines(graph: dict[str, Any], config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each stage and its words on the command line, as dvc.yaml gives them."""
    common = {f"path.{name}": place for name, place in graph["vars"][0]["path"].items()}
    common |= {"shipped": config["shipped"], **{f"kept.{name}": place for name, place in config["kept"].items()}}
    for name, entry in graph["stages"].items():
        todo = entry.get("do", entry)
        (item, options), *_ = [*entry.get("matrix", {"": [""]}).items()]
        for value in config["rows"] if "foreach" in entry else options:
            variables = common | {"key": value, f"item.{item}": value}
            yield name, shlex.split(re.sub(r"\$\{([^}]+)\}", lambda word: str(variables[word[1]]), todo["cmd"]))[2:]  # noqa: B023


def rebuild(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], *, last: str) -> None:
    """Run every stage up to `last`."""
    for name, (module, *words) in lines(yaml.safe_load((ROOT / "dvc.yaml").read_text()), config):
        loaded = import_module(module)
        params = loaded.Params.model_validate(values.section(config, name))
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


def composed(*overrides: str, experiment: str = "my-coco") -> dict[str, Any]:
    text = compose.composed([f"experiment={experiment}", "my=mine", *SMALL, *overrides], ROOT / "configs")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


@pytest.mark.slow
def test_a_folder_of_ones_own_goes_from_its_files_to_a_table(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_folder.coco(tree / "mine", 30)
    rebuild(monkeypatch, composed(), last="report")
    table = json.loads((tree / "metrics-my.json").read_text())
    assert set(table) == {"real", "reconstructed", "none", "box"}
    assert table["real"]["box_ap50"]["value"] > 0.5  # the detector knows what the pictures show
    index = json.loads((tree / "data/stats/shard.json").read_text())
    assert index["instances"] > 30
    assert (tree / "report.html").stat().st_size > 0


# The annotators of the miniature world; what finds things has weights that nothing was learnt by.
ANNOTATORS = [
    "ground.detector.weights=dino",
    "segment.weights=weights/miniature/sam",
    "caption.model.weights=weights/miniature/blip",
    "caption.model.num_beams=1",
    "caption.model.max_tokens=6",
    "caption.model.min_area=0",
]


@pytest.mark.slow
def test_a_folder_of_captions_goes_from_its_files_to_a_table(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.grounding_dino(tree / "dino")
    captions = own_folder.captioned(tree / "mine", 30)
    rebuild(monkeypatch, composed(*ANNOTATORS, experiment="my-captioned"), last="report")
    table = json.loads((tree / "metrics-my.json").read_text())
    assert set(table) == {"real", "reconstructed", "none", "box"}
    assert json.loads((tree / "data/stats/shard.json").read_text())["instances"] > 30
    rows = tables.read(tree / "data/annotated/val", ANNOTATED)
    phrases = {phrase for caption in captions for phrase in noun_phrases(caption)}
    assert set(rows["category"]) <= phrases  # what is judged is what the captions name
    assert table["real"]["box_ap50"]["n"] == len(rows)


def test_a_stage_that_leaves_nothing_names_the_reason_and_what_to_do(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_folder.coco(tree / "mine", 8, segmentation=[])
    with pytest.raises(ValueError, match=r"not one of \d+ instances is left: \d+ are no_mask: .*segment=sam"):
        rebuild(monkeypatch, composed(), last="annotate")
