"""Every benchmark's files become layouts, and whatever is wrong with them is one sentence."""

import ast
import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable
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
from eval.benchmarks.benchmark import Reading
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


def test_a_layout_of_denselayout_has_an_instance_at_least_and_a_blank_caption_is_its_category(tmp_path: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[0]["annos"] = records[0]["annos"][:1]
        records[1]["annos"][1]["caption"] = " "

    cases = _read_changed(tmp_path / "few", "denselayout", "test.json", change).cases
    assert [[instance.phrase for instance in case.instances] for case in cases] == [
        ["a red car"],
        ["a red car", "tree"],
    ]
    with pytest.raises(ValueError, match=r"test\.json: 1: .*at least 1"):
        _read_changed(tmp_path / "none", "denselayout", "test.json", lambda records: records[1].update(annos=[]))


def test_the_table_of_denselayout_holds_the_same_as_the_list_and_no_layout_twice(tmp_path: Path) -> None:
    (as_json,) = bench_world.write(tmp_path, "denselayout")
    records = pd.DataFrame(bench_world.PAGES["denselayout"]["test.json"])
    as_table = tmp_path / "test.PARQUET"
    records.assign(annos=records["annos"].map(repr)).to_parquet(as_table)
    reader = registry.load("denselayout").read
    assert reader([as_json]) == reader([as_table])
    with pytest.raises(ValueError, match=f"^{as_json}, {as_table}: the picture '0' stands twice"):
        reader([as_json, as_table])


@pytest.mark.parametrize("name", ["denselayout", "layoutsam", "layoutbench-coco", "overlaybench", "t2i-compbench"])
def test_a_benchmark_of_several_files_says_that_it_was_given_none(name: str) -> None:
    with pytest.raises(ValueError, match="^no file: holds no layout"):
        registry.load(name).read([])


CUP = {"bbox": [0, 0, 512, 512], "category": "cup"}
SINGLE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "deig": ("deig_bench_coco.json", lambda content: content["results"][0].update(instances=bench_world.DEIG[:1])),
    "layoutbench-coco": (
        "size_layouts_val.json",
        lambda records: records[0].update(boxes_normalized=[[0, 0, 1, 1]], box_captions=["a dog"]),
    ),
    "layoutsam": (
        "test.parquet",
        lambda rows: rows[0].update(
            region_captions="['a']", detail_region_captions="['b']", bbox_list="[[0, 0, 9, 9]]"
        ),
    ),
    "overlaybench": (
        "hard.json",
        lambda rows: rows[0].update(annotation={"caption": "", "annotations": {"mug": CUP}}),
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_instance_is_enough_for_a_layout(tmp_path: Path, name: str) -> None:
    file, change = SINGLE[name]
    assert min(len(case.instances) for case in _read_changed(tmp_path, name, file, change).cases) == 1


def test_geneval_may_ask_for_a_hundred_of_a_thing(tmp_path: Path) -> None:
    def change(prompts: list[dict[str, Any]]) -> None:
        prompts[2]["include"][1]["count"] = 100

    cases = _read_changed(tmp_path, "geneval", "evaluation_metadata.jsonl", change).cases
    assert [instance.count for instance in cases[1].instances] == [1, 100]


@pytest.mark.parametrize("short", [None, " "])
def test_an_instance_of_sacap_without_a_short_name_is_asked_for_by_its_caption(
    tmp_path: Path, short: str | None
) -> None:
    cases = _read_changed(
        tmp_path, "sacap", "anno.parquet", lambda rows: rows[1]["segments_info"][0].update(short_caption=short)
    ).cases
    assert [(case.instances[0].short, case.instances[0].detail) for case in cases] == [
        ("a dog", "a brown dog"),
        ("a brown dog", "a brown dog"),
    ]


def test_sacap_needs_the_folder_of_masks_and_a_file_there_for_each_picture(tmp_path: Path) -> None:
    table, masks = bench_world.write(tmp_path, "sacap")
    reader = registry.load("sacap").read
    with pytest.raises(ValueError, match="give the folder of SA-1B's JSON files, too"):
        reader([table])
    (masks / "sa_1.json").unlink()
    with pytest.raises(ValueError, match=rf"row 1: imagename: no sa_1\.json in {masks}$"):
        reader([table, masks])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a red car\n\n , and .", "line 3: ', and .' names nothing"),
        (", " * 21, f"line 1: {', ' * 20!r} names nothing"),
        ("a red car\n\u72ac", "line 2: '' is no safe file name"),
    ],
)
def test_a_prompt_that_names_nothing_or_has_no_name_is_said_with_its_line(
    tmp_path: Path, lines: str, sentence: str
) -> None:
    path = tmp_path / "color_val.txt"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: {sentence}")):
        registry.load("t2i-compbench").read([path])


