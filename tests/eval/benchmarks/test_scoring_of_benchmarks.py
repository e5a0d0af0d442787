"""`instdiff bench` on pictures: what is missing fails, two ways of counting stand side by side, nothing is mixed up."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_world
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eval import detect
from eval.answerers import choice as answerers
from eval.answerers.store import Answers
from eval.benchmarks import difference, pictures, registry, run_judges, scoring
from eval.benchmarks.benchmark import Measure
from eval.benchmarks.case import Case, ExpectedInstance
from eval.benchmarks.judge_outputs import JudgeOutputs
from eval.benchmarks.pictures import ExpectedPicture
from eval.benchmarks.scoring import VALUES
from instdiff import __main__ as command
from instdiff.files import tables
from instdiff.layouts.masks import Mask
from instdiff.networks.finders import choice as finders
from instdiff.networks.finders import marked
from instdiff.networks.finders.finder import LabelledBox
from instdiff.schema import Box


class _Echo:
    """A finder that finds each text in the upper left quarter."""

    classes = None

    def find(self, pictures: Any, texts: Any) -> list[list[Any]]:
        quarter = Box(0, 0, 0.5, 0.5)
        return [[LabelledBox(text, 0.9, quarter) for text in own] for own in texts]


class _Whole:
    """A marker to which every box is full."""

    def fill(self, pictures: Any, boxes: Any) -> list[list[tuple[Mask, float]]]:
        return [
            [(np.ones(picture.shape[:2], bool), 1.0) for _ in own] for picture, own in zip(pictures, boxes, strict=True)
        ]


class _ByWord:
    """An answerer that denies textures and does not know about shapes."""

    judge, settings = "me", "{}"

    def answer(self, pictures: Any, questions: Any) -> list[Any]:
        words = {"texture": "No", "shape": "perhaps"}
        return [
            next((answer for word, answer in words.items() if word in question.text), "Yes") for question in questions
        ]


def _run(*words: str | Path) -> None:
    command.main(["bench", *map(str, words)])


def _refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        _run(*words)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def mig(tmp_path: Path) -> dict[str, Any]:
    """COCO-MIG's two layouts with pictures all red, detections in the first quarter, and masks."""
    files = bench_world.write(tmp_path / "in", "coco-mig")
    benchmark = registry.load("coco-mig")
    cases = benchmark.read(files).cases
    folder = bench_world.paint(tmp_path / "red", cases, (200, 0, 0))
    return _judged(tmp_path, "coco-mig", files, folder)


def _judged(tmp_path: Path, name: str, files: list[Path], folder: Path) -> dict[str, Any]:
    """Let the finder and the marker look at what is there."""
    benchmark = registry.load(name)
    expected = pictures.find(folder, benchmark.read(files).cases, benchmark)
    detections, masks = tmp_path / f"{folder.name}.json", tmp_path / f"{folder.name}.parquet"
    bench_world.detect(detections, _Echo(), "echo", expected)
    run_judges.mark(masks, _Whole(), expected)
    words = ["score", name, *files, "--detections", detections, "--masks", masks, "--out", tmp_path / "scores"]
    return {"files": files, "folder": folder, "words": words, "out": tmp_path / "scores" / name, "tmp": tmp_path}


