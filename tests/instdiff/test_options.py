"""Laws of the command lines: a wrong option of any command is one sentence and exit code 2."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instdiff import __main__ as command
from instdiff import options
from instdiff.networks import device

EVALUATE = ["evaluate", "--pictures", "p", "--layouts", "l.json"]
COCO = ["coco", "--instances", "i.json", "--out", "o"]
WRONG = [
    ["generate", "l.json", "--ckpt", "w", "--device", "cuda:99"],
    ["generate", "l.json", "--ckpt", "w", "--height", "0"],
    ["page", "--ckpt", "w", "--device", "tpu"],
    ["page", "--ckpt", "w", "--steps", "nan"],
    ["page", "--ckpt", "w", "--port", "70000"],
    ["validate", "l.json", "--max-instances", "0"],
    ["validate", "l.json", "--width", "-4"],
    ["import-weights", "--out", "o", "--base", "b", "--image-size", "0"],
    ["compare", "a", "b", "--count", "-1"],
    ["compare", "a", "b", "--resamples", "0"],
    ["compare", "a", "b", "--seed", "1e3"],
    [*EVALUATE, "--size", "0"],
    [*COCO, "--size", "x"],
    [*COCO, "--subset", "0"],
    [*COCO, "--seed", "-1"],
    [*COCO, "--job", "3/3"],
    ["validate shards", "folder", "--depth"],
    ["grid", "no-such-grid"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_option_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words[0].split() + words[1:])
    sentence = capsys.readouterr().err
    assert (ended.value.code, sentence.count("\n")) == (2, 1)
    assert sentence.startswith(f"instdiff {words[0]}: ")
    assert words[-2] in sentence or words[-1] in sentence or "required" in sentence


@pytest.mark.parametrize(("content", "says"), [("nodes: [", "not a readable YAML"), ("nodes: many", "nodes: ")])
def test_a_wrong_job_is_one_sentence(
    tmp_path: Path, content: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text(content)
    with pytest.raises(SystemExit):
        command.main(["launch", str(tmp_path / "job.yaml")])
    sentence = capsys.readouterr().err
    assert says in sentence
    assert sentence.count("\n") == 1


@given(st.floats() | st.integers())
def test_a_number_is_taken_exactly_where_it_lies_between_its_ends(value: float) -> None:
    text = json.dumps(value)
    for read, right in [
        (options.real(0, 1), 0 <= value <= 1),
        (options.real(0, 1, above=True), 0 < value <= 1),
        (options.whole(1, 1000), isinstance(value, int) and 1 <= value <= 1000),
        (options.whole(-5), isinstance(value, int) and value >= -5),
    ]:
        if right:
            assert read(text) == value
        else:
            with pytest.raises(options.argparse.ArgumentTypeError):
                read(text)


def test_a_device_is_one_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device._COUNTS, "cuda", lambda: 2)
    monkeypatch.setitem(device._COUNTS, "mps", lambda: 0)
    assert [device.resolve(name) for name in ("cpu", "cuda", "cuda:1")] == [
        torch.device("cpu"),
        torch.device("cuda"),
        torch.device("cuda", 1),
    ]
    for name in ("cuda:2", "mps", "meta", "tpu", "", "cuda:x", "cuda:-1"):
        with pytest.raises(ValueError, match="take cpu or cuda:0 or cuda:1") as refused:
            device.resolve(name)
        assert "\n" not in str(refused.value)
    monkeypatch.setitem(device._COUNTS, "cuda", lambda: 1)
    assert device.resolve("cuda") == torch.device("cuda")  # the first, and only one


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--share", "1.5"], "--share: 1.5 does not lie between 0 and 1"),
        (["--share", "x"], "--share: 'x' is no number"),
        (["--share", "inf"], "--share: 'inf' is no finite number"),
        (["--part", "0"], "--part: 0 must lie above 0"),
        (["--count", "-2"], "--count: -2 is less than -1"),
        (["--count", "1.0"], "--count: '1.0' is no whole number"),
        (["--sha", "0.5"], "unrecognized arguments: --sha 0.5"),
    ],
)
def test_a_fault_names_its_option_and_where_all_are_listed(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = options.Parser(prog="some")
    for name, kind in {"share": options.SHARE, "part": options.real(0, above=True), "count": options.whole(-1)}.items():
        parser.add_argument(f"--{name}", type=kind)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"some: {says} (some --help lists the options)\n"


@pytest.mark.parametrize(("port", "is_one"), [("0", False), ("1", True), ("65534", True), ("65535", False)])
def test_a_port_is_one_that_has_a_next(port: str, is_one: bool) -> None:
    if is_one:
        assert options.PORT(port) == int(port)
    else:
        with pytest.raises(options.argparse.ArgumentTypeError):
            options.PORT(port)
