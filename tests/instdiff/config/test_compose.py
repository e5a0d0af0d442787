"""Values that are wrong are refused when they are given, in one sentence, and nothing is written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from instdiff import stage
from instdiff.config import compose, values
from instdiff.files import value_faults

ROOT = Path(__file__).parents[3]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
LEAVES = dict(compose.leaves(PARAMS))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configs and the graph of this repository, and an old params.yaml."""
    for name in ("configs", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text("old: 1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree; values are checked in this process, which has imported the stages."""

    def check(config: dict[str, Any]) -> None:
        if faults := values.faults({name: section for name, section in config.items() if section != PARAMS.get(name)}):
            raise ValueError("\n".join(faults))

    monkeypatch.setattr(values, "check", check)
    return tree


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("generate.step=20", "generate.step=20: no such value: did you mean generate.steps?"),
        ("generate.guidence=6", "generate.guidence=6: no such value: did you mean generate.guidance?"),
        ("guidance=6", "guidance=6: no such value: did you mean generate.guidance?"),
        ("experimant=smoke", "experimant=smoke: no such value: did you mean experiment?"),
        ("kept.metric=x.json", "kept.metric=x.json: no such value: did you mean kept.metrics?"),
        (
            "experiment=smok",
            "my-captioned, my-coco, no_scaleu, sd15, smoke: did you mean smoke?",
        ),
        ("segment=sam3", "segment=sam3: configs/segment has box, given, sam, sam2: did you mean sam"),
        ("generate.steps=1,2", "generate.steps=1,2: a run has one value of each name"),
        ("generate.negative_prompt=blurry, low", "a run has one value of each name, not several; a list is [a,b]"),
        ("generate.negative_prompt='it''s'", "not understood; values are given as name=value"),
        ("--multirun", "--multirun: not understood; values are given as name=value"),
        ("detect.work.part_size=3", "detect.work.part_size=3: detect.work is work: set work.part_size"),
        ("generate.steps", "generate.steps: not understood"),
        ('caption.template="costs ${price}"', "names a value that is not there"),
    ],
)
def test_an_override_that_names_nothing_is_told_what_there_is(tree: Path, override: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        compose.compile_params([override])
    assert sentence in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert (tree / "params.yaml").read_text() == "old: 1\n"


def test_of_several_overrides_the_one_that_names_nothing_is_told() -> None:
    """Not those before it: of a value, a part of a section, one of no section, a group, one that is added."""
    fine = [
        "caption.batch_size=7",
        "clip.steps={text:3,judge:3}",
        "shipped=elsewhere",
        "vae=train",
        "+caption.more=1",
    ]
    wrong = "caption.batchsize=3: no such value: did you mean caption.batch_size?"
    with pytest.raises(ValueError, match=f"^{re.escape(wrong)}$"):
        compose.composed([*fine, "caption.batchsize=3"], ROOT / "configs")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("caption.batch_size=many", "caption.batch_size: input should be a valid integer, not 'many'"),
        ("caption.batch_size=12.5", "caption.batch_size: input should be a valid integer, not 12.5"),
        ("caption.batch_size=0", "caption.batch_size: input should be greater than 0, not 0"),
        ("ingest.work.part_size=-3", "ingest.work.part_size: input should be greater than 0, not -3"),
        ("caption.backend=gpt", "input should be 'template', 'given', 'transformers' or 'lavis', not 'gpt'"),
        ("caption.template='a {color} thing'", "caption.template: no such word: color; there are"),
        ("+caption.batchsize=3", "caption.batchsize: no such value: did you mean caption.batch_size?"),
        ("~caption.batch_size", "caption.batch_size: a value is missing"),
        ("annotate.min_box_size=1.5", "annotate.min_box_size: input should be less than or equal to 1, not 1.5"),
        ("annotate.min_box_size=nan", "annotate.min_box_size: input should be a finite number, not nan"),
        ("annotate.min_box_size=inf", "annotate.min_box_size: input should be a finite number, not inf"),
        ("ingest.num_train=ten", "ingest.num_train: input should be a valid integer, not 'ten'"),
        ("+kept.sample=x.png", "kept.sample: no such value: did you mean kept.samples?"),
        ("kept.metrics=5", "kept.metrics: should be like 'metrics.json', not 5"),
        ("+sketches=5", "sketches: no such value"),
    ],
)  # fmt: skip
def test_a_value_that_fits_no_stage_is_refused_by_its_name_when_it_is_given(
    here: Path, override: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        compose.compile_params([override])
    assert sentence in str(refused.value)
    assert (here / "params.yaml").read_text() == "old: 1\n"


def passed_before() -> None:
    """Let the check know the values of configs/, so that it imports the stages of changed sections alone."""
    digests = {name: values._digest(values.section(PARAMS, name)) for name in values.modules()}
    values.PASSED.parent.mkdir(exist_ok=True)
    values.PASSED.write_text(json.dumps(digests))


@pytest.fixture(autouse=True)
def only_changed_sections(request: pytest.FixtureRequest) -> None:
    if "tree" in request.fixturenames:
        request.getfixturevalue("tree")
        passed_before()


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ('caption.template="a {colour}, {category}"', "caption.template", "a {colour}, {category}"),
        ("caption.template=red thing 100%", "caption.template", "red thing 100%"),
        ("caption.batch_size=7", "caption.batch_size", 7),
        ("ingest.work.retry=[out_of_memory, a b]", "ingest.work.retry", ["out_of_memory", "a b"]),
    ],
)
def test_a_value_that_fits_is_written_as_it_was_meant(here: Path, override: str, name: str, value: object) -> None:
    compose.compile_params([override])
    assert dict(compose.leaves(yaml.safe_load((here / "params.yaml").read_text())))[name] == value