def _metrics(row: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads((row / "metrics.json").read_text())
    return content


def test_a_result_has_its_numbers_intervals_parts_and_sources(mig: dict[str, Any]) -> None:
    _run(*mig["words"], "--pictures", mig["folder"])
    metrics = _metrics(mig["out"] / "red")
    # instances: red dog and blue ball; brown dog, white ball, black cat; all pictures red, found in the first quarter
    assert metrics["success"] | {"low": 0, "high": 0} == {"value": 0.2, "n": 5, "low": 0, "high": 0, "better": "higher"}
    assert metrics["success/level/L2"]["value"] == 0.5
    assert metrics["success/level/L3"]["value"] == 0
    assert metrics["place_success"]["value"] == 0.4
    assert metrics["miou"]["value"] == pytest.approx(0.2)
    assert metrics["pictures"]["n"] == 2
    assert metrics["success"]["low"] <= 0.2 <= metrics["success"]["high"]
    assert all("reference" not in metric for metric in metrics.values())  # both ways of counting agree
    source = json.loads((mig["out"] / "red" / "provenance.json").read_text())
    assert source["judged_by"]["detections"]["by"]["detector"] == "echo"
    assert source["missing"] == []


def test_a_missing_picture_fails_and_the_benchmarks_own_number_stands_beside(
    mig: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (mig["folder"] / "7.png").unlink()
    mig = _judged(mig["tmp"], "coco-mig", mig["files"], mig["folder"])
    _run(*mig["words"], "--pictures", mig["folder"])
    success = _metrics(mig["out"] / "red")["success"]
    assert (success["value"], success["n"]) == (0.2, 5)
    assert (success["reference"]["value"], success["reference"]["n"]) == (0.5, 2)
    output = capsys.readouterr().out
    assert "1 of 2 pictures are missing" in output
    assert "the benchmark itself leaves them out" in " ".join(output.split())
    assert "red, ours" in output
    assert "red, reference" in output
    _run(*mig["words"], "--pictures", mig["folder"], "--compat", "reference")
    success = _metrics(mig["out"] / "red")["success"]
    assert (success["value"], success["ours"]["value"]) == (0.5, 0.2)
    values = tables.read(mig["out"] / "red" / "values.parquet", VALUES)
    missing = values[values["missing"]]
    assert set(missing["key"]) == {"7"}
    assert (missing["ours"] == 0).all()
    assert missing["reference"].isna().all()


def test_a_benchmark_that_stops_at_a_missing_picture_gives_no_number_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = bench_world.write(tmp_path / "in", "overlaybench")
    benchmark = registry.load("overlaybench")
    folder = bench_world.paint(tmp_path / "drawn", benchmark.read(files).cases)
    next(folder.iterdir()).unlink()
    words = _judged(tmp_path, "overlaybench", files, folder)["words"]
    words = [word for word in words if not str(word).endswith("parquet") and word != "--masks"]
    sentence = _refused(capsys, *words, "--pictures", folder, "--compat", "reference")
    assert "itself gives no number when a picture is missing" in sentence
    assert not (tmp_path / "scores" / "overlaybench" / "drawn").exists()
    _run(*words, "--pictures", folder)
    assert "the benchmark itself stops" in " ".join(capsys.readouterr().out.split())
    miou = _metrics(tmp_path / "scores" / "overlaybench" / "drawn")["miou"]
    assert miou["n"] == 4  # pictures
    assert "reference" not in miou


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: shutil.copy(folder / "0.png", folder / "19.png"),
            "1 pictures of no layout of this benchmark: 19.png",
        ),
        (
            lambda folder: shutil.copy(folder / "0.png", folder / "a_0.png"),
            "1 pictures that another one already is: a_0.png",
        ),
        (lambda folder: (folder / "0.png").write_bytes(b"no"), "0.png: not a readable picture"),
        (lambda folder: shutil.copy(folder / "0.png", folder / "7.png"), "made on other pictures than these"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no picture of this benchmark is there"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_by_name(
    mig: dict[str, Any], capsys: pytest.CaptureFixture[str], spoil: Any, sentence: str
) -> None:
    spoil(mig["folder"])
    assert sentence in _refused(capsys, *mig["words"], "--pictures", mig["folder"])
    assert not mig["out"].exists()


def test_the_copies_with_boxes_that_migcs_script_draws_are_left_aside(mig: dict[str, Any]) -> None:
    shutil.copy(mig["folder"] / "0.png", mig["folder"] / "anno_0.png")
    _run(*mig["words"], "--pictures", mig["folder"])
    assert _metrics(mig["out"] / "red")["success"]["n"] == 5


def test_several_pictures_of_a_layout_are_drawn_again_together(tmp_path: Path) -> None:
    files = bench_world.write(tmp_path / "in", "overlaybench")
    cases = registry.load("overlaybench").read(files).cases
    for case in cases:
        split, _, number = case.key.partition("-")
        for seed in ("1", "2", "3"):
            folder = tmp_path / "drawn" / {"complex": "hard"}.get(split, split) / seed
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (int(seed), len(case.key), 0)).save(folder / f"{number}.png")
    words = _judged(tmp_path, "overlaybench", files, tmp_path / "drawn")["words"]
    words = [word for word in words if not str(word).endswith("parquet") and word != "--masks"]
    _run(*words, "--pictures", tmp_path / "drawn")
    metrics = _metrics(tmp_path / "scores" / "overlaybench" / "drawn")
    assert metrics["miou"]["n"] == 12
    assert metrics["miou/split/complex"]["n"] == 6


