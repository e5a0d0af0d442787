"""A stage that leaves nothing is an error with the commonest reason and what to do; any other is none."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from instdiff import stage
from instdiff.schema import Strict

NOTHING = [
    (
        {"instances": 108, "kept": 0, "failed": 110, "failed_no_colour": 108, "failed_failed": 2},
        "not one of 108 instances is left: 108 are no_colour: the template needs a word",
    ),
    (
        {"instances": 9, "kept": 0, "dropped": 9, "dropped_small_box": 2, "dropped_no_mask": 7},
        "not one of 9 instances is left: 7 are no_mask: the source has boxes and no masks",
    ),
    (
        {"instances": 0, "pictures": 5, "failed": 5, "failed_nothing_found": 5},
        "not one instance is left: 5 are nothing_found: lower ground",
    ),
    ({"kept": 0, "failed_odd": 2.0}, "not one instance is left: 2 are odd$"),
    ({"instances": 0, "samples": 12}, "no instance came in"),
    ({"instances": 3, "kept": 0}, "no instance came in"),
]


@pytest.mark.parametrize(("counts", "says"), NOTHING)
def test_nothing_left_is_an_error_that_names_the_main_reason(counts: Mapping[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stage.refuse_nothing(counts)


COUNTING = """
from pathlib import Path

from instdiff import stage
from instdiff.schema import Strict


class Params(Strict):
    times: int


def run(*, words: Path, role: str, params: Params) -> dict[str, float]:
    return {"words": len(words.read_text().split()) * params.times, "kept": len(role)}
"""


def test_a_stage_writes_what_it_counts_and_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, content in {"counting.py": COUNTING, "params.yaml": "counting: {times: 3}", "w": "a b"}.items():
        (tmp_path / name).write_text(content)
    run = importlib.import_module("counting").run
    monkeypatch.setattr("sys.argv", ["counting", "--words", "w", "--role", "x", "--stats", "out/c.json"])
    stage.main(run)
    assert (tmp_path / "out" / "c.json").read_text() == '{\n  "kept": 1,\n  "words": 6\n}\n'
    assert capsys.readouterr().out == "counting: words 6, kept 1\n"
    monkeypatch.setattr("sys.argv", ["counting", "--words", "w", "--role", "", "--stats", "none/c.json"])
    with pytest.raises(SystemExit, match="^counting: no instance came in"):
        stage.main(run)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("error", "is_sentence"),
    [
        (ValueError("of a test"), False),
        (OSError("without a name"), False),
        (FileNotFoundError(2, "No such file", "a.png"), True),
        (KeyError("some"), False),
    ],
)
def test_what_no_code_of_ours_says_is_a_sentence_where_it_names_a_file(
    error: Exception, is_sentence: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSTDIFF_TRACEBACK", raising=False)
    with pytest.raises(SystemExit if is_sentence else type(error)) as ended, stage.sentences("some"):
        raise error
    log = tmp_path / "runs" / "errors" / "some.txt"
    assert log.exists() == is_sentence
    if is_sentence:
        assert str(ended.value) == f"some: {error} (traceback: runs/errors/some.txt)"
        assert log.read_text().startswith("Traceback")


@pytest.mark.parametrize(
    "counts",
    [
        {"instances": 9, "kept": 1, "dropped": 8, "dropped_no_mask": 8},
        {"instances": 1, "failed": 4},
        {"pictures": 0},
        {},
    ],
)
def test_something_left_is_no_error(counts: Mapping[str, float]) -> None:
    stage.refuse_nothing(counts)


def test_what_to_do_names_values_that_there_are() -> None:
    named = {name for mend in stage.MENDS.values() for name in re.findall(r"\b([a-z_]+\.[a-z_.]+)\b", mend)}
    assert named
    text = Path(__file__).parents[2].joinpath("params.yaml").read_text() + "".join(
        path.read_text() for path in (Path(__file__).parents[2] / "configs/ground").glob("*.yaml")
    )
    assert [name for name in sorted(named) if f"{name.rpartition('.')[2]}:" not in text] == []


def test_a_stage_is_told_every_path_and_where_its_counts_go_or_does_not_begin(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*, in_pictures: Path, role: str, params: Strict) -> dict[str, float]:
        return {}

    words = {"--in-pictures": "a b", "--role": "judge", "--stats": "c.json"}
    whole = [word for pair in words.items() for word in pair]
    assert vars(stage.parser(run).parse_args(whole)) == {
        "in_pictures": Path("a b"),
        "role": "judge",
        "stats": Path("c.json"),
    }
    for name in words:
        place = whole.index(name)
        with pytest.raises(SystemExit):
            stage.parser(run).parse_args(whole[:place] + whole[place + 2 :])
        assert f"required: {name}" in capsys.readouterr().err