@pytest.mark.parametrize("pieces", ["a red car", [1], ["a car", ""], ["\ud800"]])
def test_chunks_that_are_no_list_of_texts_are_said_with_the_first_letters_of_their_prompt(
    tmp_path: Path, pieces: object
) -> None:
    path = tmp_path / "chunks.json"
    path.write_text(json.dumps({"p" * 41: pieces}))
    with pytest.raises(ValueError, match=f"^{path}: '{'p' * 40}': a list of texts is expected"):
        registry.load("t2i-compbench").read([path])


@pytest.mark.parametrize("number", [7, "7"])
def test_a_sample_of_the_other_form_of_coco_mig_is_named_by_its_number_or_its_digits(
    tmp_path: Path, number: int | str
) -> None:
    path = tmp_path / "mig.YML"
    path.write_text(json.dumps({"dogs": {"coco_id": number, "a red dog": [[0, 0, 0.5, 0.5], [0.5, 0, 1, 1]]}}))
    (case,) = registry.load("coco-mig").read([path]).cases
    assert (case.key, case.prompt, case.parts) == ("7", "dogs", ("level/L2",))
    assert [instance.box for instance in case.instances] == [Box(0, 0, 0.5, 0.5), Box(0.5, 0, 1, 1)]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"coco_id": True, "a red dog": [[0, 0, 1, 1]]}, "coco_id: the number of the sample is expected"),
        ({"coco_id": 1.5, "a red dog": [[0, 0, 1, 1]]}, "coco_id: the number of the sample is expected"),
        ({"a red dog": [[0, 0, 1, 1]]}, "coco_id: the number of the sample is expected"),
        ({"coco_id": 7}, "segment: holds no instance"),
        ({"coco_id": 7, "a red dog": []}, "a red dog: a list of records is expected, and there is none"),
        ({"coco_id": 7, "a red dog": [[0, 0, 1, 1], [0, 0, 1]]}, "a red dog.1: bbox"),
        ({"coco_id": 7, "d" * 41: [[0, 0, 1, 1]]}, f"segment.0.label: {'d' * 40!r} is not 'a <colour> <category>'"),
    ],
)
def test_what_the_other_form_of_coco_mig_cannot_be_is_named_by_the_prompts_first_letters(
    tmp_path: Path, entry: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "mig_bench_anno.yaml"
    path.write_text(json.dumps({"p" * 61: entry}))
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: {'p' * 60!r}: {sentence}")):
        registry.load("coco-mig").read([path])


def test_the_levels_of_deig_are_its_colours_and_its_materials_and_textures(tmp_path: Path) -> None:
    case = registry.load("deig").read(bench_world.write(tmp_path, "deig")).cases[0]
    assert [instance.parts[0] for instance in case.instances] == [
        "person/C2",
        "object/L1",
        "object/L2",
        "object/L3",
        "object/L4",
    ]


@pytest.mark.parametrize(
    ("kind", "metrics", "level"),
    [
        ("person", {}, "person/C0"),
        ("person", {"color": {}}, "person/C1"),
        ("person", {"color": {"num_colors": 0}}, "person/C0"),
        ("object", {}, "object/L1"),
        ("object", {"material": {}, "texture": {}}, "object/L1"),
        ("object", {"material": {"has_material": True}}, "object/L2"),
        ("object", {"texture": {"has_texture": True}}, "object/L3"),
    ],
)
def test_what_deig_does_not_say_of_an_instance_is_one_colour_and_nothing_else(
    tmp_path: Path, kind: str, metrics: dict[str, Any], level: str
) -> None:
    layout = {
        "image_id": 1,
        "file_name": "a/b.jpg",
        "caption": "no",
        "instances": [bench_world._deig(kind, metrics)] * 2,
    }
    paths = bench_world.write(tmp_path, "deig", {"deig_bench_coco.json": {"results": [layout]}})
    (case,) = registry.load("deig").read(paths).cases
    assert {instance.parts for instance in case.instances} == {(level,)}
    description = case.instances[0].phrase
    assert (case.key, case.prompt) == ("b", f"{description}, {description}")


def _read_changed(folder: Path, name: str, file: str, change: Callable[[Any], object]) -> Reading:
    """A benchmark's cases after a change of its file's content."""
    pages = copy.deepcopy(bench_world.PAGES[name])
    change(pages[file])
    return registry.load(name).read(bench_world.write(folder, name, pages))


@pytest.mark.parametrize(
    ("name", "file", "path", "value", "sentence"),
    [
        (
            "coco-mig",
            "mig_bench.json",
            ("0", "segment", 1, "label"),
            "a dog",
            r"'0': segment\.1\.label: 'a dog' is not 'a <col",
        ),
        ("coco-mig", "mig_bench.json", ("0", "segment", 1, "label"), "the red dog", r"'the red dog' is not"),
        (
            "coco-mig",
            "mig_bench.json",
            ("0", "segment", 1, "bbox"),
            [0, 0, 50, 50],
            r"segment\.1\.bbox: .* far outside",
        ),
        ("coco-mig", "mig_bench.json", ("0", "segment"), [], "'0': segment: holds no instance"),
        ("coco-mig", "mig_bench.json", ("-1",), {"caption": "", "segment": []}, "'-1': the number of a sample"),
        ("coco-mig", "mig_bench.json", ("x" * 21,), {"caption": "", "segment": []}, f"json: '{'x' * 20}': the number"),
        ("coco-mig", "mig_bench.json", ("\u0663",), {"caption": "", "segment": []}, "the number of a sample"),
        ("coco-position", "coco_position.jsonl", ("1", "segment"), [], "'1': segment: holds no instance"),
        (
            "coco-position",
            "coco_position.jsonl",
            ("x1",),
            {"caption": "", "segment": []},
            "'x1': the number of a sample",
        ),
        ("geneval", "evaluation_metadata.jsonl", (1, "include"), [], "1: include: holds nothing"),
        (
            "geneval",
            "evaluation_metadata.jsonl",
            (2, "include", 1, "color"),
            "teal",
            "2: include: 'teal' is none of red",
        ),
        ("geneval", "evaluation_metadata.jsonl", (2, "include", 1, "count"), 0, r"2: include\.1\.count"),
        ("geneval", "evaluation_metadata.jsonl", (2, "include", 1, "count"), 101, r"2: include\.1\.count"),
        ("deig", "deig_bench_coco.json", ("results", 1, "instances"), [], r"results\.1: instances: .*at least 1"),
        ("layoutbench-coco", "size_layouts_val.json", (1, "boxes_normalized"), [], "1: boxes_normalized: .*at least 1"),
        ("layoutsam", "test.parquet", (1, "detail_region_captions"), "[]", "detail_region_captions: .*at least 1"),
        ("sacap", "anno.parquet", (1, "segments_info"), [], "row 1: segments_info: .*at least 1"),
        (
            "overlaybench",
            "hard.json",
            (1, "annotation"),
            {"caption": "", "annotations": {}},
            "1: annotation: annotations: .*at least 1",
        ),
        (
            "layoutbench-coco",
            "size_layouts_val.json",
            (1, "box_captions"),
            ["a"],
            "1: box_captions: there are 2 boxes and 1 cap",
        ),
        ("layoutbench-coco", "size_layouts_val.json", (1, "file_name"), None, "1: file_name: it or id is needed"),
        ("layoutsam", "test.parquet", (1, "region_captions"), "['a']", "row 1: region_captions, .* have 1, 2 entries"),
        (
            "sacap",
            "masks/sa_1.json",
            ("annotations", 0, "id"),
            6,
            r"row 1: segments_info\.0: anno_id: .*sa_1\.json has no annotation 5",
        ),
    ],
)
def test_what_a_benchmark_cannot_take_is_named_by_record_and_field(
    tmp_path: Path, name: str, file: str, path: tuple[Any, ...], value: object, sentence: str
) -> None:
    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    with pytest.raises(ValueError, match=sentence) as refused:
        _read_changed(tmp_path, name, file, change)
    assert str(refused.value).startswith(str(tmp_path))


def test_layouts_of_a_list_of_all_have_the_skill_that_another_list_says_and_no_other_boxes(tmp_path: Path) -> None:
    records = copy.deepcopy(bench_world.PAGES["layoutbench-coco"]["count_layouts_val.json"])
    paths = [tmp_path / name for name in ("all_layouts.json", "count_layouts.json", "combination_layouts.json")]
    for path, own in zip(paths, (records, records[:1], [records[0] | {"file_name": None, "id": 7}]), strict=True):
        path.write_text(json.dumps(own))
    reader = registry.load("layoutbench-coco").read
    for order in (paths, paths[::-1]):
        parts = {case.key: case.parts for case in reader(order).cases}
        assert parts == {"count_0": ("skill/number",), "count_1": (), "7": ("skill/combination",)}
    records[0]["boxes_normalized"][0] = [0, 0, 0.5, 0.6]
    paths[0].write_text(json.dumps(records))
    with pytest.raises(
        ValueError, match=r"count_layouts\.json: 0: the picture 'count_0' stands twice, with other boxes"
    ):
        reader(paths)


@pytest.mark.parametrize("pair", [[0, 0], [0, 2], [2, 1], [-1, 0], [1, -1]])
def test_a_pair_that_is_not_two_instances_of_its_layout_is_named(tmp_path: Path, pair: list[int]) -> None:
    content = ast.literal_eval(bench_world.PAGES["overlaybench"]["hard.json"][0]["annotation"])
    content["valid_overlap"].append({"overlap_box": pair})
    content["annotations"]["mug"]["local_prompts"] = " "
    row = {"image_id": 5, "annotation": content}
    (tmp_path / "layouts.json").write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=rf"0: annotation: valid_overlap\.1: {pair[0]} and {pair[1]} are not two of 2"):
        registry.load("overlaybench").read([tmp_path / "layouts.json"])
    content["valid_overlap"][1] = {"overlap_box": [1, 0]}
    (tmp_path / "layouts.json").write_text(json.dumps([row]))
    ((case,), remarks) = registry.load("overlaybench").read([tmp_path / "layouts.json"])
    assert (case.key, case.parts, case.pairs) == ("5", (), ((0, 1), (1, 0)))
    assert [instance.phrase for instance in case.instances] == ["a white cup", "cup"]
    assert [len(remarks), "neither its name nor its folder's is a split" in remarks[0]] == [1, True]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("hard/x.json", "complex"),
        ("a/medium.json", "regular"),
        ("simple/test-hard.json", "complex"),
        ("a/regular_2.json", "regular"),
    ],
)
def test_a_file_of_overlaybench_is_of_the_split_that_its_name_or_else_its_folders_says(
    tmp_path: Path, path: str, split: str
) -> None:
    file = tmp_path / path
    file.parent.mkdir()
    file.write_text(json.dumps(bench_world.PAGES["overlaybench"]["hard.json"]))
    cases, remarks = registry.load("overlaybench").read([file])
    assert [(case.key, case.parts) for case in cases] == [(f"{split}-{n:08d}", (f"split/{split}",)) for n in range(2)]
    assert remarks == ()


