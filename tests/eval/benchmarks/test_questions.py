"""The wording of a benchmark's questions: ours, or a file with as many and all their fields."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from eval.benchmarks import questions, registry
from instdiff.files import provenance

WORDING = {"fits": "Is {short} as in {detail}?", "there": "Is there {short}?"}
BENCHMARK = dataclasses.replace(registry.load("deig"), questions=WORDING)


def written(folder: Path, wording: Mapping[str, str], **more: str) -> Path:
    path = folder / "wording.json"
    path.write_text(json.dumps({"source": "theirs", "questions": wording, **more}))
    return path


def test_without_a_file_the_wording_is_ours_and_stated_whole() -> None:
    texts, stated = questions.read(BENCHMARK, None)
    assert texts == WORDING
    assert stated == {"source": "this repository's wording", "questions": WORDING}


def test_a_files_wording_is_taken_and_stated_by_its_hash(tmp_path: Path) -> None:
    own = {"fits": "{detail}: {short}?", "there": "{short}, yes or no, {detail}?"}
    path = written(tmp_path, own, licence="MIT")
    texts, stated = questions.read(BENCHMARK, path)
    assert texts == own
    assert stated == {"source": "theirs", "licence": "MIT", "sha256": provenance.of_file(path)}
    single = dataclasses.replace(BENCHMARK, questions={"there": "{short}?"})
    assert questions.read(single, written(tmp_path, {"there": "{short}!"}))[0] == {"there": "{short}!"}


@pytest.mark.parametrize(
    ("wording", "sentence"),
    [
        ({**WORDING, "hue": "Is it red?"}, "questions.hue: deig has no such question, but fits, there"),
        ({**WORDING, "x" * 41: "?"}, f"questions.{'x' * 40}: deig has no such question, but fits, there"),
        ({**WORDING, "fits": "Is it?"}, "questions.fits: {detail} is missing in it"),
        ({**WORDING, "fits": "Is it {detail}?"}, "questions.fits: {short} is missing in it"),
        ({"there": WORDING["there"]}, "questions: fits is missing"),
    ],
)
def test_a_wording_that_does_not_fit_is_refused_by_what_comes_first(
    tmp_path: Path, wording: Mapping[str, str], sentence: str
) -> None:
    path = written(tmp_path, wording)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {sentence}')}$"):
        questions.read(BENCHMARK, path)


def test_a_file_without_a_question_and_a_benchmark_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="questions: .*at least 1"):
        questions.read(BENCHMARK, written(tmp_path, {}))
    silent = dataclasses.replace(BENCHMARK, questions={})
    with pytest.raises(ValueError, match=r"questions\.there: deig has no such question, but none$"):
        questions.read(silent, written(tmp_path, {"there": "?"}))


def test_of_several_questions_that_lack_the_first_by_name_is_said(tmp_path: Path) -> None:
    many = dataclasses.replace(BENCHMARK, questions={"there": "?", "fits": "?", "also": "?"})
    with pytest.raises(ValueError, match="questions: also is missing$"):
        questions.read(many, written(tmp_path, {"there": "?"}))
