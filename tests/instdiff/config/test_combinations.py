"""Sources and annotators that leave nothing are refused together, in a sentence with what to take; others are not."""

import json
from pathlib import Path

import pytest
import yaml

from instdiff.config import combinations, compose

CONFIGS = Path(__file__).parents[3] / "configs"


def faults(*overrides: str) -> list[str]:
    return list(combinations.faults(yaml.safe_load(compose.composed(list(overrides), CONFIGS))))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["ingest=captioned", "segment=sam", "caption=blip"], "captioned pictures have no boxes"),
        (["ingest=captioned", "ground=grounding_dino", "caption=blip"], "segment.backend: no source has masks"),
        (["ingest=coco"], "the source coco names no colour and no texture"),
        (["ingest=coco", "caption.template='a {colour} {category}'"], "the source coco names no colour of its"),
        (["ingest=coco", "caption=given"], "the source coco has no captions of instances"),
        (["caption=given"], "the source scenes has no captions of instances"),
    ],
)
def test_what_leaves_nothing_is_refused_with_what_to_take(overrides: list[str], says: str) -> None:
    (fault,) = faults(*overrides)
    assert says in fault
    assert ": choose " in fault


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml")))
def test_no_experiment_is_refused(name: str) -> None:
    assert faults(f"experiment={name}") == []


def test_the_default_run_is_not_refused() -> None:
    assert faults() == []


def test_every_word_to_the_source_that_has_it() -> None:
    assert faults("ingest=labelled", "caption=given") == []
    assert faults("ingest=coco", "caption.template='{category}'") == []


def own_folder(folder: Path, *used: str) -> Path:
    names = [*used, "unused"]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    annotations = [{"id": number, "image_id": 1, "category_id": number} for number in range(len(used))]
    (folder / "instances.json").write_text(json.dumps({"categories": categories, "annotations": annotations}))
    return folder


def unjudged(*overrides: str) -> list[str]:
    values = yaml.safe_load(compose.composed(["experiment=my-coco", *overrides], CONFIGS))
    return list(combinations.unjudged(values | {"shipped": str(CONFIGS.parent / "weights/miniature")}))


def test_of_values_that_lack_a_section_nothing_is_said_of_categories(tmp_path: Path) -> None:
    values = yaml.safe_load(compose.composed(["experiment=my-coco", f"my={own_folder(tmp_path, 'dog')}"], CONFIGS))
    assert len(list(combinations.unjudged(values))) == 1
    for name in ("ingest", "detect", "detector", "shipped"):
        for lacking in (None, "text"):
            assert list(combinations.unjudged(values | {name: lacking})) == []


def test_categories_that_nobody_can_judge_are_named_before_anything_runs(tmp_path: Path) -> None:
    mine = own_folder(tmp_path, "ring", "dog", "cat", "cow", "emu")
    (fault,) = unjudged(f"my={mine}")
    assert fault.startswith(
        f"ingest.train.instances: {mine}/instances.json: the detector that judges knows circle, cross, "
    )
    assert "and not 'cat', 'cow', 'dog' and 1 more: choose detect.finder=grounding_dino" in fault


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["dog"], "'dog'"),
        (["cat", "cow", "dog"], "'cat', 'cow', 'dog'"),
        (["cat", "cow", "dog", "emu"], "'cat', 'cow', 'dog' and 1 more"),
    ],
)
def test_of_many_categories_three_are_named(tmp_path: Path, names: list[str], listed: str) -> None:
    (fault,) = unjudged(f"my={own_folder(tmp_path, *reversed(names))}")
    assert f"and not {listed}: choose" in fault


def test_annotations_are_read_before_anything_runs_up_to_the_largest_file_that_takes_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = own_folder(tmp_path, "dog")
    size = (mine / "instances.json").stat().st_size
    for most, is_read in ((size - 1, False), (size, True)):
        monkeypatch.setattr(combinations, "MAX_BYTES", most)
        assert len(unjudged(f"my={mine}")) == is_read


@pytest.mark.parametrize("overrides", [["detect.finder=grounding_dino"], ["detector=train"]])
def test_who_looks_for_any_category_or_is_trained_on_them_is_not_asked(tmp_path: Path, overrides: list[str]) -> None:
    mine = own_folder(tmp_path, "dog")
    assert len(unjudged(f"my={mine}")) == 1
    assert unjudged(f"my={mine}", *overrides) == []


def test_categories_that_are_known_or_unused_stop_nothing(tmp_path: Path) -> None:
    assert unjudged(f"my={own_folder(tmp_path, 'ring', 'moon')}") == []
    assert unjudged("my=absent") == []
    for broken in ("[]", "{}", '{"annotations": [{}], "categories": []}'):  # the stage that reads it says so
        (tmp_path / "instances.json").write_text(broken)
        assert unjudged(f"my={tmp_path}") == []
