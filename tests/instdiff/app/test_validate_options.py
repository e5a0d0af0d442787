"""Each option of `instdiff validate` reaches what it is for, and its exit code says whether all can be drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instdiff.app import validate
from instdiff.files.texts import counted
from instdiff.layouts import masks


def written(path: Path, *instances: dict[str, Any], prompt: str = "p") -> Path:
    path.write_text(json.dumps({"prompt": prompt, "instances": instances}))
    return path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    with pytest.raises(SystemExit) as ended:
        validate.main([str(word) for word in words])
    return int(str(ended.value.code)), capsys.readouterr().out.splitlines()


DRAWN = f"{counted(1, 'layout')} can be drawn, {counted(0, 'fault')}"
BOX = {"phrase": "a", "box": [0, 0, 0.5, 0.5]}
MASK = {"phrase": "a", "mask": masks.encode(np.eye(4, 8, dtype=bool)).model_dump(mode="json")}


@pytest.mark.parametrize(("slots", "code"), [(1, 1), (2, 0), (3, 0)])
def test_the_models_slots_bound_the_instances(
    slots: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "two.json", BOX, BOX)
    exit_code, lines = said(capsys, path, "--max-instances", slots)
    assert exit_code == code
    assert lines[-1] == (f"{counted(0, 'layout')} can be drawn, {counted(1, 'fault')}" if code else DRAWN)


@pytest.mark.parametrize(
    ("options", "has_remark"),
    [((), True), (("--height", 100, "--width", 200), False), (("--height", 200, "--width", 100), True),
     (("--width", 1024), False), (("--height", 1024), True)],
)  # fmt: skip
def test_height_and_width_are_those_of_the_picture_drawn(
    options: tuple[object, ...], has_remark: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = said(capsys, written(tmp_path / "wide.json", MASK), *options)
    assert code == 0
    assert any("it is stretched" in line for line in lines) == has_remark


def test_the_tokenizer_counts_what_the_encoder_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def letters(folder: Path) -> Any:
        folders.append(folder)
        return list

    monkeypatch.setattr(validate, "tokenizer", letters)
    path = written(tmp_path / "long.json", BOX, prompt="x" * 80)
    _, lines = said(capsys, path)
    assert not [line for line in lines if "tokens" in line] and folders == []
    _, lines = said(capsys, path, "--tokenizer", "words")
    (remark,) = [line for line in lines if "tokens" in line]
    assert f"{path}: long: prompt: has 80 tokens, and the text encoder reads 75" in remark
    assert folders == [Path("words")]


def test_every_file_is_told_of_and_a_single_fault_ends_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, odd = (
        written(tmp_path / "good.json", BOX),
        written(tmp_path / "odd.json", {"phrase": "é\n", "box": [0, 0, 3, 1]}),
    )
    bad = written(tmp_path / "bad.json", {"phrase": " "}, {"phrase": ""})
    assert said(capsys, good) == (0, [DRAWN])
    code, lines = said(capsys, good, bad, odd)
    assert code == 1
    assert lines[-1] == f"{counted(2, 'layout')} can be drawn, {counted(2, 'fault')}"
    assert [line.partition(" ")[0] for line in lines[:-1]] == ["fault", "fault", "remark"]
    assert all(line.isascii() for line in lines)


def test_no_option_is_left_without_a_law(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        validate.main(["--help"])
    options = {word.strip("[],") for word in capsys.readouterr().out.split() if word.strip("[],").startswith("--")}
    assert options == {"--help", "--instance", "--max-instances", "--height", "--width", "--tokenizer"}
