"""Every benchmark's files become layouts, and whatever is wrong with them is one sentence."""

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import bench_world
import mutations
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eval.answerers.store import ANSWERS
from eval.benchmarks import registry, replies
from eval.benchmarks.judge_outputs import JudgeOutputs, read_answers
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.view import View
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts import files
from instdiff.schema import Box

NUM_SPOILT = 100  # of each of ten benchmarks


@pytest.mark.parametrize("name", registry.MODULES)
def test_a_benchmark_becomes_layouts_that_any_generator_reads(tmp_path: Path, name: str) -> None:
    paths = bench_world.write(tmp_path / "in", name)
    command.main(["bench", "layouts", name, *map(str, paths), "--out", str(tmp_path / "layouts.json")])
    written = files.read(tmp_path / "layouts.json", max_instances=None)
    cases = registry.load(name).read(paths).cases
    assert [layout.key for layout in written] == [case.key for case in cases]
    assert [instance.phrase for layout in written for instance in layout.instances] == [
        instance.phrase for case in cases for instance in case.instances
    ]


def test_boxes_are_fractions_whatever_unit_the_file_has(tmp_path: Path) -> None:
    boxes = {
        name: [
            instance.box
            for instance in registry.load(name).read(bench_world.write(tmp_path / name, name)).cases[0].instances
        ]
        for name in ("layoutsam", "denselayout", "overlaybench", "layoutbench-coco", "sacap")
    }
    quarter = Box(0, 0, 0.5, 0.5)
    assert boxes["layoutsam"] == boxes["denselayout"] == boxes["layoutbench-coco"] == [quarter, Box(0.5, 0.5, 1, 1)]
    assert boxes["overlaybench"] == [quarter, Box(0.25, 0.25, 0.75, 0.75)]
    assert boxes["sacap"] == [Box(0, 0, 1, 1)]


def test_both_forms_of_coco_mig_hold_the_same_layouts(tmp_path: Path) -> None:
    (as_json,) = bench_world.write(tmp_path, "coco-mig")
    content = json.loads(as_json.read_text())
    form: dict[str, Any] = {}
    for number, sample in content.items():
        entry = form.setdefault(sample["caption"].strip(), {"coco_id": number})
        for segment in sample["segment"]:
            entry.setdefault(segment["label"], []).append(segment["bbox"])
    as_yaml = tmp_path / "mig_bench_anno.yaml"
    as_yaml.write_text(json.dumps(form))
    reader = registry.load("coco-mig").read
    assert reader([as_json]) == reader([as_yaml])


def test_both_names_of_denselayouts_fields_are_read(tmp_path: Path) -> None:
    (path,) = bench_world.write(tmp_path, "denselayout")
    names = {"prompt": "global_caption", "annos": "instance_info", "category_name": "description"}
    names["caption"] = "detail_description"
    other = tmp_path / "other.json"
    text = path.read_text()
    for ours, theirs in names.items():
        text = text.replace(f'"{ours}":', f'"{theirs}":')
    other.write_text(text)
    reader = registry.load("denselayout").read
    assert reader([path]) == reader([other])


def test_the_levels_of_deig_are_its_colours_and_its_materials_and_textures(tmp_path: Path) -> None:
    case = registry.load("deig").read(bench_world.write(tmp_path, "deig")).cases[0]
    assert [instance.parts[0] for instance in case.instances] == [
        "person/C2",
        "object/L1",
        "object/L2",
        "object/L3",
        "object/L4",
    ]


@pytest.mark.parametrize("name", [name for name in registry.MODULES if name != "scenes"])
def test_a_malformed_file_is_read_or_refused_in_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    seen: Counter[str] = Counter()
    for number in range(NUM_SPOILT):
        draw = random.Random(f"{name} {number}")
        folder = tmp_path / str(number)
        paths = bench_world.write(folder, name)
        _spoil(folder, name, draw)
        try:
            reading = registry.load(name).read(paths)
        except ValueError as error:
            assert str(folder) in str(error) or "no file" in str(error), error
            assert "\n" not in str(error), error
            seen["refused"] += 1
            continue
        assert reading.cases
        files.write(folder / "layouts.json", [case.layout() for case in reading.cases])
        assert len(files.read(folder / "layouts.json", max_instances=None)) == len(reading.cases)
        seen["read"] += 1
    assert min(seen["refused"], seen["read"]) > NUM_SPOILT // 20