def test_what_is_needed_and_not_given_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = bench_world.write(tmp_path / "in", "layoutsam")
    folder = bench_world.paint(tmp_path / "drawn", registry.load("layoutsam").read(files).cases)
    assert "needs answers: give --answers" in _refused(capsys, "score", "layoutsam", *files, "--pictures", folder)
    _run("questions", "layoutsam", *files, "--pictures", folder, "--out", tmp_path / "asked.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert len(lines) == 4  # whether the subject of each box is there; the rest hangs on that
    assert json.loads(lines[0]["region"]) == [0, 0, 0.5, 0.5]
    assert "there is no benchmark 'mig'" in _refused(capsys, "list", "mig")
    assert "no such file" in _refused(capsys, "layouts", "deig", tmp_path / "none", "--out", tmp_path / "x.json")


def test_a_question_of_a_whole_picture_is_written_without_a_region(tmp_path: Path) -> None:
    files = bench_world.write(tmp_path / "in", "t2i-compbench")
    folder = bench_world.paint(tmp_path / "drawn", registry.load("t2i-compbench").read(files).cases)
    _run("questions", "t2i-compbench", *files, "--pictures", folder, "--out", tmp_path / "asked.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert [line["question"] for line in lines] == ["a green bench?", "a blue bowl?", "a red car?"]
    assert {line["region"] for line in lines} == {""}
    assert lines[2]["file"] == str(folder / "a-red-car.png")


def test_detections_that_do_not_say_of_which_pictures_they_are_are_taken(mig: dict[str, Any]) -> None:
    path = mig["tmp"] / "red.json"
    content = json.loads(path.read_text())
    content["provenance"]["pictures"] = None
    path.write_text(json.dumps(content))
    _run(*mig["words"], "--pictures", mig["folder"])
    assert _metrics(mig["out"] / "red")["place_success"]["value"] == 0.4


def test_a_benchmark_that_is_named_is_listed_alone_with_what_both_do_about_a_missing_picture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _run("list", "coco-mig")
    output = " ".join(capsys.readouterr().out.split())
    assert output.startswith("coco-mig COCO-MIG; non-commercial research only rules from: MIG_Bench")
    assert "missing: fails here; left out there" in output
    assert "measures: instance success, mIoU, picture success" in output
    assert all(benchmark.title not in output for benchmark in registry.every() if benchmark.name != "coco-mig")


def test_kept_answers_are_scored_without_asking_and_unknown_questions_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = bench_world.write(tmp_path / "in", "layoutsam")
    benchmark = registry.load("layoutsam")
    folder = bench_world.paint(tmp_path / "drawn", benchmark.read(files).cases)
    expected = pictures.find(folder, benchmark.read(files).cases, benchmark)
    outputs = JudgeOutputs(questions=benchmark.questions, identities=pictures.identities(expected))
    answers, answerer = tmp_path / "answers", _ByWord()
    assert run_judges.ask(benchmark, expected, outputs, answerer, Answers(answers), 3) == 4 * 4
    words = ("score", "layoutsam", *files, "--pictures", folder, "--answers", answers, "--out", tmp_path / "scores")
    _run(*words)
    assert "4 answers say neither yes nor no" in capsys.readouterr().out
    metrics = _metrics(tmp_path / "scores" / "layoutsam" / "drawn")
    assert [metrics[name]["value"] for name in ("spatial", "colour", "texture", "shape")] == [1, 1, 0, 0]
    source = json.loads((tmp_path / "scores" / "layoutsam" / "drawn" / "provenance.json").read_text())
    assert source["unreadable_answers"] == 4
    assert run_judges.ask(benchmark, expected, outputs, answerer, Answers(answers), 3) == 0  # nothing is asked again
    wording = {"source": "theirs", "questions": {name: f"{text} Please." for name, text in benchmark.questions.items()}}
    (tmp_path / "theirs.json").write_text(json.dumps(wording))
    assert "questions have no answer" in _refused(capsys, *words, "--questions", tmp_path / "theirs.json")
    wording["questions"]["colour"] = "Is it?"
    (tmp_path / "theirs.json").write_text(json.dumps(wording))
    assert "questions.colour: {detail} is missing" in _refused(capsys, *words, "--questions", tmp_path / "theirs.json")


def test_two_results_are_compared_value_by_value(mig: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    cases = registry.load("coco-mig").read(mig["files"]).cases
    blue = _judged(mig["tmp"], "coco-mig", mig["files"], bench_world.paint(mig["tmp"] / "brown", cases, (120, 60, 20)))
    for folder in (mig, blue):
        _run(*folder["words"], "--pictures", folder["folder"])
    a, b = difference.read(mig["out"] / "red"), difference.read(mig["out"] / "brown")
    assert difference.checked(a, b) == ["judged_by"]
    differences = {metric.name: metric for metric in difference.of_metrics(a, b, 200, 0)}
    # red pictures: the red dog; brown ones: the brown dog. In no pair of pictures do both succeed
    assert (differences["success"].a, differences["success"].b) == (0.2, 0.2)
    assert differences["success"].low == pytest.approx(-0.5)
    assert differences["success"].high == pytest.approx(1 / 3)
    assert differences["success/level/L2"].value == -0.5
    assert (differences["place_success"].low, differences["place_success"].high) == (
        0,
        0,
    )  # the same places: paired, no spread
    _run("compare", mig["out"] / "red", mig["out"] / "brown")
    output = capsys.readouterr().out
    assert "place_success" in output
    assert "not the same on both sides, and numbers may differ for it: judged_by" in output
    _run("compare", mig["out"] / "red", mig["out"] / "red")
    assert "not the same" not in capsys.readouterr().out


def test_results_of_other_files_are_not_compared(mig: dict[str, Any]) -> None:
    _run(*mig["words"], "--pictures", mig["folder"])
    other = shutil.copytree(mig["out"] / "red", mig["out"] / "other")
    source = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(source | {"files": {"mig_bench.json": "another"}}))
    with pytest.raises(ValueError, match="their files differ"):
        difference.checked(difference.read(mig["out"] / "red"), difference.read(other))


def test_a_mean_over_parts_weighs_each_part_alike() -> None:
    rows = pd.DataFrame(
        {
            "measure": "correct",
            "key": ["a", "b", "c"],
            "repeat": "",
            "index": -1,
            "missing": False,
            "place": [0, 1, 2],
            "ours": [1.0, 1.0, 0.0],
            "reference": [1.0, 1.0, 0.0],
            "parts": [["tag/colors"], ["tag/colors"], ["tag/color_attr"]],
        }
    )
    draws = scoring.bootstrap.draws(3, 100, 0)
    metrics = scoring.summary(registry.load("geneval"), rows, "ours", scoring.Draws(draws, draws))
    assert metrics["correct"].value == 0.5
    assert metrics["correct/tag/colors"].value == 1.0


def test_on_scenes_an_exact_oracle_is_perfect_on_the_real_pictures_and_finds_nothing_in_others(tmp_path: Path) -> None:
    scenes = bench_world.write_scenes(tmp_path, 4)
    files = [tmp_path / "images.parquet", tmp_path / "annotated.parquet"]
    benchmark = registry.load("scenes")
    cases = benchmark.read(files).cases
    assert any(case.pairs for case in cases)
    grey = bench_world.paint(tmp_path / "grey", cases)
    values = {}
    for folder in (tmp_path / "real", grey):
        expected = pictures.find(folder, cases, benchmark)
        bench_world.detect(tmp_path / f"{folder.name}.json", bench_world.OracleFinder(scenes), "oracle", expected)
        answers, oracle = tmp_path / f"{folder.name}-answers", bench_world.OracleAnswerer(scenes)
        outputs = JudgeOutputs(detections={}, questions=benchmark.questions, identities=pictures.identities(expected))
        run_judges.ask(benchmark, expected, outputs, oracle, Answers(answers), 3)
        assert oracle.num_asked == sum(len(case.instances) for case in cases)
        words = ["--detections", tmp_path / f"{folder.name}.json", "--answers", answers, "--out", tmp_path / "scores"]
        _run("score", "scenes", *files, "--pictures", folder, *words)
        metrics = _metrics(tmp_path / "scores" / "scenes" / folder.name)
        values[folder.name] = {name: metrics[name]["value"] for name in ("success", "miou", "fits", "o_miou")}
    assert values["real"] == pytest.approx({"success": 1, "miou": 1, "fits": 1, "o_miou": 1})
    assert values["grey"] == {"success": 0, "miou": 0, "fits": 0, "o_miou": 0}


def test_who_is_named_looks_once_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = bench_world.write(tmp_path / "in", "deig")
    folder = bench_world.paint(tmp_path / "drawn", registry.load("deig").read(files).cases)
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model").write_bytes(b"any")
    finder, answerer = _Echo(), _ByWord()
    detect._loaded.cache_clear()
    monkeypatch.setattr(finders, "load", lambda choice, detector, where: finder)
    monkeypatch.setattr(answerers, "load", lambda args: answerer)
    words = [
        "score",
        "deig",
        *files,
        "--pictures",
        folder,
        "--out",
        tmp_path / "scores",
        "--answers",
        tmp_path / "kept",
    ]
    words += ["--finder", "grounding_dino", "--finder-weights", weights, "--answerer", weights]
    _run(*words)
    first = _metrics(tmp_path / "scores" / "deig" / "drawn")
    assert first["human_maa"]["value"] == 1.0  # found in the first quarter, and the answer is yes
    assert first["object_maa/object/L3"]["value"] == 0.0  # a chair with a texture: No
    monkeypatch.setattr(finders, "load", None)
    monkeypatch.setattr(answerer, "answer", None, raising=False)
    _run(*words)
    assert _metrics(tmp_path / "scores" / "deig" / "drawn") == first
    source = json.loads((tmp_path / "scores" / "deig" / "drawn" / "provenance.json").read_text())
    assert source["judged_by"]["answers"] == {"judge": "me", "settings": "{}"}
    assert source["judged_by"]["detections"]["by"]["settings"]["phrases"] == "own"


def test_a_marker_fills_the_given_boxes(
    mig: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(marked, "load", lambda params: _Whole())
    place = mig["words"].index("--masks")
    words = [*mig["words"][:place], *mig["words"][place + 2 :], "--pictures", mig["folder"], "--marker", "sam"]
    _run(*words, "--marker-weights", tmp_path)
    assert _metrics(mig["out"] / "red")["success"]["value"] == 0.2
    assert "--marker: needs --marker-weights" in _refused(capsys, *words)


def test_a_text_that_nobody_looked_for_is_named(mig: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    path = mig["tmp"] / "red.json"
    path.write_text(path.read_text().replace('"dog"', '"hound"'))
    assert "the detections are of 3 categories, and 'dog' is none of them" in _refused(
        capsys, *mig["words"], "--pictures", mig["folder"]
    )


def test_the_spread_of_a_judge_is_between_results_of_the_same_pictures(
    mig: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [mig["out"] / name for name in ("a", "b", "c")]
    for row in rows:
        _run(*mig["words"], "--pictures", mig["folder"], "--row", row.name)
    for row, value in zip(rows, (0.1, 0.2, 0.6), strict=True):
        metrics = _metrics(row)
        metrics["success"]["value"] = value
        (row / "metrics.json").write_text(json.dumps(metrics))
    spread = {measure.name: measure for measure in difference.spread([difference.read(row) for row in rows])}
    assert spread["success"][1:] == pytest.approx((0.3, 0.07**0.5, 0.1, 0.6))
    assert spread["miou"].sd == pytest.approx(0, abs=1e-12)
    capsys.readouterr()
    _run("spread", *rows)
    assert "coco-mig, judged 3 times" in capsys.readouterr().out
    assert "a spread needs two results or more" in _refused(capsys, "spread", rows[0])
    (mig["folder"] / "7.png").unlink()
    other = _judged(mig["tmp"], "coco-mig", mig["files"], mig["folder"])
    _run(*other["words"], "--pictures", mig["folder"], "--row", "d")
    assert "are of other pictures" in _refused(capsys, "spread", rows[0], mig["out"] / "d")


def test_an_instance_counts_in_its_own_parts_its_pictures_and_how_much_it_overlaps_another() -> None:
    boxes = (Box(0, 0, 0.5, 1), None, Box(0.25, 0, 0.75, 1), Box(0.9, 0, 1, 1))
    instances = tuple(
        ExpectedInstance(phrase="it", box=box, parts=(f"own/{place}",)) for place, box in enumerate(boxes)
    )
    case = Case(key="a", prompt="", instances=instances, height=1, width=1, parts=("level/L4",))
    crowding = (("overlap/crossing",), (), ("overlap/crossing",), ("overlap/apart",))
    assert scoring.parts_of(case) == [("level/L4", f"own/{place}", *names) for place, names in enumerate(crowding)]


def _rows(*values: tuple[int, str, float, str]) -> pd.DataFrame:
    rows = pd.DataFrame(values, columns=["place", "repeat", "ours", "part"])
    return rows.assign(parts=rows["part"].map(lambda part: [part]))


def test_a_mean_over_pictures_weighs_each_repeat_of_each_case_alike() -> None:
    rows = _rows(
        (0, "1", 1.0, ""), (0, "1", 0.0, ""), (0, "1", 0.0, ""), (0, "1", 1.0, ""), (0, "2", 1.0, ""), (1, "1", 0, "")
    )
    measure = Measure("", "", over="pictures")
    metric = scoring.number(rows, measure, "ours", np.array([[1, 1], [2, 0], [0, 2]]), {})
    assert (metric.value, metric.n) == (0.5, 3)
    assert metric[2:] == pytest.approx(np.percentile([0.5, 0.75, 0.0], [2.5, 97.5]))


def test_of_a_mean_over_parts_a_resample_without_a_case_of_one_is_left_out() -> None:
    rows = _rows((0, "", 1.0, "p"), (0, "", 0.5, "p"), (1, "", 0.0, "q"), (2, "", 1.0, "q"))
    draws = np.array([[3, 0, 0], [0, 1, 2], [1, 2, 0], [1, 0, 2]])
    parts = scoring.by_part(rows["parts"])
    assert {name: places.tolist() for name, places in parts.items()} == {"p": [0, 1], "q": [2, 3]}
    metric = scoring.number(rows, Measure("", "", over="parts"), "ours", draws, parts)
    assert (metric.value, metric.n) == (0.625, 4)
    assert metric[2:] == pytest.approx(np.percentile([0.375, 0.875], [2.5, 97.5]))
    alone = scoring.number(rows, Measure("", "", over="parts"), "ours", draws, {})  # of a part
    assert alone.value == 0.625


def _expected(cases: Sequence[Case], *missing: int) -> list[ExpectedPicture]:
    there = [None if place in missing else Path("there") for place in range(len(cases))]
    return [
        ExpectedPicture(case, n, "", path, (64, 64)) for n, (case, path) in enumerate(zip(cases, there, strict=True))
    ]


def test_average_precision_is_of_each_part_and_a_missing_picture_counts_our_way_alone(tmp_path: Path) -> None:
    benchmark = registry.load("layoutbench-coco")
    cases = benchmark.read(bench_world.write(tmp_path, "layoutbench-coco")).cases  # two of number, then two of size
    boxes = {"dog": [(0, 0, 0.5, 0.5, 0.9)], "cat": [(0.5, 0.5, 1, 1, 0.8)]}
    found = {case.key: bench_world.detections_of(**boxes) for case in cases}
    scored = scoring.score(benchmark, _expected(cases, 3), JudgeOutputs(detections=found), 30, 0)
    ours = {name: (metric.value, metric.n) for name, metric in scored.metrics["ours"].items() if name.startswith("ap")}
    assert ours == {  # of two instances a category half are found: levels 0 to .50 of 101, of four three: 0 to .75
        "ap": (pytest.approx(76 / 101), 8),
        "ap/skill/number": (pytest.approx(1), 4),
        "ap/skill/size": (pytest.approx(51 / 101), 4),
    }
    assert scored.metrics["reference"] == {}  # its script stops
    left_out = dataclasses.replace(benchmark, absent="left out")
    theirs = scoring.score(left_out, _expected(cases, 3), JudgeOutputs(detections=found), 30, 0).metrics["reference"]
    assert {name: metric.n for name, metric in theirs.items() if name.startswith("ap")} == {
        "ap": 6,
        "ap/skill/number": 4,
        "ap/skill/size": 2,
    }
    assert theirs["ap"][::2] == pytest.approx((1, 1))


def test_each_open_question_is_pending_once_and_none_of_a_missing_picture(tmp_path: Path) -> None:
    benchmark = registry.load("layoutsam")
    cases = benchmark.read(bench_world.write(tmp_path, "layoutsam")).cases
    expected = _expected(cases, 1)
    identities = {case.key: case.key for case in cases}
    outputs = JudgeOutputs(questions=benchmark.questions, identities=identities)
    questions = scoring.pending(benchmark, [*expected, *expected], outputs)
    assert [(question.name, question.region) for question in questions] == [
        (cases[0].key, tuple(instance.place)) for instance in cases[0].instances
    ]
    with pytest.raises(
        ValueError, match=f"^2 questions have no answer; the first is of picture '{cases[0].key}': 'Can a dog"
    ):
        scoring.score(benchmark, expected, outputs, 5, 0)
    silent = dataclasses.replace(registry.load("coco-mig"), measure=lambda case, view: [])
    with pytest.raises(ValueError, match="nothing was measured: coco-mig needs detections"):
        scoring.score(silent, expected, outputs, 5, 0)
