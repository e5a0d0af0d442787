"""A stage that leaves nothing is an error with the commonest reason and what to do; any other is none."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from instdiff import stage
from instdiff.schema import Strict

NOTHING = [
    ({"instances": 108, "kept": 0, "failed": 110, "failed_no_colour": 108, "failed_failed": 2}, "108 are no_colour"),
    ({"instances": 9, "kept": 0, "dropped": 9, "dropped_no_mask": 7, "dropped_small_box": 2}, "7 are no_mask"),
    ({"instances": 0, "pictures": 5, "failed": 5, "failed_nothing_found": 5}, "5 are nothing_found"),
    ({"instances": 0, "samples": 12}, "no instance came in"),
]


@pytest.mark.parametrize(("counts", "says"), NOTHING)
def test_nothing_left_is_an_error_that_names_the_main_reason(counts: Mapping[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stage.refuse_nothing(counts)


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
