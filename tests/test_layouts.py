import json
from pathlib import Path

import pandas as pd
import pytest

from instdiff import layouts, masks
from instdiff.schema import Box, Instance, Layout, Point, Rle

IMAGES = pd.DataFrame(
    [
        {"key": "two", "group": "mixed", "file": "2.png", "width": 4, "height": 2, "caption": "Both.", "sha256": "0"},
        {"key": "none", "group": "mixed", "file": "0.png", "width": 1, "height": 1, "caption": "Bare.", "sha256": "0"},
    ]
)
FULL = {
    "key": "two",
    "index": 1,
    "category": "ring",
    "box": [0.0, 0.5, 1.0, 1.0],
    "score": 1.0,
    "mask": "44",
    "caption": "a red ring",
    "backend": "template",
    "point": [0.25, 0.75],
    "scribble": [0.0, 0.5, 0.25, 0.5],
    "outline": [0.0, 0.0, 0.5, 1.0],
    "colour": "red",
    "texture": None,
}
BARE = {**dict.fromkeys(FULL), "key": "two", "index": 0, "caption": "something"}


def test_tables_become_layouts_and_null_becomes_none() -> None:
    two, none = layouts.from_tables(IMAGES, pd.DataFrame([FULL, BARE], dtype=object))
    assert none == Layout(key="none", prompt="Bare.", instances=())
    assert two.prompt == "Both."
    assert two.instances == (
        Instance(phrase="something"),
        Instance(
            phrase="a red ring",
            category="ring",
            box=Box(0, 0.5, 1, 1),
            point=Point(0.25, 0.75),
            scribble=(Point(0, 0.5), Point(0.25, 0.5)),
            mask=Rle(size=(2, 4), counts="44"),
            outline=(Point(0, 0), Point(0.5, 1)),
        ),
    )
    assert masks.decode(two.instances[1].mask).tolist() == [[False, False, True, True]] * 2


def test_layouts_survive_being_written(tmp_path: Path) -> None:
    written = layouts.from_tables(IMAGES, pd.DataFrame([FULL, BARE], dtype=object))
    layouts.write(tmp_path / "layouts.json", written)
    assert layouts.read(tmp_path / "layouts.json") == written
    assert "null" not in (tmp_path / "layouts.json").read_text()


def test_a_single_layout_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"key": "k", "prompt": "p", "instances": [{"phrase": "a"}]}')
    assert layouts.read(tmp_path / "one.json") == [Layout(key="k", prompt="p", instances=(Instance(phrase="a"),))]


GOOD = {"key": "k", "prompt": "p", "instances": [{"phrase": "a"}]}


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({**GOOD, "prompt": None}, "record 1: prompt: "),
        ({**GOOD, "key": ""}, "record 1: "),
        ({**GOOD, "instances": [{"phrase": "a", "box": [0, 0, 1]}]}, "record 1: instances.0.box.3: "),
        ({**GOOD, "instances": [{"phrase": "a", "box": [0, 0, 1, float("nan")]}]}, "record 1: instances.0.box.3: "),
        ({**GOOD, "instances": [{"phrase": "a", "boxes": [0, 0, 1, 1]}]}, "record 1: instances.0.boxes: "),
        ({**GOOD, "instances": [{"phrase": "a", "scribble": [[0, 0], 1]}]}, "record 1: instances.0.scribble.1: "),
        ({**GOOD, "key": "first"}, "record 1: key 'first' stands in an earlier record"),
        ("text", "record 1: the whole: "),
    ],
)
def test_a_bad_layout_is_one_sentence_with_file_record_and_field(tmp_path: Path, record: object, names: str) -> None:
    path = tmp_path / "layouts.json"
    path.write_text(json.dumps([{**GOOD, "key": "first"}, record]))
    with pytest.raises(ValueError, match=r"layouts\.json") as error:
        layouts.read(path)
    assert names in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json: not a readable JSON file"):
        layouts.read(tmp_path / "broken.json")