@given(st.sampled_from(sorted(LEAVES)), st.data())
def test_a_name_with_a_letter_too_few_is_told_a_name_that_is_there(name: str, data: st.DataObject) -> None:
    group, _, last = name.rpartition(".")
    place = data.draw(st.integers(0, len(last) - 1))
    typo = ".".join(filter(None, [group, last[:place] + last[place + 1 :]]))
    if len(last) > 3 and typo not in LEAVES:
        suggested = value_faults.suggestion(typo, LEAVES).removeprefix(": did you mean ").removesuffix("?")
        assert suggested in LEAVES
        assert suggested.rpartition(".")[0] == group


def test_a_section_that_has_passed_is_not_checked_again_and_a_wrong_one_is_never_remembered(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    run = subprocess.run

    def recorded(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        checked.append(options["input"].partition(":")[0])
        return run(command, **options)

    monkeypatch.setattr(values.subprocess, "run", recorded)
    changed = PARAMS | {"sketch": PARAMS["sketch"] | {"num_outline_points": 65}}
    values.check(PARAMS)
    values.check(changed)
    values.check(changed)
    wrong = PARAMS | {"sketch": PARAMS["sketch"] | {"num_outline_points": -1}}
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^sketch\.num_outline_points: input should be greater than 0, not -1$"):
            values.check(wrong)
    assert checked == ["sketch"] * 3


def test_every_field_of_every_stage_is_missed_by_its_name() -> None:
    for section in ("caption", "sketch", "ingest"):
        for name in PARAMS[section]:
            rest = {key: value for key, value in PARAMS[section].items() if key != name}
            faults = values.faults({section: rest})
            assert faults == [f"{section}.{name}: a value is missing"] or name == "source"


def test_a_write_that_fails_leaves_the_old_values(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        compose.write("new: 1\n")
    assert (tree / "params.yaml").read_text() == "old: 1\n"
    assert not list(tree.glob(".params*"))


SKETCH = [
    "--images",
    "i.parquet",
    "--masks",
    "m.parquet",
    "--strokes",
    "s.parquet",
    "--ledger",
    "l",
    "--stats",
    "stats.json",
]


def sketch(**environment: str) -> subprocess.CompletedProcess[str]:
    """A stage, run on its own where nothing is that it reads."""
    command = [sys.executable, "-m", "data_prep.sketch", *SKETCH]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_what_a_stage_is_given_wrongly_is_one_sentence_and_the_traceback_lies_aside(tree: Path) -> None:
    (tree / "params.yaml").write_text(yaml.safe_dump({"sketch": PARAMS["sketch"]}))
    done = sketch()
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("sketch: ") and "i.parquet" in sentence
    assert "Traceback" in (tree / stage.TRACEBACKS / "sketch.txt").read_text()
    assert "Traceback" in sketch(INSTDIFF_TRACEBACK="1").stderr
    assert not (tree / "stats.json").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sketch": PARAMS["sketch"] | {"seed": "x"}}, "sketch.seed: input should be a valid integer, not 'x'"),
        (PARAMS | {"caption": PARAMS["caption"] | {"batch_size": 0}}, "caption.batch_size: input should be greater"),
        ({"caption": PARAMS["caption"]}, "params.yaml has no section sketch"),
    ],
)  # fmt: skip
def test_values_that_nobody_checked_are_refused_by_the_first_stage_whichever_stage_they_are_of(
    tree: Path, wrong: dict[str, Any], sentence: str
) -> None:
    (tree / "params.yaml").write_text(yaml.safe_dump(wrong))
    done = sketch()
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert sentence in done.stderr


def test_what_is_no_sentence_of_ours_keeps_its_traceback(tree: Path) -> None:
    with pytest.raises(json.JSONDecodeError), stage.sentences("x"):
        json.loads("{")
