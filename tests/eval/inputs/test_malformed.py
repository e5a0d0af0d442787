"""Five hundred malformed inputs of `instdiff evaluate`: one sentence each, exit code 2, and no result."""

import copy
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import coco_world
import numpy as np
import pytest
import yaml
from PIL import Image

from instdiff import __main__ as command
from instdiff.layouts import masks

ROOT = Path(__file__).parents[3]
Rng = np.random.Generator
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good input of each kind, quick to score."""
    folder = tmp_path_factory.mktemp("good")
    instances, _ = coco_world.write(folder)
    content = json.loads(instances.read_text())
    coco_world.paint(folder / "drawn", content, 100)
    (folder / "found.json").write_text(json.dumps(coco_world.results_of(content, 0)))
    (folder / "layouts.json").write_text(json.dumps(_layouts()))
    (folder / "own").mkdir()
    for layout in _layouts():
        pixels = np.random.default_rng(len(layout["key"])).integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "own" / f"{layout['key']}.png")
    (folder / "own.json").write_text(
        json.dumps(
            {"provenance": {"pictures": None}, "categories": [{"id": 1, "name": "cat"}], "annotations": []},
        )
    )
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["score"] |= {"num_resamples": 5, "num_resamples_parts": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return folder


def _layouts() -> list[dict[str, Any]]:
    mask_HW = np.zeros((12, 16), bool)
    mask_HW[2:8, 3:9] = True
    instance = {
        "phrase": "a cat",
        "category": "cat",
        "box": [0.1, 0.1, 0.5, 0.6],
        "mask": masks.encode(mask_HW).model_dump(),
    }
    return [{"key": "k" * length, "prompt": "cats", "instances": [instance, instance]} for length in (1, 2, 3)]


def _evaluate(sample: Path, out: Path, layouts: str = "instances_val.json") -> None:
    own = layouts == "layouts.json"
    command.main(
        [
            *("evaluate", "--pictures", str(sample / ("own" if own else "drawn")), "--layouts", str(sample / layouts)),
            *("--detections", str(sample / ("own.json" if own else "found.json"))),
            *("--params", str(sample / "params.yaml"), "--out", str(out), "--row", "row"),
        ]
    )


def _set(record: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        record = record[step]
    record[path[-1]] = value


BAD_DETECTION_FIELDS: list[tuple[tuple[str | int, ...], list[Any]]] = [  # field of a detection -> what it must not be
    (("image_id",), [0, -1, 99, 10**30, "nobody", "", None, [1], {}, 1.5, NAN]),
    (("category_id",), [0, -1, 2, 91, None, "person", [], 1.5, INF]),
    (("bbox",), [[], [1, 2, 3], [1, 2, 3, 4, 5], None, "box", [1, 2, -3, 4], [1, 2, 3, -4], {"x": 1}, [1, 2, 3, "w"]]),
    (("bbox", 0), [NAN, INF, -INF, None, "left", [1]]),
    (("bbox", 2), [NAN, INF, -1, None]),
    (("score",), [NAN, INF, -0.1, 1.1, 100, None, "sure", [0.5]]),
    (("segmentation",), [[], "mask", 5, [[1, 1, 5, 1, 5, 5]], {}, {"size": [48, 48]}, {"counts": "0"}]),
    (("segmentation", "size"), [[1, 1], [4800, 6400], [0, 0], [-48, -48], [48], None, "48", [48, 48, 3], [NAN, 48]]),
    (
        ("segmentation", "counts"),
        ["", "0", "00", "~~~", "oooooooooooooo", "é", "PPPPPPPP", None, 7, [3, 77], "\x00", " "],
    ),
]
TRUTH: list[tuple[tuple[str | int, ...], list[Any]]] = [
    (("images", 0, "id"), [None, "one", 1.5, 10**9]),
    (("images", 0, "file_name"), [None, 5, "../drawn.png", "", "other.jpg"]),
    (("images", 0, "width"), [0, -1, None, "wide", 10**7, NAN, 63]),
    (("images", 0, "height"), [0, -5, 10**6, 47, []]),
    (("annotations", 0, "id"), [None, "a", 5003, 1.5]),
    (("annotations", 0, "image_id"), [0, -1, None, "x", NAN]),
    (("annotations", 0, "category_id"), [0, 2, 91, None, "person"]),
    (("annotations", 0, "bbox"), [[], [1, 2, 3], [1, 2, -3, 4], None, [NAN, 0, 1, 1], [0, 0, INF, 1], "box"]),
    (("annotations", 0, "area"), [-1, NAN, INF, "large"]),
    (("annotations", 0, "iscrowd"), [2, -1, "no", []]),
    (("annotations", 0, "segmentation"), ["mask", 5, [[1, 1, 5]], [[1, 1, 5, 1, 5, 5, 7]], [[1, 1, NAN, 1, 5, 5]]]),
    (("annotations", 0, "segmentation"), [[[0, 0, 1e9, 0, 1e9, 1e9]], [["a", 1, 5, 1, 5, 5]], {"size": [48, 64]}, [5]]),
    (("annotations", 0, "segmentation"), [{"size": [9, 9], "counts": "0"}, {"size": [48, 64], "counts": "~"}]),
    (("annotations", 0, "scribble"), [[1], [1, 2, 3], [NAN, 1], "line", 5]),
    (("annotations", 0, "point"), [[1], [1, 2, 3], [NAN, 1], "dot"]),
    (("annotations", -1, "segmentation", "counts"), [[1], [5, -5], [-1, 10**9], [], [10**30], None, "~~"]),
    (("categories", 0, "id"), [None, 18, "x", 5]),
    (("categories", 0, "name"), [None, "dog", 7]),
    (("images",), [None, {}, "all", [], [5]]),
    (("annotations",), [None, {}, [], "all", [[]]]),
    (("categories",), [None, [], {}, "all", [None]]),
]
LAYOUT: list[tuple[tuple[str | int, ...], list[Any]]] = [
    (("key",), ["", None, 5, "kk", "other", []]),
    (("prompt",), [None, 5, []]),
    (("instances",), [None, {}, "all", [5], [None]]),
    (("instances", 0, "phrase"), [None, 5, []]),
    (("instances", 0, "category"), [None, 5, "dog", []]),
    (("instances", 0, "box"), [[], [0, 0, 1], [0, 0, 1, 1, 1], "box", [NAN, 0, 1, 1], [0, 0, INF, 1], [0, 0, "x", 1]]),
    (("instances", 0, "mask"), ["mask", [], {}, {"size": [12, 16]}, {"size": [9, 9], "counts": "0"}]),
    (("instances", 0, "mask", "counts"), ["", "~", "00", None, 5, "oooooooooo"]),
    (("instances", 0, "mask", "size"), [[0, 0], [12], None, [-1, -1], [10**6, 10**6], [16, 12]]),
    (("instances", 0, "scribble"), [[0.5], [[0.5]], [[0.5, NAN]], "line", [[1, 2, 3]]]),
    (("instances", 0, "point"), [[0.5], "dot", [NAN, 0.5], [1, 2, 3]]),
    (("instances", 0, "colour"), ["red"]),
]
TEXTS = [
    "",
    "{",
    "[",
    "null",
    "5",
    '"text"',
    "[[[[",
    "{}",
    '{"images": []}',
    "\x00",
    "[1, 2",
    "[null]",
    "[" * 100_000,
    "é",
]


def _fields(name: str, table: list[tuple[tuple[str | int, ...], list[Any]]]) -> list[tuple[str, tuple[Any, ...], Any]]:
    return [(name, path, value) for path, values in table for value in values]


def _spoilt(sample: Path, name: str, path: tuple[Any, ...], value: Any, place: int) -> str:
    """The file's text with one field of the record at `place` (or of the whole, for COCO's ground truth) replaced."""
    content = json.loads((sample / name).read_text())
    _set(content, path if name == "instances_val.json" else (place % len(content), *path), value)
    return json.dumps(content)


def _cases(sample: Path) -> list[tuple[str, str]]:
    """(file, text), each wrong in one way."""
    fields = (
        _fields("found.json", BAD_DETECTION_FIELDS) * 3
        + _fields("instances_val.json", TRUTH)
        + _fields("layouts.json", LAYOUT)
    )
    cases = [(name, _spoilt(sample, name, path, value, place)) for place, (name, path, value) in enumerate(fields)]
    for name in ("found.json", "instances_val.json", "layouts.json"):
        whole = (sample / name).read_text()
        cases += [(name, text) for text in TEXTS if (name, text) != ("found.json", "[]")]
        cases += [(name, whole[: int(len(whole) * share)]) for share in np.linspace(0.02, 0.98, 15)]
    return cases


def test_a_malformed_file_gets_one_sentence_that_names_it(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(sample, spoilt)
    cases = _cases(sample)
    assert len(cases) >= 440
    wrong = []
    for name, text in cases:
        (spoilt / name).write_text(text, encoding="utf-8")
        layouts = name if name == "layouts.json" else "instances_val.json"
        message = _message_of(partial(_evaluate, spoilt, tmp_path / "out", layouts), capsys)
        if message is None or message.count("\n") != 1 or len(message) > 600 or "instdiff evaluate: " not in message:
            wrong.append((name, text[:80], message))
        shutil.copy(sample / name, spoilt / name)
    assert wrong == []
    assert not (tmp_path / "out" / "row").exists()


PICTURES: list[Callable[[Path, Rng], object]] = [
    lambda path, rng: path.write_bytes(rng.bytes(200)),
    lambda path, rng: path.write_bytes(path.read_bytes()[: int(rng.integers(0, 60))]),
    lambda path, rng: path.unlink(),
    lambda path, rng: path.rename(path.with_name("another.png")),
    lambda path, rng: Image.new("RGB", (int(rng.integers(65, 99)), 48), (1, 2, 3)).save(path),
    lambda path, rng: Image.open(path).save(path.with_suffix(".bmp")),
    lambda path, rng: shutil.copy(path, path.with_name(f"{path.stem} copy.png")),
    lambda path, rng: (path.unlink(), path.mkdir()),
    lambda path, rng: path.write_bytes(path.read_bytes()[:40] + bytes(20) + path.read_bytes()[60:]),
    lambda path, rng: path.write_text("<html>not found</html>"),
]


def test_a_malformed_set_of_pictures_gets_one_sentence_that_names_the_picture(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.name for path in (sample / "drawn").iterdir())
    for number in range(60):
        rng = np.random.default_rng(number)
        spoilt = tmp_path / str(number)
        shutil.copytree(sample, spoilt)
        picture = spoilt / "drawn" / names[int(rng.integers(len(names)))]
        PICTURES[number % len(PICTURES)](picture, rng)
        message = _message_of(partial(_evaluate, spoilt, tmp_path / "out"), capsys)
        assert message is not None, number
        assert message.count("\n") == 1, message
        assert picture.stem in message, (number, message)
        shutil.rmtree(spoilt)


def _message_of(work: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What a refusal says; None when nothing was refused."""
    try:
        work()
    except SystemExit as stop:
        return capsys.readouterr().err if stop.code == 2 else None
    capsys.readouterr()
    return None


def test_the_good_files_are_scored(sample: Path, tmp_path: Path) -> None:
    before = copy.copy(sorted(sample.iterdir()))
    for name in ("instances_val.json", "layouts.json"):
        _evaluate(sample, tmp_path / name, name)
        assert (tmp_path / name / "row" / "metrics.json").is_file()
    assert sorted(sample.iterdir()) == before
