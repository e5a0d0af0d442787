"""Sources and annotators that leave nothing are refused together, in a sentence with what to take; others are not."""

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