def _spoil(folder: Path, name: str, draw: random.Random) -> None:
    """Change a value somewhere in one of the files or, one time in five, its bytes."""
    pages = copy.deepcopy(bench_world.PAGES[name])
    file = draw.choice(sorted(pages))
    if draw.random() < 0.8 and not isinstance(pages[file], str):
        for _ in range(draw.randint(1, 2)):
            mutations._inside(pages[file], draw)
        try:
            bench_world.write(folder, name, {file: pages[file]})
        except (ValueError, TypeError, AttributeError, OverflowError, pa.ArrowException):
            return  # no table can hold it
    else:
        path = folder / file
        path.write_bytes(draw.choice(mutations.BYTES)(path.read_bytes(), draw))


ANSWERS_SEEN = (
    '```json\n{"cup": "Yes", "mug": "No"}\n```',
    '{"cup": [[0, 0, 512, 512]]}',
    "{'cup': 'Yes'}",
    "Yes.",
    "no",
    "**Yes**, it is",
    "0.83",
)


def test_a_thousand_malformed_answers_are_read_or_counted_and_none_is_lost(tmp_path: Path) -> None:
    case = registry.load("overlaybench").read(bench_world.write(tmp_path, "overlaybench")[:1]).cases[0]
    picture = ExpectedPicture(case, 0, "", tmp_path, (512, 512))
    for number in range(1000):
        draw = random.Random(number)
        content = draw.choice(mutations.BYTES)(draw.choice(ANSWERS_SEEN).encode(), draw)
        answer = content.decode("utf-8", "replace")
        view = View(picture, JudgeOutputs(boxes_in="pixels"), compat=False)
        held = replies.by_name(view, answer)
        assert held or view.faults or "{}" in answer
        for value in held.values():
            assert all(np.isfinite(box).all() for box in replies.boxes(view, value))
            assert replies.is_yes(value) in (True, False)
        assert replies.yes(view, answer, ("yes",)) in (True, False)
        assert 0 <= replies.probability(view, answer) <= 1


@pytest.mark.parametrize(
    ("answer", "ours", "deig", "layoutsam"),
    [
        ("yes", True, True, True),
        ("Yes", True, False, True),
        ("YES.", True, False, False),
        ("No", False, False, False),
        ("No, but yes it could", False, True, True),
        ("The answer is yes.", False, True, True),
        ("**Yes**", True, False, True),
        ("eyes", False, True, True),
    ],
)
def test_an_answer_is_its_first_word_and_by_the_references_rules_a_substring(
    tmp_path: Path, answer: str, ours: bool, deig: bool, layoutsam: bool
) -> None:
    case = registry.load("deig").read(bench_world.write(tmp_path, "deig")).cases[0]
    views = [View(ExpectedPicture(case, 0, "", tmp_path, (8, 8)), JudgeOutputs(), compat) for compat in (False, True)]
    assert replies.yes(views[0], answer, ("yes",)) == ours
    assert replies.yes(views[1], answer, ("yes",)) == deig
    assert replies.yes(views[1], answer, ("Yes", "yes")) == layoutsam


def test_answers_of_several_judges_are_refused_until_one_is_named(tmp_path: Path) -> None:
    rows = [
        {"picture": "p", "region": "", "question": "q", "judge": judge, "settings": "{}", "answer": judge}
        for judge in ("a", "b")
    ]
    tables.write(tmp_path / "answers.parquet", pd.DataFrame(rows, columns=ANSWERS.names), ANSWERS)
    with pytest.raises(ValueError, match="answers of 2 judges or settings"):
        read_answers(tmp_path / "answers.parquet", None)
    assert read_answers(tmp_path / "answers.parquet", "b").by_key == {("p", None, "q"): "b"}
    with pytest.raises(ValueError, match="no answers of the judge 'c'"):
        read_answers(tmp_path / "answers.parquet", "c")