def test_geneval_numbers_its_prompts_among_all_and_says_how_many_are_left_out(tmp_path: Path) -> None:
    cases, remarks = registry.load("geneval").read(bench_world.write(tmp_path, "geneval"))
    assert [(case.key, case.parts) for case in cases] == [
        ("00001", ("tag/colors",)),
        ("00002", ("tag/color_attr",)),
    ]
    assert [instance.phrase for instance in cases[1].instances] == ["blue car", "green dog"]
    assert remarks == ("1 prompts of other tags than colors, color_attr are not scored here",)


def test_a_prompt_without_noun_chunks_is_split_at_commas_and_and_and_eight_of_them_are_asked(tmp_path: Path) -> None:
    prompts = ["Red ANDY bear and a blue cup, a hat.", ", ".join(f"a{number}" for number in range(9)), "b " * 60]
    (tmp_path / "shape_val.txt").write_text("\n".join(["", *prompts]))
    cases, remarks = registry.load("t2i-compbench").read([tmp_path / "shape_val.txt"])
    assert [instance.short for instance in cases[0].instances] == ["Red ANDY bear", "a blue cup", "a hat"]
    assert [len(case.instances) for case in cases] == [3, 8, 1]
    assert [case.parts for case in cases] == [("kind/shape",)] * 3
    assert [case.key for case in cases][::2] == ["red-andy-bear-and-a-blue-cup-a-hat", "b-" * 45]
    assert remarks == ("3 prompts were split at commas and 'and', not by spaCy: not comparable",)
    with pytest.raises(ValueError, match=r"val\.txt: its name must begin with color, shape, texture"):
        registry.load("t2i-compbench").read([tmp_path / "val.txt"])


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
